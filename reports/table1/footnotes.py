"""The text above and below Table 1: what is missing, what its columns mean, and the gain over Initial."""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd

from reports.frames import contended, quantity
from reports.paper import SOURCE, TABLE1, label
from reports.run_data import LOST, DataSet
from reports.stats.comparisons import differences
from reports.stats.intervals import ALPHA, LEAST_PATIENTS, Difference, flip_mean
from reports.table1.doubts import doubts
from reports.table1.values import mean_sd

# The footnotes of the columns, by `paper.Table1Column.note`, in the order of their numbers.
COLUMN_NOTES = {
    "labels": "Mean over all vertebrae of the test set. DSC and rigid DSC on hard labels: one-hot labels, background"
    " included, are warped linearly and each voxel takes the largest. Rigid DSC: the warped label against the moving"
    " label under its closest rigid transform (eq. 2). %Δvol: absolute volume change in %, from the sum of the soft"
    " warped label; the count of hard voxels changes by about 0.5 % under an exactly rigid motion. A lost vertebra has"
    " DSC and rigid DSC 0.",
    "released": "The scale of the paper's released code, beside which the paper's values stand: soft labels, and a Dice"
    " without squares. On it an exactly rigid motion has a rigid DSC of 0.9 to 0.95, by the number of voxels of the"
    " vertebrae, since a voxel that is neither 0 nor 1 does not match itself; no motion at all has 1. Compare with row"
    " Rigid or the true field, not with 1.",
    "truth": "Target registration error: the mean distance between found and true displacement over each vertebra, or"
    " over the landmarks of a patient. The column is present where truth or landmarks are known.",
    "field": "Mean over patients, on the fixed grid without 2 voxels at each side. |J|≤0: number of folded voxels. SD"
    " log|J|: SD of log(clip(|J|, 1e-9, 1e9)). l2r uses |J| + 3 in place of |J|, as the Learn2Reg evaluation and the"
    " paper's released code do; this makes it several times smaller.",
    "time": "Mean over patients: seconds of one registration, without preparation (imports, weights, warm-up) and"
    " without evaluation. Cells that ran beside other work do not count.",
    "initial": "The two labels of a pair before registration. Rigid DSC: DSC after the SSD-closest rigid fit,"
    " which moves each moving label by the rigid transform of least squared differences from its fixed label."
    " %Δvol: the difference of the two volumes.",
}

# Of each of `values.REFERENCES`.
_REFERENCES = {
    "identity": "Identity: no displacement, measured like the other rows.",
    "rigid-fit": "SSD-closest rigid fit: DSC of each fixed label and its moving label under the rigid transform of"
    " least squared differences, which need not have the highest DSC.",
    "truth": "True field: the displacement that made the pair.",
}


def incomplete(data: DataSet) -> list[str]:
    """Return what is missing from the means: a line for each row, seed and status, with the first patient's error."""
    lines = []
    several = data.cases.groupby(["method", "device"])["seed"].nunique().max() > 1  # with a result or not
    for (method, device, seed), cells in data.cases.groupby(["method", "device", "seed"]):
        if (method, device) in _absent(data):
            continue
        row = f"{method}@{device}" + (f" seed {seed}" if several else "")
        for status in LOST:
            lost = cells[cells["status"] == status].sort_values("case")
            if len(lost):
                lines.append(f"{row}: {_named(lost['case'])} {status}{_reason(lost['error'])}")
        missing = sorted(set(data.patients) - set(cells["case"]))
        if missing:
            lines.append(f"{row}: {_named(pd.Series(missing))} not run")
    return lines


def _absent(data: DataSet) -> dict[tuple[str, str], str]:
    """Method and device -> reason, where a method is unavailable on one device and ran on another."""
    ran = set(data.cases.loc[data.cases["status"] != "unavailable", "method"])
    return {
        (str(method), str(device)): _reason(cells["error"])
        for (method, device), cells in data.cases.groupby(["method", "device"])
        if method in ran and (cells["status"] == "unavailable").all()
    }


def _named(cases: pd.Series) -> str:
    names = list(dict.fromkeys(cases))
    listed = ", ".join(names[:3]) + (", ..." if len(names) > 3 else "")
    return f"{len(names)} patient{'s' if len(names) > 1 else ''} ({listed})"


def _reason(errors: pd.Series) -> str:
    """The first error on one line, shortened: a traceback belongs in the run's logs."""
    for error in errors.dropna():
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        if lines:
            return f": {lines[-1][:160]}"
    return ""


def footnotes(data: DataSet, with_paper: bool, references: Collection[str] = ()) -> list[str]:
    """Return the notes on the whole table: its means, excluded vertebrae, times, the paper's values and weights.

    Args:
        data: One data set and split of a run.
        with_paper: Whether the table has the paper's values.
        references: The reference rows of the table, of `values.REFERENCES`.
    """
    notes = [
        "mean(SD), SD with n - 1. Missing values are left out, not counted as 0; n= gives the number of values where"
        " some are missing. Bold: the best value as printed, among rows with every vertebra and patient, and for"
        " times among those timed on the most patients; Initial is never bold.",
        *_references(references),
        *([] if "identity" in references else _identity_note(data)),
    ]
    if oracles := [f"({row.label})" for row in data.table_rows if row.oracle]:
        notes.append(
            f"{', '.join(oracles)}: saw the fixed labels, which no method does. It is the ceiling of its class; no"
            " ranking, claim or statistic includes it."
        )
    known = data.pairs["vertebra"].notna()
    excluded = known.sum() - len(data.counted_pairs)
    if excluded:
        reasons = data.pairs.loc[known, "excluded_reason"].replace("", None).dropna().value_counts()
        listed = "; ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
        notes.append(f"{excluded} of {known.sum()} vertebrae are excluded from every row ({listed}).")
    absent_patients = data.pairs[~known]
    if len(absent_patients):
        listed = "; ".join(f"{p.case}: {p.excluded_reason}" for p in absent_patients.head(3).itertuples())
        more = f"; and {len(absent_patients) - 3} more, see pairs.parquet" if len(absent_patients) > 3 else ""
        who = quantity(len(absent_patients), "patient is", "patients are")
        notes.append(f"{who} refused ({listed}{more}).")
    if data.independent_patients < len(data.patients):
        notes.append(
            f"The {len(data.patients)} cases are of {quantity(data.independent_patients, 'patient', 'patients')}. Means"
            " are over cases; tests and intervals count a patient once."
        )
    notes += [*medians(data), *doubts(data)]
    if data.seeds > 1:
        notes.append(
            f"Rows were trained with up to {data.seeds} seeds. The value of each vertebra and patient is the mean over"
            " seeds; intervals resample seeds and patients."
        )
    absent = [f"{method}@{device}{reason}" for (method, device), reason in _absent(data).items()]
    if absent:
        notes.append(f"Not available here: {'; '.join(absent)}.")
    if _untimed(data):
        notes.append(f"No time for {', '.join(_untimed(data))}: every cell ran beside other work.")
    if few := _few_timed(data):
        notes.append(
            f"Times from fewer than {LEAST_PATIENTS} patients, which support no claim on speed: {', '.join(few)}."
        )
    if unlike := _other_threads(data) or _other_machines(data):
        notes.append(f"Times are not comparable: {unlike}.")
    if with_paper:
        notes.append(
            f"Paper: {SOURCE}; 25 private test patients, time on a CPU. Its patients are not those of this run"
            f"{_stand_in(data)}: its values are for orientation only. Its SD log|J| is printed beside l2r,"
            " which its released code computes. Its SD of 0.5 for rigid dice is a misprint for 0.05. VoxelMorph is its"
            ' "Our baseline".'
        )
    if any(row.method in TABLE1 and row.method not in ("initial", "staring") for row in data.rows):
        notes.append(
            "Deep rows use the weights that their settings in config.yaml name, or else those that come with rigidbench"
            " (methods/voxelmorph/weights)" + _unknown_data(data)
        )
    return notes


def _unknown_data(data: DataSet) -> str:
    """What the released weights have not seen, as the end of a sentence."""
    if data.dataset.startswith("phantom"):
        return "."
    return ", which were trained on phantoms alone: a network has to be trained on scans like these."


def _stand_in(data: DataSet) -> str:
    """What this run has in place of the paper's CT and MR of patients."""
    if data.dataset.startswith("phantom"):
        return " (synthetic phantoms)"
    if data.dataset.startswith("simulated"):
        return " (simulated from CT)"
    return "" if data.scans.as_in_the_paper else f" ({data.scans.moving} to {data.scans.fixed}, the paper's CT to MR)"


def _references(shown: Collection[str]) -> list[str]:
    texts = [text for name, text in _REFERENCES.items() if name in shown]
    return [f"In brackets: reference rows, which are not methods. {' '.join(texts)}"] if texts else []


def _identity_note(data: DataSet) -> list[str]:
    identity = data.vertebrae[data.vertebrae["method"] == "initial"]
    if identity.empty:
        return []
    rigid, volume = (
        mean_sd(key, identity[key].astype(float).mean(), identity[key].astype(float).std())
        for key in ("rigid_dsc", "volume_change_pct")
    )
    return [f"The identity field, measured like the other rows: rigid DSC {rigid}, %Δvol {volume}."]


def comparisons(data: DataSet) -> list[str]:
    """Return a line per row: its DSC minus Initial's, paired by patient, with a 95 % sign-flip interval."""
    initial, *rows = data.rows
    return [f"{row.label}: {_signed(flip_mean(differences(data, row, initial, 'dsc').to_numpy().T))}" for row in rows]


def _signed(difference: Difference) -> str:
    if difference.patients == 0:
        return "no patient in common"
    patients = quantity(difference.patients, "patient", "patients")
    if difference.patients < LEAST_PATIENTS:
        return f"{difference.mean:+.3f} ({patients}, no interval from fewer than {LEAST_PATIENTS})"
    return f"{difference.mean:+.3f} [{difference.low:+.3f}, {difference.high:+.3f}] ({patients})"


def marks_note(data: DataSet, tests: pd.DataFrame, baseline: str) -> list[str]:
    """Return what ⁺ and ⁻ mean, or why nothing is marked; no note for a table of a single row.

    Args:
        data: One data set and split of a run.
        tests: The comparisons of `comparisons.against_baseline`.
        baseline: The method against whose row significance is marked.
    """
    if len(data.rows) < 3:
        return []
    if data.find_row(baseline) is None:
        return [f"Significance is not marked: the baseline, {label(baseline)}, has no result here."]
    if tests.empty:
        return []
    learned = any(data.trainings(row) for row in data.measured_rows)
    family = int(tests.groupby("metric").size().max())
    most = int(tests["patients"].max())
    fewest, patients = int(tests["patients"].min()), quantity(most, "patient", "patients")
    who = patients if fewest == most else f"{fewest} to {patients}"
    # The smallest p of a two-sided signed-rank test is 2 of 2^N orders of signs.
    too_few = family * 2.0 ** (1 - most) >= ALPHA
    few = f" With {patients} no p can be that small." if too_few else ""
    weights = " Networks: the marks hold for the trainings of this run only." if learned else ""
    return [
        f"⁺ better, ⁻ worse than {label(baseline)}: Wilcoxon's signed-rank test on the means of {who}, p < {ALPHA:g}"
        f" after Holm's correction over the rows of each column.{few}{weights}"
    ]


def _untimed(data: DataSet) -> list[str]:
    """Labels of the rows all of whose cells ran beside other work."""
    timed = data.patient_values
    measured = [(row.label, row.of(timed)["seconds"]) for row in data.rows[1:]]
    return [name for name, seconds in measured if len(seconds) and seconds.isna().all()]


def _few_timed(data: DataSet) -> list[str]:
    """Labels of rows timed on fewer than LEAST_PATIENTS patients, with the number."""
    timed = {row.label: len(data.by_patient(row, "seconds")) for row in data.rows[1:]}
    return [f"{name} ({count})" for name, count in timed.items() if 0 < count < LEAST_PATIENTS]


def medians(data: DataSet) -> list[str]:
    """Return a sentence with each row's median of SD log|J|, whose mean a single fold can rule; none for few values."""
    values = {row.label: data.values(row, "sd_log_jacobian") for row in data.rows[1:]}
    listed = [f"{name} {known.median():.2f}" for name, known in values.items() if len(known) > 2]
    return [f"SD log|J|, median over patients, which single folds do not rule: {', '.join(listed)}."] if listed else []


def _other_machines(data: DataSet) -> str:
    """The machines on which cells of one device were timed; "" where it was one."""
    timed = data.ok_cells[~contended(data.ok_cells) & data.ok_cells["seconds"].notna()]
    for device in sorted(set(timed["device"])):
        rows = [row for row in data.rows[1:] if row.device == device]
        if rows and data.timed_unlike(rows):
            machines = timed.loc[timed["device"] == device, "machine"].fillna("a machine that was not recorded")
            return f"cells ran on {', '.join(sorted(set(machines)))}"
    return ""


def _other_threads(data: DataSet) -> str:
    """The threads that each row had in cells whose time counts; "" where all rows had the same number."""
    timed = data.ok_cells[~contended(data.ok_cells)]
    given: dict[str, list[str]] = {}
    for row in data.rows[1:]:
        threads = sorted(set(row.of(timed)["threads"].dropna().astype(int)))
        if threads:
            many = quantity(threads[0], "thread", "threads")
            many = many if len(threads) == 1 else f"{threads[0]} to {threads[-1]} threads"
            given.setdefault(many, []).append(row.label)
    if len(given) < 2:
        return ""
    most = max(given.values(), key=len)
    ordered = sorted(given.items(), key=lambda item: len(item[1]))
    return ", ".join(f"{'the other rows' if names is most else ', '.join(names)} had {many}" for many, names in ordered)
