"""Rows of a run against each other: differences from the baseline, with tests and intervals."""

from __future__ import annotations

from typing import Any

import pandas as pd

from reports.paper import BASELINE
from reports.run_data import DataSet, Row
from reports.stats.failures import with_failures
from reports.stats.intervals import ALPHA, Difference, flip_mean, flip_ratio
from reports.stats.tests import holm, paired, signed_rank


def differences(data: DataSet, row: Row, other: Row, key: str) -> pd.DataFrame:
    """Return row minus other, a line per patient and a column per seed.

    Differences are taken per vertebra where both rows have a value. They are averaged over the vertebrae of a case,
    then over the cases of a patient.
    """
    by_case = paired(data.by_seed(row, key), data.by_seed(other, key))
    return by_case if by_case.empty else data.per_patient(by_case, "mean")


def mean_interval(data: DataSet, row: Row, key: str) -> Difference:
    """Return the mean that Table 1 prints, with its sign-flip interval over patients and seeds.

    The mean averages seeds first, so that a patient that one seed lost keeps its full weight.
    """
    by_case = data.by_seed(row, key).groupby(level="case")
    sums, counts = (data.per_patient(values, "sum") for values in (by_case.sum(), by_case.count().astype(float)))
    drawn = flip_ratio(sums.to_numpy().T, counts.to_numpy().T)
    return drawn._replace(mean=float(data.values(row, key).mean()))


def against_baseline(data: DataSet, baseline: str = BASELINE) -> pd.DataFrame:
    """Return every row but Initial against the baseline, a line per row and column of Table 1.

    Args:
        data: One data set and split of a run.
        baseline: The method whose row is the baseline.

    Returns:
        Empty where the baseline has no result. Columns row, name, metric, mean, low, high (row minus baseline by
        patient, with its 95 % sign-flip interval), patients, p (signed-rank, two-sided), p_holm (adjusted over the rows
        of a metric), effect (rank-biserial) and better: True where p_holm < 0.05 and the effect is towards the better
        end, False where it is towards the other, else null. The sign is that of the effect, since one outlier may
        change the sign of the mean. In p and effect a patient on whom one of both rows failed counts as its worst.
        Times that are not comparable (`DataSet.timed_unlike`) have no line.
    """
    base = data.find_row(baseline)
    lines = []
    for column in data.table_columns if base is not None else ():
        family: list[dict[str, Any]] = []
        for row in data.rows[1:]:
            if base is None or row == base or (column.key == "seconds" and data.timed_unlike([row, base])):
                continue
            by_patient = differences(data, row, base, column.key)
            if len(by_patient):
                drawn = flip_mean(by_patient.to_numpy().T)
                worse = -1 if data.columns[column.key].better == "higher" else 1
                ranked = by_patient.mean(axis=1).to_numpy()[None]
                for failed, other, side in ((row, base, worse), (base, row, -worse)):
                    ranked = with_failures(data, ranked, 0.0, failed, other, side)
                test = signed_rank(ranked[0])
                family.append({
                    "row": row.label, "name": row.name, "metric": column.key, "mean": drawn.mean, "low": drawn.low,
                    "high": drawn.high, "patients": drawn.patients, "p": test.p, "effect": test.effect,
                })  # fmt: skip
        for line, adjusted in zip(family, holm([line["p"] for line in family]), strict=True):
            good = (line["effect"] > 0) == (data.columns[column.key].better == "higher")
            lines.append(line | {"p_holm": adjusted, "better": bool(good) if adjusted < ALPHA else None})
    names = ["row", "name", "metric", "mean", "low", "high", "patients", "p", "p_holm", "effect", "better"]
    return pd.DataFrame(lines, columns=names).astype({"better": "boolean"})


def intervals(data: DataSet) -> pd.DataFrame:
    """Return each row's mean of each column of Table 1: row, name, metric, mean, low, high (95 %), patients."""
    lines = []
    for row in data.rows:
        for column in data.table_columns:
            if len(data.values(row, column.key)):
                drawn = mean_interval(data, row, column.key)
                lines.append({
                    "row": row.label, "name": row.name, "metric": column.key, "mean": drawn.mean, "low": drawn.low,
                    "high": drawn.high, "patients": drawn.patients,
                })  # fmt: skip
    return pd.DataFrame(lines, columns=["row", "name", "metric", "mean", "low", "high", "patients"])
