"""Penalties at several weights: each as a curve, and which of them is best at equal DSC.

A row NAME-xFACTOR has FACTOR times the penalty weight of row NAME. A larger weight makes every penalty more rigid and
costs DSC in the end, so that rows with one weight each say more of the weights than of the penalties. Here the weight
of each penalty is taken where its mean DSC (or volume change) is the same, by linear interpolation between neighbouring
weights. Means are over the cases that every weight of the compared penalties has a result of.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from reports.paper import label, ordered
from reports.run_data import DataSet, Row
from reports.stats.claims import SAME_VOLUME
from reports.stats.intervals import ALPHA, LEAST_PATIENTS, flip_mean, mean_p
from reports.stats.tests import holm

# Accuracy, then what the penalties are for.
ACCURACY, GAINS = ("dsc", "tre_mm", "landmark_tre_mm"), ("rigid_dsc", "volume_change_pct")
LEAST_WEIGHTS = 3
# Two mean values of DSC are alike where they print alike with two decimals.
SAME_DSC = 0.005
_NAME = re.compile(r"(?P<name>.+)-x(?P<factor>\d+(\.\d+)?)")


class Point(NamedTuple):
    """A point of a curve. values: by patient. factor: of its weight. level: the mean of the column that it is at."""

    values: pd.Series
    factor: float
    level: float


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


def common_cases(data: DataSet, compared: Sequence[Curve]) -> list[str]:
    """Return the cases of which every row of the curves has a result."""
    found = [set(data.by_case(row, "dsc").index) for curve in compared for row in curve.rows.values()]
    return sorted(set.intersection(*found))


def at_level(data: DataSet, curve: Curve, by: str, level: float, key: str, cases: Sequence[str]) -> Point | None:
    """Return a curve's values at the weight whose mean of a column is a level.

    That is the strongest weight of a DSC, and the weakest of a volume change, which weights reduce.

    Args:
        data: One data set and split of a run.
        curve: The penalty.
        by: `dsc` or `volume_change_pct`.
        level: The mean of that column.
        key: The column of the values.
        cases: Those that count.

    Returns:
        None where no weight reaches the level. Between two weights, values and the factor's logarithm are interpolated.
        Where already the first weight is better than the level, the point is that weight, with the level that it has.
    """
    means = {factor: _mean(data, row, by, cases) for factor, row in curve.rows.items()}
    higher = data.columns[by].better == "higher"
    searched = sorted(means, reverse=higher)
    k = next((k for k, f in enumerate(searched) if _reaches(means[f], level, higher)), None)
    if k is None:
        return None
    near = searched[k]
    values = _by_patient(data, curve.rows[near], key, cases)
    if k == 0:
        return Point(values, near, means[near])
    far = searched[k - 1]
    share = (means[near] - level) / (means[near] - means[far])
    beyond = _by_patient(data, curve.rows[far], key, cases)
    factor = float(np.exp((1 - share) * np.log(near) + share * np.log(far)))
    return Point(((1 - share) * values + share * beyond).dropna(), factor, level)


def at_equal(data: DataSet, first: Curve, second: Curve, by: str, key: str) -> tuple[Point, Point] | None:
    """Return both curves' values of a column at the best level of another that both reach; None without a common case.

    Args:
        data: One data set and split of a run.
        first: A penalty.
        second: Another.
        by: The column that is to be equal, `dsc` or `volume_change_pct`.
        key: The column of the values.
    """
    cases = common_cases(data, (first, second))
    if not cases:
        return None
    better, worse = (max, min) if data.columns[by].better == "higher" else (min, max)
    level = worse(better(_mean(data, row, by, cases) for row in curve.rows.values()) for curve in (first, second))
    one, other = (at_level(data, curve, by, level, key, cases) for curve in (first, second))
    return None if one is None or other is None else (one, other)


def unequal(data: DataSet, better: Point, worse: Point, by: str) -> bool:
    """Return whether the better of two points has a worse level, so that its gain may be bought with that."""
    if data.columns[by].better == "higher":
        return better.level < worse.level - SAME_DSC
    return better.level > worse.level * (1 + SAME_VOLUME)


def _reaches(mean: float, level: float, higher: bool) -> bool:
    return mean >= level - 1e-12 if higher else mean <= level + 1e-12


def _mean(data: DataSet, row: Row, key: str, cases: Sequence[str]) -> float:
    values = data.values(row, key)
    return float(values[values.index.get_level_values("case").isin(cases)].mean())


def _by_patient(data: DataSet, row: Row, key: str, cases: Sequence[str]) -> pd.Series:
    by_case = data.by_case(row, key)
    return data.per_patient(by_case[by_case.index.isin(cases)], "mean")


def comparisons_at_equal_dsc(data: DataSet) -> pd.DataFrame:
    """Compare every two penalties at equal DSC, by each of GAINS.

    Returns:
        Columns first, second (names), metric, first_dsc, second_dsc, first_factor, second_factor, mean, low, high
        (first minus second by patient, 95 %), patients, p_holm (over all lines) and better (the name of the better one,
        "neither", "unequal DSC" where the better one has the lower DSC, or "too few").
    """
    pairs = combinations(curves(data), 2)
    lines = [line for first, second in pairs for key in GAINS if (line := _compared(data, first, second, key))]
    adjusted = holm([line["p"] for line in lines])
    for line, p in zip(lines, adjusted, strict=True):
        line["p_holm"] = p
        line["better"] = _better(data, line)
    names = ["first", "second", "metric", "first_dsc", "second_dsc", "first_factor", "second_factor", "mean", "low",
             "high", "patients", "p_holm", "better"]  # fmt: skip
    return pd.DataFrame(lines, columns=names)


def _compared(data: DataSet, first: Curve, second: Curve, key: str) -> dict[str, Any] | None:
    points = at_equal(data, first, second, "dsc", key)
    if points is None:
        return None
    ours, theirs = points
    difference = (ours.values - theirs.values).dropna().to_numpy()
    drawn = flip_mean(difference)
    enough = drawn.patients >= LEAST_PATIENTS
    winner, loser = points if (drawn.mean > 0) == (data.columns[key].better == "higher") else (theirs, ours)
    return {"first": first.name, "second": second.name, "metric": key, "first_dsc": ours.level,
            "second_dsc": theirs.level, "first_factor": ours.factor, "second_factor": theirs.factor, "mean": drawn.mean,
            "low": drawn.low, "high": drawn.high, "patients": drawn.patients,
            "p": mean_p(difference) if enough else np.nan,
            "unequal": unequal(data, winner, loser, "dsc")}  # fmt: skip


def _better(data: DataSet, line: dict[str, Any]) -> str:
    if line["patients"] < LEAST_PATIENTS:
        return "too few"
    if not line["p_holm"] < ALPHA or line["low"] <= 0 <= line["high"]:
        return "neither"
    if line["unequal"]:
        return "unequal DSC"
    higher = data.columns[line["metric"]].better == "higher"
    return str(line["first"] if (line["mean"] > 0) == higher else line["second"])
