"""The report's chapters beside Table 1, as texts and frames: claims, statistics and supplement.

A chapter is written as Markdown and shown on the page; its numbers go into CSV files.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from methods.voxelmorph.following import AXES
from reports.figures.critical_difference import critical_difference_data
from reports.figures.runtime import runtime_table, texts
from reports.frames import quantity
from reports.paper import label
from reports.printing import PrintedTable, heading, text_table
from reports.run_data import DataSet
from reports.stats.claims import DSC_MARGIN, SD_MARGIN, TRE_MARGIN
from reports.stats.comparisons import intervals
from reports.stats.gates import LEAST_FOLLOWING
from reports.stats.intervals import ALPHA, LEAST_PATIENTS, powerless
from reports.stats.ranking import LOWEST, RANKED, notes, ranking, ranks
from reports.stats.supplement import lost_vertebrae, rigidity_table, rigidity_text, volume_against_pc
from reports.stats.verdicts import NO_RESULT, claims_table, outside_paper, verdicts
from reports.table1.further_measures import further_columns, measure_tables, measures, measures_by_level


@dataclass(frozen=True)
class Section:
    """A chapter of the report.

    Attributes:
        stem: The name of its Markdown file.
        title: Its heading.
        text: Paragraphs before its tables.
        tables: Its tables as printed.
        numbers: The name of each CSV file with its table.
    """

    stem: str
    title: str
    text: list[str]
    tables: list[PrintedTable]
    numbers: Mapping[str, pd.DataFrame] = field(default_factory=dict)


def claims_section(data: DataSet) -> Section:
    """Return the chapter on the paper's claims; one sentence where the run is not the paper's comparison."""
    if outside := outside_paper(data):
        why = f"The paper's claims are not tested: this run is not the paper's comparison, since {outside}."
        return Section("claims", "Claims of the paper", [why], [])
    judged = verdicts(data)
    table = claims_table(judged)
    impossible = table["note"].str.startswith(NO_RESULT)
    compared = table[~impossible]
    text = []
    if len(compared):
        first = compared["verdict"].str.partition(" for these ")[0].value_counts()
        listed = ", ".join(f"{count} {verdict}" for verdict, count in first.items())
        text.append(f"{quantity(len(compared), 'comparison', 'comparisons')}: {listed}.")
        text += powerless_family([v.ours.patients for v in judged if not pd.isna(v.p)])
        text += _claims_text({v.claim.key for v in judged})
        if any(v.claim.key == "properness" and v.ours.patients for v in judged):
            text += lost_vertebrae(data)
        text.append(_not_the_papers(data))
    networks = [row for row in data.measured_rows if row.method in data.networks]
    known = {*data.following, *data.following_unused}
    for why in sorted({why for name, why in data.following_unused.items() if data.find_row(name) in networks}):
        names = ", ".join(row.label for row in networks if data.following_unused.get(row.method) == why)
        text.append(f"following.csv is not used for {names}: {why}. Measure it again with `make following RUN=FOLDER`.")
    if unmeasured := [row.label for row in networks if row.method not in known]:
        text.append(f"Whether the field follows a shift was not measured for {', '.join(unmeasured)}.")
    if impossible.any():
        absent = table.loc[impossible, "note"].str.split(";").str[0].str.removeprefix(NO_RESULT).str.split(", ")
        names = ", ".join(dict.fromkeys(absent.explode()))
        text.append(f"{impossible.sum()} of {len(table)} comparisons could not be made: no result of {names}.")
    shown = compared.rename(columns={
        "claim": "Claim", "question": "Comparison", "paper": "Paper", "ours": "Ours [95 %]",
        "paper_value": "Paper's value", "verdict": "Verdict", "p": "p (Holm)", "patients": "Patients", "note": "Note",
    })  # fmt: skip
    tables = [text_table("Claims", shown)] if len(compared) else []
    if data.following:
        title = "Following: mm of displacement per mm of shift of the moving scan, on validation phantoms"
        tables.append(text_table(title, _following(data)))
    return Section("claims", "Claims of the paper", text, tables, {"claims": table})


def _not_the_papers(data: DataSet) -> str:
    """A sentence on whom the verdicts are about."""
    if data.dataset.startswith("phantom"):
        return "The scans are synthetic phantoms: the verdicts are about them, and not about patients."
    made = "The MR scans are simulated from CT, and the" if data.dataset.startswith("simulated") else "The"
    return f"{made} patients are not the paper's."


def powerless_family(patients: Sequence[int]) -> list[str]:
    """Return a sentence where no test of a chapter can be significant; none where one can, or without a test.

    Args:
        patients: Of each test.
    """
    return [sentence] if patients and (sentence := powerless(len(patients), max(patients))) else []


def _claims_text(columns: set[str]) -> list[str]:
    """How verdicts on claims about some columns come about."""
    if columns & {"tre_mm", "landmark_tre_mm"}:
        return [*_CLAIMS_TEXT, _OF_ERRORS]
    return [*_CLAIMS_TEXT]


_OF_ERRORS = (
    "A target registration error is at most the baseline's where the interval ends less than"
    f" {TRE_MARGIN * 100:.0f} % above it."
)
_CLAIMS_TEXT = (
    f"Shown: our 95 % interval lies entirely on the claim's side, and p < {ALPHA:g}. Opposite: the same on the other"
    f" side. Not shown: neither. Too few: fewer than {LEAST_PATIENTS} patients. Not testable: the note says why.",
    "The interval holds every difference that a sign-flip test by patient does not reject at 5 %. The p value is of the"
    " same test, after Holm's correction over all tested claims: the chance that any of them is shown by accident is"
    f" about 5 %. A DSC is not worse where the interval ends less than {DSC_MARGIN:g} below the baseline's. SD log|J|"
    f" is at most the baseline's where the interval ends less than {SD_MARGIN * 100:.0f} % above it. DSC and"
    " rigid DSC are those of soft labels, the scale of the paper's table.",
    "A comparison with a network is testable only where the network registers: its DSC is above Initial's and that of"
    f" row rigid, and where the run measured it, its field follows a shift of the moving scan by {LEAST_FOLLOWING:g}"
    " along each axis. A penalty must also beat row smoothed, the baseline's field after a Gaussian, by the interval of"
    " their difference; else smoothing alone may explain the gain. A patient that a control failed on is left out, and"
    " the note says so; a control whose failures leave too few patients counts as not beaten.",
    "Two rows are compared on the patients with a result of both. A patient on whom the favoured row failed counts as"
    " its worst: as far on the other side of the limit as the largest difference. Speed is compared on one machine with"
    " the same threads. Comparisons at equal DSC or volume change are asked of each penalty's curve over its weights.",
    "Paper's value: where the value of the paper's Table 1 lies in our interval. The verdict does not depend on it.",
)


def _following(data: DataSet) -> pd.DataFrame:
    lines = [[label(row), *(f"{slope:.2f}" for slope in slopes)] for row, slopes in data.following.items()]
    return pd.DataFrame(lines, columns=["Row", *(axis.capitalize() for axis in AXES)])


def statistics_section(data: DataSet, tests: pd.DataFrame, baseline: str) -> Section:
    """Return the chapter with differences from the baseline, mean ranks and the Learn2Reg ranking.

    The ranking is left out, with one sentence, for fewer than LEAST_PATIENTS patients or a run that is not the paper's
    comparison.

    Args:
        data: One data set and split of a run.
        tests: The comparisons of `comparisons.against_baseline`.
        baseline: The method that rows are compared with.
    """
    tables = []
    if not tests.empty:
        tables.append(text_table(f"Against {label(baseline)}", _tests_text(data, tests)))
    tables.append(text_table("Mean ranks", _ranks_text(data)))
    text = [
        "The patient is the unit of every test: vertebrae of one patient share its scan and its field. Differences are"
        " taken per vertebra and averaged per patient. Interval: 95 %, every mean difference that a sign-flip test does"
        f" not reject; there is none for fewer than {LEAST_PATIENTS} patients.",
        *_motions(data),
        "p: Wilcoxon's signed-rank test, two-sided, after Holm's correction over the rows of a column, which keeps the"
        f" chance of any false positive among them below 5 %. Significant: p < {ALPHA:g}. Effect: rank-biserial"
        " correlation of matched pairs, from -1 (lower on every patient) to 1 (higher on every patient). In p and"
        " effect a patient on whom one of both rows failed counts as its worst.",
        "Mean ranks: the rows are ranked on each patient, 1 the best; a failed cell ranks last. n: patients with a"
        " value of every row. p of Friedman's test: whether any row differs.",
    ]
    if critical_difference_data(data):
        text.append(
            "critical-difference.png shows Nemenyi's critical difference: mean ranks that are closer are not shown to"
            " differ."
        )
    numbers = {"differences": tests, "intervals": intervals(data)}
    unranked = _unranked(data)
    if unranked:
        text.append(unranked)
    else:
        order = ranking(data)
        tables.append(text_table("Ranking in the Learn2Reg manner", _ranking_text(data, order)))
        numbers["ranking"] = order
        columns = ", ".join(heading(data.columns[key]) for key in RANKED if key in order)
        text += [
            f"Ranking: rows are compared in pairs (one-sided signed-rank test, p < {ALPHA:g}, uncorrected), ordered by"
            f" wins and scored from {LOWEST:g} to 1; the score is the geometric mean over {columns}.",
            *notes(data),
        ]
    if data.find_row(baseline) is None:
        text.append(f"No comparison with the baseline: {label(baseline)} has no result in this run.")
    text += _trained(data)
    return Section("statistics", "Statistics", text, tables, numbers)


def _trained(data: DataSet) -> list[str]:
    """A sentence for each number of trainings that rows have."""
    numbers = {row.label: data.trainings(row) for row in data.measured_rows}
    lines = []
    for number in sorted(set(numbers.values()) - {0}):
        names = ", ".join(name for name, trainings in numbers.items() if trainings == number)
        which = "these weights" if number == 1 else "these trainings"
        many = "weights of one training each" if number == 1 else f"{number} trainings each"
        lines.append(f"{names}: {many}; their results hold for {which} only.")
    return lines


def _motions(data: DataSet) -> list[str]:
    """A sentence where several cases are of one patient."""
    if data.independent_patients == len(data.patients):
        return []
    return [
        f"The {len(data.patients)} cases are of {quantity(data.independent_patients, 'patient', 'patients')}. Cases of"
        " one patient, such as motions of one spine, are averaged and count once."
    ]


def _unranked(data: DataSet) -> str:
    """Why the rows are not ranked; "" where they are."""
    if outside := outside_paper(data):
        return f"No ranking: this run is not the paper's comparison, since {outside}."
    if data.independent_patients < LEAST_PATIENTS:
        known = quantity(data.independent_patients, "patient", "patients")
        return f"No ranking: the run has {known}, and a ranking needs {LEAST_PATIENTS}."
    return ""


def _tests_text(data: DataSet, tests: pd.DataFrame) -> pd.DataFrame:
    words = {True: "better", False: "worse"}
    lines = []
    for test in tests.to_dict("records"):
        better = test["better"]
        lines.append({
            "Column": heading(data.columns[test["metric"]]), "Row": test["row"],
            "Difference [95 %]": _number(test["mean"]) + _interval(test["low"], test["high"]),
            "p (Holm)": _p(test["p_holm"]), "Effect": f"{test['effect']:+.2f}",
            "Significantly": "–" if pd.isna(better) else words[bool(better)], "Patients": test["patients"],
        })  # fmt: skip
    return pd.DataFrame(lines)


def _ranks_text(data: DataSet) -> pd.DataFrame:
    table: dict[str, dict[str, str]] = {}
    for column in data.table_columns:
        found = ranks(data, column.key)
        if found is not None:
            head = f"{heading(data.columns[column.key])} (Friedman {_p(found.p, 'p ')}, n = {found.patients})"
            table[head] = {str(name): f"{rank:.2f}" for name, rank in found.ranks.items()}
    names = [row.label for row in data.rows[1:] if any(row.label in ranks_of for ranks_of in table.values())]
    return pd.DataFrame({"Row": names, **{head: [r.get(n, "–") for n in names] for head, r in table.items()}})


def _ranking_text(data: DataSet, order: pd.DataFrame) -> pd.DataFrame:
    keys = [str(name) for name in order if name not in ("row", "patients")]
    table = {"Row": order["row"]}
    for key in keys:
        head = "Score" if key == "score" else heading(data.columns[key])
        table[head] = order[key].map(lambda score: "–" if pd.isna(score) else f"{score:.2f}")
    return pd.DataFrame(table | {"Patients": order["patients"]})


def supplement_section(data: DataSet, sweep: pd.DataFrame | None) -> Section:
    """Return the chapter with properness and orthonormality, the direct volume loss against pc, and the tuning.

    Args:
        data: One data set and split of a run.
        sweep: The table of a tuning; None where there was none.
    """
    table = rigidity_table(data)
    text = [
        "Properness (eq. 6) and orthonormality (eq. 7) at inference, over the warped soft labels: mean over vertebrae,"
        " then mean(SD) over patients with the 95 % interval. Lower is better.",
        *lost_vertebrae(data),
        "Direct volume loss against pc. " + " ".join(volume_against_pc(data)),
    ]
    tables = [text_table("Properness and orthonormality", rigidity_text(table))]
    if sweep is None:
        text.append("No tuning of similarity and smoothness was found: name a folder of `train --sweep` with --sweep.")
    else:
        text.append(f"Tuning: validation DSC before training {sweep['dsc_before'].iloc[0]:.4f}.")
        tables.append(text_table("Tuning of similarity and smoothness", _sweep_text(sweep)))
    return Section("supplement", "Supplement", text, tables, {"rigidity": table})


def measures_section(data: DataSet) -> Section:
    """Return the chapter with every column that Table 1 does not show, by row and by vertebra level."""
    text = [
        "The columns that Table 1 does not show, as mean(SD), SD with n - 1; ↑ or ↓ points to the better end. Columns"
        " per vertebra are averaged over vertebrae, the others over patients. Missing values are left out;"
        " n= gives the number of values where some are missing.",
        *lost_vertebrae(data),
        *(f"{heading(column)}: {column.description}" for column in further_columns(data) if column.description),
    ]
    numbers = {"measures": measures(data), "measures-by-level": measures_by_level(data)}
    return Section("measures", "Further measures", text, measure_tables(data), numbers)


def _sweep_text(sweep: pd.DataFrame) -> pd.DataFrame:
    return pd.DataFrame({
        "Similarity": sweep["similarity"], "Smoothness": [f"{value:g}" for value in sweep["smoothness"]],
        "Steps": sweep["steps"], "DSC": [f"{value:.4f}" for value in sweep["dsc"]],
        "SD log|J| (plain)": [f"{value:.3f}" for value in sweep["sd_log_jacobian"]],
        "|J|≤0": [f"{value:g}" for value in sweep["folding_voxels"]],
    })  # fmt: skip


def _number(value: float) -> str:
    return f"{value:+.3g}"


def _interval(low: float, high: float) -> str:
    return "" if pd.isna(low) else f" [{_number(low)}, {_number(high)}]"


def _p(p: float, name: str = "") -> str:
    if pd.isna(p):
        return "–"
    equals = "= " if name else ""
    return f"{name}< 0.001" if p < 0.001 else f"{name}{equals}{p:.3f}"


def runtime_section(data: DataSet, environment: str) -> Section:
    """Return the chapter with seconds, memory and growth by method and device.

    Args:
        data: One data set and split of a run.
        environment: The environment of the run, on one line.
    """
    table = runtime_table(data.compared_cases, data.asked)
    heads, lines, notes = texts(table)
    shown = pd.DataFrame(lines, columns=heads)
    return Section("runtime", "Runtime", [*notes, f"Environment: {environment}"], [text_table("Runtime", shown)],
                   {"runtime": table})  # fmt: skip
