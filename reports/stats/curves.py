"""Penalties at several weights: each as a curve, and which of them is best at equal DSC.

A row NAME-xFACTOR has FACTOR times the penalty weight of row NAME. A larger weight makes every penalty more rigid and
costs DSC in the end, so that rows with one weight each say more of the weights than of the penalties. Here the weight
of each penalty is taken where its mean DSC is the same, by linear interpolation between neighbouring weights.
"""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.paper import label, ordered
from reports.run_data import DataSet, Row
from reports.stats.intervals import ALPHA, LEAST_PATIENTS, flip_mean, mean_p
from reports.stats.tests import holm

# Accuracy, then what the penalties are for.
ACCURACY, GAINS = ("dsc", "tre_mm", "landmark_tre_mm"), ("rigid_dsc", "volume_change_pct")
LEAST_WEIGHTS = 3
_NAME = re.compile(r"(?P<name>.+)-x(?P<factor>\d+(\.\d+)?)")


class Curve(NamedTuple):
    """A penalty at several weights: its rows by factor, ascending."""

    name: str
    rows: dict[float, Row]


def curves(data: DataSet) -> list[Curve]:
    """Return the penalties that the data set has at LEAST_WEIGHTS weights or more, in the order of Table 1."""
    found: dict[str, dict[float, Row]] = {}
    for row in data.measured_rows:
        if match := _NAME.fullmatch(row.method):
            found.setdefault(match["name"], {})[float(match["factor"])] = row
    kept = {name: dict(sorted(rows.items())) for name, rows in found.items() if len(rows) >= LEAST_WEIGHTS}
    return [Curve(name, kept[name]) for name in ordered(kept)]


def curve_table(data: DataSet) -> pd.DataFrame:
    """Return the means of each curve's rows: name, penalty (its label), factor, and a column for each known measure."""
    keys = _known(data)
    lines = [
        {"name": curve.name, "penalty": label(curve.name), "factor": factor}
        | {key: float(data.values(row, key).mean()) for key in keys}
        for curve in curves(data)
        for factor, row in curve.rows.items()
    ]
    return pd.DataFrame(lines, columns=["name", "penalty", "factor", *keys])


def _known(data: DataSet) -> list[str]:
    shown = {column.key for column in data.table_columns}
    return [key for key in (*ACCURACY, *GAINS) if key in shown]


def common_dsc(data: DataSet, compared: list[Curve]) -> float:
    """Return the DSC at which curves are compared: the largest that each of them reaches."""
    return min(max(float(data.values(row, "dsc").mean()) for row in curve.rows.values()) for curve in compared)


def at_dsc(data: DataSet, curve: Curve, dsc: float, key: str) -> tuple[pd.Series, float] | None:
    """Return a curve's values by patient at the strongest weight whose mean DSC is `dsc`, and that weight's factor.

    Args:
        data: One data set and split of a run.
        curve: The penalty.
        dsc: The mean DSC.
        key: The column of the values.

    Returns:
        None where no weight reaches the DSC. Between two weights, values and the factor's logarithm are interpolated.
        The strongest weight itself where its DSC is above.
    """
    factors, rows = list(curve.rows), list(curve.rows.values())
    means = [float(data.values(row, "dsc").mean()) for row in rows]
    reached = [k for k, mean in enumerate(means) if mean >= dsc - 1e-12]
    if not reached:
        return None
    k = reached[-1]
    below = data.by_patient(rows[k], key)
    if k == len(rows) - 1:
        return below, factors[k]
    share = (means[k] - dsc) / (means[k] - means[k + 1])
    above = data.by_patient(rows[k + 1], key)
    factor = float(np.exp((1 - share) * np.log(factors[k]) + share * np.log(factors[k + 1])))
    return ((1 - share) * below + share * above).dropna(), factor


def comparisons_at_equal_dsc(data: DataSet) -> pd.DataFrame:
    """Compare every two penalties at equal DSC, by each of GAINS.

    Returns:
        Columns first, second (names), metric, dsc (of both), first_factor, second_factor, mean, low, high (first minus
        second by patient, 95 %), patients, p_holm (over all lines) and better (the name of the better one, "neither",
        or "too few").
    """
    lines = []
    for first, second in combinations(curves(data), 2):
        dsc = common_dsc(data, [first, second])
        for key in GAINS:
            line = _compared(data, first, second, dsc, key)
            if line is not None:
                lines.append(line)
    adjusted = holm([line["p"] for line in lines])
    for line, p in zip(lines, adjusted, strict=True):
        line["p_holm"] = p
        line["better"] = _better(data, line)
    names = ["first", "second", "metric", "dsc", "first_factor", "second_factor", "mean", "low", "high", "patients",
             "p_holm", "better"]  # fmt: skip
    return pd.DataFrame(lines, columns=names)


def _compared(data: DataSet, first: Curve, second: Curve, dsc: float, key: str) -> dict[str, Any] | None:
    ours, theirs = at_dsc(data, first, dsc, key), at_dsc(data, second, dsc, key)
    if ours is None or theirs is None:
        return None
    difference = (ours[0] - theirs[0]).dropna().to_numpy()
    drawn = flip_mean(difference)
    enough = drawn.patients >= LEAST_PATIENTS
    return {"first": first.name, "second": second.name, "metric": key, "dsc": dsc, "first_factor": ours[1],
            "second_factor": theirs[1], "mean": drawn.mean, "low": drawn.low, "high": drawn.high,
            "patients": drawn.patients, "p": mean_p(difference) if enough else np.nan}  # fmt: skip


def _better(data: DataSet, line: dict[str, Any]) -> str:
    if line["patients"] < LEAST_PATIENTS:
        return "too few"
    if not line["p_holm"] < ALPHA or line["low"] <= 0 <= line["high"]:
        return "neither"
    higher = data.columns[line["metric"]].better == "higher"
    return str(line["first"] if (line["mean"] > 0) == higher else line["second"])
