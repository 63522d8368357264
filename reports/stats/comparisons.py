"""Rows of a run against each other: differences from the baseline with tests and intervals, ranks and a ranking."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from reports.paper import BASELINE, COLUMNS, LEARNED
from reports.run_data import Frames, Row, patient_values, rows, vertebra_values
from reports.stats.tests import (
    ALPHA,
    Difference,
    Ranks,
    bootstrap_mean,
    bootstrap_ratio,
    by_seed,
    friedman,
    holm,
    learn2reg_scores,
    paired,
    signed_rank,
)

# Which figures there are of a vertebra and of a patient, and which end of each is the better one.
BEST = {column.key: column.best for column in COLUMNS} | {
    "hd95_mm": "min", "properness": "min", "orthonormality": "min",
}  # fmt: skip
_PER = {column.key: column.per for column in COLUMNS} | {
    "hd95_mm": "vertebra", "properness": "patient", "orthonormality": "patient",
}  # fmt: skip
# Accuracy, robustness, plausibility and speed, as Learn2Reg ranks by, and the paper's rigidity and volume.
RANKED = ("dsc", "hd95_mm", "rigid_dsc", "volume_change_pct", "sd_log_jacobian_l2r", "seconds")


@dataclass(frozen=True)
class Measured:
    """One data set's figures by row, made once for everything that compares them."""

    frames: Frames

    @cached_property
    def rows(self) -> list[Row]:
        """The rows of the table, Initial first."""
        return rows(self.frames)

    @cached_property
    def _vertebra(self) -> pd.DataFrame:
        return vertebra_values(self.frames, by_seed=True)

    @cached_property
    def _patient(self) -> pd.DataFrame:
        return patient_values(self.frames, by_seed=True)

    @cached_property
    def _kept(self) -> dict[tuple[Row, str], pd.DataFrame]:
        return {}

    def by_seed(self, row: Row, key: str) -> pd.DataFrame:
        """A row's figures by (case, vertebra) or by case, a column for each seed that it was trained from."""
        if (row, key) not in self._kept:
            frame, keys = (
                (self._vertebra, ["case", "vertebra"]) if _PER[key] == "vertebra" else (self._patient, ["case"])
            )
            self._kept[row, key] = by_seed(row.of(frame), keys, key)
        return self._kept[row, key]

    def values(self, row: Row, key: str) -> pd.Series:
        """A row's figures without nulls, by (case, vertebra) or by case, averaged over seeds."""
        return self.by_seed(row, key).mean(axis=1)

    def by_patient(self, row: Row, key: str) -> pd.Series:
        """A row's figure of each patient: vertebrae are averaged."""
        return self.values(row, key).groupby(level="case").mean()

    def differences(self, row: Row, other: Row, key: str) -> pd.DataFrame:
        """Row minus other by patient and seed, taken per vertebra where both have one, then averaged."""
        return paired(self.by_seed(row, key), self.by_seed(other, key))

    def mean(self, row: Row, key: str) -> Difference:
        """The figure that Table 1 prints, with its interval over redrawn patients and seeds.

        The figure averages seeds first: a seed that lost a patient does not make the others' count less.
        """
        by_case = self.by_seed(row, key).groupby(level="case")
        drawn = bootstrap_ratio(by_case.sum().to_numpy().T, by_case.count().to_numpy(float).T)
        return drawn._replace(mean=float(self.values(row, key).mean()))

    def row(self, method: str) -> Row | None:
        """The row of a method, on the CPU where it ran on several devices; None where it measured nothing."""
        found = [row for row in self.rows if row.method == method and len(self.values(row, "dsc"))]
        return next((row for row in found if row.device == "cpu"), found[0] if found else None)

    def only_these_weights(self, row: Row) -> bool:
        """Whether the row's figures hang on weights of a single training, which cannot tell a loss from luck."""
        return row.method in LEARNED and len(self.by_seed(row, "dsc").columns) <= 1


def against_baseline(measured: Measured, baseline: str = BASELINE) -> pd.DataFrame:
    """Every row but Initial against the baseline, a line per row and column of Table 1; empty without a baseline.

    Out: row, name, metric, mean, low, high (row minus baseline by patient, 95 % bootstrap interval), patients, p
    (signed-rank, two-sided), p_holm (adjusted within the metric, over the rows), effect (rank-biserial), better (True
    where p_holm < 0.05 and the effect is to the metric's good side, False to the other, null where neither: the test
    is of ranks, and one patient far off may turn the mean).
    """
    base = measured.row(baseline)
    lines = []
    for column in COLUMNS if base is not None else ():
        family: list[dict[str, Any]] = []
        for row in measured.rows[1:]:
            if base is None or row == base:
                continue
            differences = measured.differences(row, base, column.key)
            if len(differences):
                drawn = bootstrap_mean(differences.to_numpy().T)
                test = signed_rank(differences.mean(axis=1).to_numpy())
                family.append({
                    "row": row.label, "name": row.name, "metric": column.key, "mean": drawn.mean, "low": drawn.low,
                    "high": drawn.high, "patients": drawn.patients, "p": test.p, "effect": test.effect,
                })  # fmt: skip
        for line, adjusted in zip(family, holm([line["p"] for line in family]), strict=True):
            good = (line["effect"] > 0) == (column.best == "max")
            lines.append(line | {"p_holm": adjusted, "better": bool(good) if adjusted < ALPHA else None})
    names = ["row", "name", "metric", "mean", "low", "high", "patients", "p", "p_holm", "effect", "better"]
    return pd.DataFrame(lines, columns=names).astype({"better": "boolean"})


def intervals(measured: Measured) -> pd.DataFrame:
    """Each row's mean of each column of Table 1: row, name, metric, mean, low, high (95 %, by patient), patients."""
    lines = []
    for row in measured.rows:
        for column in COLUMNS:
            if len(measured.values(row, column.key)):
                drawn = measured.mean(row, column.key)
                lines.append({
                    "row": row.label, "name": row.name, "metric": column.key, "mean": drawn.mean, "low": drawn.low,
                    "high": drawn.high, "patients": drawn.patients,
                })  # fmt: skip
    return pd.DataFrame(lines, columns=["row", "name", "metric", "mean", "low", "high", "patients"])


def wide(measured: Measured, key: str) -> pd.DataFrame:
    """A figure by patient (lines) and row's label (columns), null where a row has none; Initial is left out."""
    columns = {row.label: measured.by_patient(row, key) for row in measured.rows[1:]}
    return pd.DataFrame(columns, index=sorted(measured.frames.patients), dtype=float)


def ranks(measured: Measured, key: str) -> Ranks | None:
    """Friedman's test over the rows that have a result, on the patients that all of these have."""
    values = wide(measured, key)
    return friedman(values.loc[:, values.notna().any()], BEST[key])


def ranking(measured: Measured) -> pd.DataFrame:
    """The rows in the Learn2Reg manner, best first: row, a score for each metric of RANKED that any row has, score.

    score: the geometric mean of the metrics' scores.
    """
    scores = {}
    for key in RANKED:
        values = wide(measured, key)
        if values.notna().any().any():
            scores[key] = learn2reg_scores(values, BEST[key])
    table = pd.DataFrame(scores, index=[row.label for row in measured.rows[1:]])
    if table.empty or not len(table.columns):
        return pd.DataFrame(columns=["row", "score"])
    table["score"] = np.exp(np.log(table.astype(float)).mean(axis=1))
    order = table["score"].sort_values(ascending=False, kind="stable").index
    return table.loc[order].rename_axis("row").reset_index()
