"""The report's chapters beside Table 1, as texts and frames: claims, statistics and supplement.

A chapter is written as Markdown and shown on the page; its numbers go into CSV files.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pandas as pd

from reports.figures.runtime import runtime_table, texts
from reports.paper import COLUMNS, label
from reports.printing import PrintedTable, heading, text_table
from reports.run_data import DataSet
from reports.stats.claims import NO_RESULT
from reports.stats.comparisons import RANKED, intervals, ranking, ranks
from reports.stats.supplement import rigidity_table, rigidity_text, volume_against_pc
from reports.stats.tests import ALPHA
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


def claims_section(table: pd.DataFrame) -> Section:
    """Return the chapter on the paper's claims. table: of `claims.claims_table`."""
    impossible = table["note"].str.startswith(NO_RESULT)
    compared = table[~impossible]
    counts = [sum(compared["verdict"].str.startswith(verdict)) for verdict in ("shown", "not shown", "opposite")]
    text = []
    if len(compared):
        text += [
            f"Of {len(compared)} comparisons {counts[0]} are shown, {counts[1]} not shown, {counts[2]} opposite.",
            "Shown: our 95 % interval (bootstrap by patient) lies entirely on the claim's side. Opposite: it lies"
            " entirely on the other side. Not shown: it does neither. The value of the paper's Table 1 may lie inside,"
            " below or above our interval; the verdict does not depend on it. The patients are not the paper's.",
        ]
    if impossible.any():
        absent = table.loc[impossible, "note"].str.split(";").str[0].str.removeprefix(NO_RESULT).str.split(", ")
        names = ", ".join(dict.fromkeys(absent.explode()))
        text.append(f"{impossible.sum()} of {len(table)} comparisons could not be made: no result of {names}.")
    shown = compared.rename(columns={
        "claim": "Claim", "question": "Comparison", "paper": "Paper", "ours": "Ours [95 %]",
        "paper_value": "Paper's value", "verdict": "Verdict", "patients": "Patients", "note": "Note",
    })  # fmt: skip
    return Section(
        "claims", "Claims of the paper", text, [text_table("Claims", shown)] if len(compared) else [], {"claims": table}
    )


def statistics_section(data: DataSet, tests: pd.DataFrame, baseline: str) -> Section:
    """Return the chapter with differences from the baseline, mean ranks and the Learn2Reg ranking.

    Args:
        data: One data set and split of a run.
        tests: The comparisons of `comparisons.against_baseline`.
        baseline: The method that rows are compared with.
    """
    order = ranking(data)
    tables = []
    if not tests.empty:
        tables.append(text_table(f"Against {label(baseline)}", _tests_text(data, tests)))
    tables.append(text_table("Mean ranks", _ranks_text(data)))
    if not order.empty:
        tables.append(text_table("Ranking in the Learn2Reg manner", _ranking_text(data, order)))
    text = [
        "The patient is the unit of every test: vertebrae of one patient share its scan and its field. Differences are"
        " taken per vertebra and averaged per patient. Intervals: 95 %, percentile bootstrap over patients.",
        f"p: Wilcoxon's signed-rank test, two-sided, after Holm's correction over the rows of a column; significant"
        f" below {ALPHA:g}. Effect: matched-pairs rank-biserial correlation, from -1 to 1.",
        "Mean ranks: Friedman's test on the patients with a result of every row; rank 1 is the best."
        " critical-difference.png shows Nemenyi's critical difference. Ranking: rows are compared in pairs (one-sided"
        " signed-rank test, p < 0.05), ordered by wins and scored from 0.1 to 1; the score is the geometric mean over "
        + ", ".join(heading(data.columns[key]) for key in RANKED) + ".",
    ]  # fmt: skip
    if data.find_row(baseline) is None:
        text.append(f"No comparison with the baseline: {label(baseline)} has no result in this run.")
    learned = [row.label for row in data.measured_rows if data.from_one_training(row)]
    if learned:
        text.append(f"{', '.join(learned)}: weights of one training each; their results hold for these weights only.")
    numbers = {"differences": tests, "intervals": intervals(data), "ranking": order}
    return Section("statistics", "Statistics", text, tables, numbers)


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
    for column in COLUMNS:
        found = ranks(data, column.key)
        if found is not None:
            head = f"{heading(data.columns[column.key])} (Friedman {_p(found.p, 'p ')})"
            table[head] = {str(name): f"{rank:.2f}" for name, rank in found.ranks.items()}
    names = [row.label for row in data.rows[1:] if any(row.label in ranks_of for ranks_of in table.values())]
    return pd.DataFrame({"Row": names, **{head: [r.get(n, "–") for n in names] for head, r in table.items()}})


def _ranking_text(data: DataSet, order: pd.DataFrame) -> pd.DataFrame:
    scores = order.drop(columns="row").map(lambda score: f"{score:.2f}")
    heads = {key: heading(data.columns[key]) for key in map(str, scores) if key != "score"} | {"score": "Score"}
    return pd.concat([order["row"].rename("Row"), scores.rename(columns=heads)], axis=1)


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


def runtime_section(cases: pd.DataFrame, environment: str) -> Section:
    """Return the chapter with seconds, memory and growth by method and device.

    Args:
        cases: Lines of cases.parquet.
        environment: The environment of the run, on one line.
    """
    table = runtime_table(cases)
    heads, lines, notes = texts(table)
    shown = pd.DataFrame(lines, columns=heads)
    return Section("runtime", "Runtime", [*notes, f"Environment: {environment}"], [text_table("Runtime", shown)],
                   {"runtime": table})  # fmt: skip
