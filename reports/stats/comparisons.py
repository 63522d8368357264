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
    """Return row minus other by patient and seed: taken per vertebra where both have a value, then averaged."""
    return paired(data.by_seed(row, key), data.by_seed(other, key))


def mean_interval(data: DataSet, row: Row, key: str) -> Difference:
    """Return the mean that Table 1 prints, with its bootstrap interval over patients and seeds.

    The mean averages seeds first, so that a patient that one seed lost keeps its full weight.
    """
    by_case = data.by_seed(row, key).groupby(level="case")
    drawn = bootstrap_ratio(by_case.sum().to_numpy().T, by_case.count().to_numpy(float).T)
    return drawn._replace(mean=float(data.values(row, key).mean()))


def against_baseline(data: DataSet, baseline: str = BASELINE) -> pd.DataFrame:
    """Return every row but Initial against the baseline, a line per row and column of Table 1.

    Args:
        data: One data set and split of a run.
        baseline: The method whose row is the baseline.

    Returns:
        Empty where the baseline has no result. Columns row, name, metric, mean, low, high (row minus baseline by
        patient, with its 95 % bootstrap interval), patients, p (signed-rank, two-sided), p_holm (adjusted over the rows
        of a metric), effect (rank-biserial) and better: True where p_holm < 0.05 and the effect is towards the better
        end, False where it is towards the other, else null. The sign is that of the effect, since one
        outlier may change the sign of the mean.
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
    """Return each row's mean of each column of Table 1: row, name, metric, mean, low, high (95 %), patients."""
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
    """Return a column's values by patient (lines) and row's label (columns), null for none; Initial is left out."""
    columns = {row.label: data.by_patient(row, key) for row in data.rows[1:]}
    return pd.DataFrame(columns, index=sorted(data.patients), dtype=float)


def ranks(data: DataSet, key: str) -> Ranks | None:
    """Return Friedman's test over the rows with a result, on the patients with a result of all of them."""
    values = wide(data, key)
    return friedman(values.loc[:, values.notna().any()], data.columns[key].better)


def ranking(data: DataSet) -> pd.DataFrame:
    """Return the rows ranked in the Learn2Reg manner, best first.

    Returns:
        Columns row, the score of each metric of RANKED of which any row has a value, and score, their geometric mean.
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
