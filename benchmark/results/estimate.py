"""How long a cell takes: its median time in earlier runs, else a rough value measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

# Seconds to register one phantom patient, measured on two cores of an Intel Xeon.
ROUGH_SECONDS = {
    "initial": 0.01, "staring": 390.0, "staring-oc": 390.0, "staring-pc": 390.0, "bspline": 130.0, "staring-fast": 15.0,
    "voxelmorph": 0.5, "pc": 0.5, "oc": 0.5, "rigid-dice": 0.5, "rigid-field": 0.5, "pc+oc": 0.5, "pc+rigid-dice": 0.5,
    "pc+rigid-field": 0.5, "volume": 0.5,
}  # fmt: skip
ROUGH_LOAD_AND_EVALUATE_S = 3.0
_PARTS = ["load_seconds", "evaluate_seconds"]


@dataclass(frozen=True)
class Estimate:
    """Seconds of a cell, including loading and evaluation, and the source of the estimate in words."""

    seconds: float
    source: str


def estimate(row: str, out: Path) -> Estimate | None:
    """Estimate the time of a cell.

    Args:
        row: `method@device`.
        out: run folder; its finished cells come first, then those of the newest run in the same parent folder.

    Returns:
        The median over finished cells, else a rough value, else None.
    """
    method, _, device = row.rpartition("@")
    for folder in _runs(out):
        cells = _read(folder, method, device)
        if len(cells):
            seconds = cells["seconds"] * cells["repeats"].fillna(1) + cells[_PARTS].fillna(0).sum(axis=1)
            return Estimate(float(seconds.median()), f"{len(cells)} cells in {folder}")
    if method in ROUGH_SECONDS and device == "cpu":
        return Estimate(ROUGH_SECONDS[method] + ROUGH_LOAD_AND_EVALUATE_S, "a rough value for phantoms")
    return None


def in_words(seconds: float) -> str:
    """A duration as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _runs(out: Path) -> Sequence[Path]:
    """`out`, where it has tables, and the other runs in its parent folder, newest first."""
    others = [f.parent for f in out.parent.glob("*/cases.parquet") if f.parent != out]
    others.sort(key=lambda folder: (folder / "cases.parquet").stat().st_mtime, reverse=True)
    return [out, *others] if (out / "cases.parquet").is_file() else others


def _read(folder: Path, method: str, device: str) -> pd.DataFrame:
    """Finished cells of a row with a time. A table of another version may lack columns."""
    numbers = ["seconds", "repeats", *_PARTS]
    cells = pd.read_parquet(folder / "cases.parquet").reindex(columns=["method", "device", "status", *numbers])
    cells = cells[(cells["method"] == method) & (cells["device"] == device) & (cells["status"] == "ok")]
    return cells.assign(**{c: pd.to_numeric(cells[c]).astype(float) for c in numbers}).dropna(subset="seconds")
