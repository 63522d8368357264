"""Rows of a run against each other: differences from the baseline with tests and intervals, ranks and a ranking."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from reports.paper import BASELINE, COLUMNS
from reports.run_data import DataSet, Row
from reports.stats.tests import (
    ALPHA,
    Difference,
    Ranks,
    bootstrap_mean,
    bootstrap_ratio,
    friedman,
    holm,
    learn2reg_scores,
    paired,
    signed_rank,
)

# Accuracy, robustness, plausibility and speed, as Learn2Reg ranks by, and the paper's rigidity and volume.
RANKED = ("dsc", "hd95_mm", "rigid_dsc", "volume_change_pct", "sd_log_jacobian_l2r", "seconds")


def differences(data: DataSet, row: Row, other: Row, key: str) -> pd.DataFrame:
    """Row minus other by patient and seed, taken per vertebra where both have one, then averaged."""
    return paired(data.by_seed(row, key), data.by_seed(other, key))


def mean_interval(data: DataSet, row: Row, key: str) -> Difference:
    """The mean that Table 1 prints, with its interval over redrawn patients and seeds.

    The mean averages seeds first: a seed that lost a patient does not make the others' count less.
    """
    by_case = data.by_seed(row, key).groupby(level="case")
    drawn = bootstrap_ratio(by_case.sum().to_numpy().T, by_case.count().to_numpy(float).T)
    return drawn._replace(mean=float(data.values(row, key).mean()))


def against_baseline(data: DataSet, baseline: str = BASELINE) -> pd.DataFrame:
    """Every row but Initial against the baseline, a line per row and column of Table 1; empty without a baseline.

    Out: row, name, metric, mean, low, high (row minus baseline by patient, 95 % bootstrap interval), patients, p
    (signed-rank, two-sided), p_holm (adjusted within the metric, over the rows), effect (rank-biserial), better (True
    where p_holm < 0.05 and the effect is to the metric's good side, False to the other, null where neither: the test
    is of ranks, and one patient far off may turn the mean).
    """
    base = data.find_row(baseline)
    lines = []
    for column in COLUMNS if base is not None else ():
        family: list[dict[str, Any]] = []
        for row in data.rows[1:]:
            if base is None or row == base:
                continue
            by_patient = differences(data, row, base, column.key)
            if len(by_patient):
                drawn = bootstrap_mean(by_patient.to_numpy().T)
                test = signed_rank(by_patient.mean(axis=1).to_numpy())
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
    """Each row's mean of each column of Table 1: row, name, metric, mean, low, high (95 %, by patient), patients."""
    lines = []
    for row in data.rows:
        for column in COLUMNS:
            if len(data.values(row, column.key)):
                drawn = mean_interval(data, row, column.key)
                lines.append({
                    "row": row.label, "name": row.name, "metric": column.key, "mean": drawn.mean, "low": drawn.low,
                    "high": drawn.high, "patients": drawn.patients,
                })  # fmt: skip
    return pd.DataFrame(lines, columns=["row", "name", "metric", "mean", "low", "high", "patients"])


def wide(data: DataSet, key: str) -> pd.DataFrame:
    """A figure by patient (lines) and row's label (columns), null where a row has none; Initial is left out."""
    columns = {row.label: data.by_patient(row, key) for row in data.rows[1:]}
    return pd.DataFrame(columns, index=sorted(data.patients), dtype=float)


def ranks(data: DataSet, key: str) -> Ranks | None:
    """Friedman's test over the rows that have a result, on the patients that all of these have."""
    values = wide(data, key)
    return friedman(values.loc[:, values.notna().any()], data.columns[key].better)


def ranking(data: DataSet) -> pd.DataFrame:
    """The rows in the Learn2Reg manner, best first: row, a score for each metric of RANKED that any row has, score.

    score: the geometric mean of the metrics' scores.
    """
    scores = {}
    for key in RANKED:
        values = wide(data, key)
        if values.notna().any().any():
            scores[key] = learn2reg_scores(values, data.columns[key].better)
    table = pd.DataFrame(scores, index=[row.label for row in data.rows[1:]])
    if table.empty or not len(table.columns):
        return pd.DataFrame(columns=["row", "score"])
    table["score"] = np.exp(np.log(table.astype(float)).mean(axis=1))
    order = table["score"].sort_values(ascending=False, kind="stable").index
    return table.loc[order].rename_axis("row").reset_index()
