"""What the two scans of a pair are, in the words of captions and messages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd

NAMES = {"mr": "MR", "ct": "CT", "cbct": "CBCT"}
FIXED, MOVING = "fixed_modality", "moving_modality"  # columns of pairs.parquet


@dataclass(frozen=True)
class Scans:
    """The names of both scans, `MR`, `CT` or `CBCT`. Default: the paper's."""

    fixed: str = NAMES["mr"]
    moving: str = NAMES["ct"]

    @property
    def as_in_the_paper(self) -> bool:
        """Whether a CT is registered to an MR."""
        return self == Scans()


def scans_of(fixed: str, moving: str) -> Scans:
    """Return the names of two modalities of `methods.base.Scan`."""
    return Scans(NAMES[fixed], NAMES[moving])


def scans_in(pairs: pd.DataFrame) -> Scans:
    """Return the names of the scans of pairs; several modalities are joined by `or`.

    Args:
        pairs: lines of pairs.parquet. Lines without modalities, of an earlier version or of refused cases, count only
            if all are so; they then mean MR and CT.
    """

    def names(column: str, default: str) -> str:
        values: Any = pairs[column].dropna().unique() if column in pairs else ()
        return " or ".join(sorted(NAMES.get(str(v), str(v)) for v in values)) or default

    return Scans(names(FIXED, NAMES["mr"]), names(MOVING, NAMES["ct"]))
