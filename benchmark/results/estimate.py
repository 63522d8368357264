"""How long a cell takes: from its times in earlier runs, else from a rough value measured once; scaled by its size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

# Seconds to register one phantom patient of ROUGH_VOXELS, measured on two cores of an Intel Xeon; the last three rows,
# in the run of docs/runs/quick.
ROUGH_SECONDS = {
    "initial": 0.01, "staring": 390.0, "staring-oc": 390.0, "staring-pc": 390.0, "bspline": 130.0, "staring-fast": 15.0,
    "voxelmorph": 0.5, "pc": 0.5, "oc": 0.5, "rigid-dice": 0.5, "rigid-field": 0.5, "pc+oc": 0.5, "pc+rigid-dice": 0.5,
    "pc+rigid-field": 0.5, "volume": 0.5, "deformable-pc+oc": 2.0, "rigid": 5.0, "smoothed": 0.7,
}  # fmt: skip
ROUGH_LOAD_AND_EVALUATE_S = 3.0
ROUGH_VOXELS = 3.2e6
# The time of a row grows with voxels ** power; 1 unless it is here. elastix draws a fixed number of samples, so that
# little of its time depends on the size. The powers are those of the runtime tables in docs/results.md, rounded.
POWERS = {
    "initial": 0.0, "staring": 0.25, "staring-oc": 0.25, "staring-pc": 0.25, "bspline": 0.25,
    "staring-fast": 0.6, "staring-tuned": 0.7,
}  # fmt: skip
_PARTS = ["load_seconds", "evaluate_seconds"]


@dataclass(frozen=True)
class Estimate:
    """What a cell of one size takes, and how the time depends on the size.

    Attributes:
        register_seconds: of the registration, repeats included.
        other_seconds: of loading and evaluation, which grow with the voxels.
        voxels: of the pair's grid that both times belong to; None where it is not known.
        power: the registration's time grows with voxels ** power.
        source: of the estimate, in words.
    """

    register_seconds: float
    other_seconds: float
    voxels: float | None
    power: float
    source: str

    def seconds(self, voxels: int | None) -> float:
        """Return the time of a cell with so many voxels, s; not scaled where either size is unknown."""
        if voxels is None or self.voxels is None:
            return self.register_seconds + self.other_seconds
        ratio = voxels / self.voxels
        return self.register_seconds * ratio**self.power + self.other_seconds * ratio


def estimate(row: str, out: Path, method: str | None = None) -> Estimate | None:
    """Estimate the time of a row's cells.

    Args:
        row: `method@device`.
        out: run folder; its finished cells come first, then those of the newest run in the same parent folder.
        method: the registered name of the row's method, where the row has another name.

    Returns:
        Medians over finished cells, else a rough value, else None.
    """
    name, _, device = row.rpartition("@")
    power = POWERS.get(name, POWERS.get(method or name, 1.0))
    for folder in _runs(out):
        cells = _read(folder, name, device)
        if len(cells):
            return _from_cells(cells, power, f"{len(cells)} {'cell' if len(cells) == 1 else 'cells'} in {folder}")
    if name in ROUGH_SECONDS and device == "cpu":
        seconds = ROUGH_SECONDS[name], ROUGH_LOAD_AND_EVALUATE_S
        return Estimate(*seconds, ROUGH_VOXELS, power, "a rough value for phantoms")
    return None


def in_words(seconds: float) -> str:
    """A duration as `40 s`, `12 min` or `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _from_cells(cells: pd.DataFrame, power: float, source: str) -> Estimate:
    """Medians over cells; where their sizes are known, over times that are scaled to the median size."""
    register = cells["seconds"] * cells["repeats"].fillna(1)
    other = cells[_PARTS].fillna(0).sum(axis=1)
    sizes = cells["voxels"]
    known = bool((sizes > 0).all())
    if known:
        ratio = sizes.median() / sizes
        register, other = register * np.power(ratio, power), other * ratio
    voxels = float(sizes.median()) if known else None
    return Estimate(float(register.median()), float(other.median()), voxels, power, source)


def _runs(out: Path) -> Sequence[Path]:
    """`out`, where it has tables, and the other runs in its parent folder, newest first."""
    others = [f.parent for f in out.parent.glob("*/cases.parquet") if f.parent != out]
    others.sort(key=lambda folder: (folder / "cases.parquet").stat().st_mtime, reverse=True)
    return [out, *others] if (out / "cases.parquet").is_file() else others


def _read(folder: Path, method: str, device: str) -> pd.DataFrame:
    """Finished cells of a row with a time. A table of another version may lack columns."""
    numbers = ["seconds", "repeats", "voxels", *_PARTS]
    cells = pd.read_parquet(folder / "cases.parquet").reindex(columns=["method", "device", "status", *numbers])
    cells = cells[(cells["method"] == method) & (cells["device"] == device) & (cells["status"] == "ok")]
    return cells.assign(**{c: pd.to_numeric(cells[c]).astype(float) for c in numbers}).dropna(subset="seconds")
