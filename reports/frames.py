"""What every chapter asks of the frames of a run, and how it counts in words."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd


def seed_columns(frame: pd.DataFrame, keys: Sequence[str], column: str) -> pd.DataFrame:
    """Return a column with a line for each of `keys` and a column for each seed; lines without a value are left out."""
    return frame.pivot_table(column, list(keys), "seed", "mean").dropna(how="all")


def contended(cells: pd.DataFrame) -> pd.Series:
    """Return which cells ran beside other work, so that their seconds do not count."""
    return cells["contended"].astype("boolean").fillna(False).astype(bool)


def vanished(vertebrae: pd.DataFrame) -> pd.Series:
    """Return which lines are of vertebrae that the field made vanish: the warped label has no voxel."""
    return (vertebrae["dsc"] == 0) & (vertebrae["volume_change_pct"] == 100)


def quantity(number: int, singular: str, plural: str) -> str:
    """Return a number with its noun: `1 patient`, `2 patients`."""
    return f"{number} {singular if number == 1 else plural}"


def numeric(frame: pd.DataFrame, columns: list[str]) -> pd.DataFrame:
    """Return a copy whose `columns` are floats: a column of nulls alone is read from parquet as objects."""
    return frame.assign(**{name: pd.to_numeric(frame[name]).astype(float) for name in columns})
