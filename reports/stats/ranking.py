"""Ranks of the rows over patients: Friedman's test, and a ranking in the Learn2Reg manner.

A cell that failed ranks last on its patient. A value that was never measured is missing and enters no comparison.

Reference: Hering et al., IEEE Trans. Med. Imaging 42:697, 2023 (Learn2Reg).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from benchmark.results.columns import Better
from reports.frames import quantity, vanished
from reports.run_data import DataSet, Row
from reports.stats.intervals import ALPHA, LEAST_PATIENTS
from reports.stats.tests import Ranks, friedman

# Accuracy, robustness, plausibility and speed, as Learn2Reg ranks by, and the paper's rigidity and volume. A column
# without any value does not count.
RANKED = (
    "dsc",
    "tre_mm",
    "landmark_tre_mm",
    "hd95_mm",
    "rigid_dsc",
    "volume_change_pct",
    "sd_log_jacobian_l2r",
    "seconds",
)
LOWEST = 0.1  # score


def ranked_values(data: DataSet, key: str) -> pd.DataFrame:
    """Return the values of a column that ranks compare, a line per patient, a column per row (its label).

    Initial is left out. A cell that failed, and a vertebra that vanished where the column has no value for it, count as
    worse than every value. Seconds of networks of one architecture are those of one network: their mean. What was not
    measured is null.
    """
    rows = data.rows[1:]
    by_case = pd.DataFrame({r.label: data.by_case(r, key) for r in rows}, index=data.patients, dtype=float)
    lost = pd.DataFrame({r.label: _lost(data, r, key, by_case[r.label]) for r in rows}, index=data.patients, dtype=bool)
    if key == "seconds":
        networks = [row.label for row in rows if row.method in data.networks]
        mean = by_case.filter(items=networks).mean(axis=1)
        for name in networks:
            by_case[name] = mean.where(by_case[name].notna())
    known = by_case.to_numpy()[~np.isnan(by_case.to_numpy())]
    low, high = (known.min(), known.max()) if known.size else (0.0, 0.0)
    # Further from every value than any two values are apart, so that tests of signed ranks rank it last.
    far = 10 * (high - low + 1)
    worst = low - far if data.columns[key].better == "higher" else high + far
    return data.per_patient(by_case.mask(lost, worst), "mean")


def _lost(data: DataSet, row: Row, key: str, by_case: pd.Series) -> pd.Series:
    """By case: whether a cell of the row failed and no seed has a value, or a vertebra vanished that has no value."""
    failed = set(row.of(data.lost_cells[data.lost_cells["status"] != "unavailable"])["case"])
    lost = by_case.isna() & by_case.index.isin(failed)
    if data.columns[key].per == "vertebra":
        lines = row.of(data.counted_vertebrae)
        lost |= by_case.index.isin(lines.loc[vanished(lines) & lines[key].isna(), "case"])
    return lost


def ranks(data: DataSet, key: str) -> Ranks | None:
    """Return Friedman's test over the rows with a result, on the patients with a value of all of them.

    None for seconds that are not comparable (`DataSet.timed_unlike`). A row with values of fewer than LEAST_PATIENTS
    patients is left out, where there are more: it would leave no more to the others.
    """
    if key == "seconds" and data.timed_unlike(data.rows[1:]):
        return None
    values = ranked_values(data, key)
    known = values.notna().sum()
    return friedman(values.loc[:, known >= min(LEAST_PATIENTS, known.max())], data.columns[key].better)


def uncounted_time(data: DataSet) -> str:
    """Return why time does not count in the ranking, in one clause; "" where it does.

    It counts where every row was timed on the same patients, at least LEAST_PATIENTS, on one machine with the same
    threads, while no other work ran.
    """
    if unlike := data.timed_unlike(data.rows[1:]):
        return unlike
    values = ranked_values(data, "seconds").dropna(how="all")
    if len(values) < LEAST_PATIENTS:
        return f"{quantity(len(values), 'patient was', 'patients were')} timed, and {LEAST_PATIENTS} are needed"
    ran = [row.label for row in data.rows[1:] if (row.of(data.cases)["status"] != "unavailable").any()]
    lacking = ", ".join(name for name in ran if values[name].isna().any())
    return f"{lacking}: no time of a patient on whom another row was timed" if lacking else ""


def idle(data: DataSet) -> list[str]:
    """Return the labels of rows whose DSC is not above Initial's (one-sided signed-rank test, p < ALPHA).

    A field that does nothing is perfectly rigid, smooth and fast. Such a row gains nothing from that. Cells that failed
    do not count here, since they rank last.
    """
    initial = data.by_patient(data.rows[0], "dsc")
    rows = [row for row in data.rows[1:] if row in data.measured_rows]
    gains = {row.label: (data.by_patient(row, "dsc") - initial).dropna() for row in rows}
    return [name for name, gain in gains.items() if not _wins(gain)]


def ranking(data: DataSet) -> pd.DataFrame:
    """Return the rows ranked in the Learn2Reg manner, best first.

    Returns:
        Columns row, the score of each metric of RANKED that counts, score (their geometric mean; rows without a score
        of some metric have the mean of the others) and patients (those of the row that are compared). Rows of `idle`
        have the lowest score, and rows with values of fewer than LEAST_PATIENTS patients none: they could win nothing.
        `seconds` counts only where `uncounted_time` is "".
    """
    lowest = set(idle(data))
    scores = {}
    for key in (key for key in RANKED if key in data.columns):
        values = ranked_values(data, key)
        if values.notna().any().any() and not (key == "seconds" and uncounted_time(data)):
            known = [name for name in values if values[name].notna().sum() >= LEAST_PATIENTS]
            found = learn2reg_scores(values[[n for n in known if n not in lowest]], data.columns[key].better)
            ranked_lowest = values.columns.isin(lowest & set(known))
            scores[key] = found.reindex(values.columns).mask(ranked_lowest, LOWEST)
    if not scores:
        return pd.DataFrame(columns=["row", "score", "patients"])
    table = pd.DataFrame(scores)
    table["score"] = np.exp(np.log(table).mean(axis=1))
    table["patients"] = ranked_values(data, "dsc").notna().sum()
    order = table["score"].sort_values(ascending=False, kind="stable").index
    return table.loc[order].rename_axis("row").reset_index()


def learn2reg_scores(values: pd.DataFrame, better: Better | None, alpha: float = ALPHA) -> pd.Series:
    """Return the score of each row in one metric, LOWEST to 1, in the Learn2Reg manner.

    Rows are compared two by two with one-sided signed-rank tests on the patients both have (p < alpha, uncorrected),
    ordered by how many they win against, and their places are spread evenly over LOWEST to 1; equal rows share the mean
    of their places.

    Args:
        values: A line per patient, a column per row.
        better: Which end is better.
        alpha: Level of each test.

    Returns:
        By row; null for a row without any value.
    """
    towards = values if better == "higher" else -values
    names = [str(name) for name in values]
    measured = values.notna().any()
    won = [float(sum(_wins(towards[name] - towards[other], alpha) for other in names)) for name in names]
    wins = pd.Series(won, index=names, dtype=float)
    places = wins[measured].rank()
    spread = LOWEST + (1 - LOWEST) * (places - 1) / (len(places) - 1) if len(places) > 1 else places * 0 + 1.0
    return spread.reindex(names)


def _wins(difference: pd.Series, alpha: float = ALPHA) -> bool:
    """Whether differences lie above 0: one-sided signed-rank test."""
    from scipy import stats

    moved = difference[difference.abs() > 1e-12]
    return bool(len(moved) and stats.wilcoxon(moved, alternative="greater").pvalue < alpha)


def notes(data: DataSet) -> list[str]:
    """Return sentences on what the ranking leaves out, and how many patients it compares."""
    found = [f"The ranking compares {quantity(data.independent_patients, 'patient', 'patients')}."]
    values = ranked_values(data, "dsc")
    few = [f"{name} ({known})" for name in values if 0 < (known := values[name].notna().sum()) < LEAST_PATIENTS]
    if few:
        found.append(f"Not ranked, since fewer than {LEAST_PATIENTS} patients were run: {', '.join(few)}.")
    if nothing := [name for name in idle(data) if values[name].notna().sum() >= LEAST_PATIENTS]:
        found.append(
            f"{', '.join(nothing)}: DSC is not shown to be above Initial's, so that every score is the lowest,"
            f" {LOWEST:g}. A field that does nothing is rigid, smooth and fast, and gains no rank by that."
        )
    if why := uncounted_time(data):
        found.append(f"Time does not count in the ranking: {why}.")
    return found
