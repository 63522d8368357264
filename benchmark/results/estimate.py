"""About how long a cell takes: as it did in runs beside this one, else a rough figure measured once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

# Seconds to register one phantom patient, as measured on two cores of an Intel Xeon; only ever said to be rough.
ROUGH_SECONDS = {
    "initial": 0.01, "staring": 390.0, "staring-oc": 390.0, "staring-pc": 390.0, "bspline": 130.0, "staring-fast": 15.0,
    "voxelmorph": 0.5, "pc": 0.5, "oc": 0.5, "rigid-dice": 0.5, "rigid-field": 0.5, "pc+oc": 0.5, "pc+rigid-dice": 0.5,
    "pc+rigid-field": 0.5, "volume": 0.5,
}  # fmt: skip
ROUGH_AROUND_S = 3.0  # reading and measuring
_PARTS = ["load_seconds", "evaluate_seconds"]


@dataclass(frozen=True)
class Estimate:
    """seconds: of a whole cell. source: where the figure comes from, in words."""

    seconds: float
    source: str


def estimate(row: str, out: Path) -> Estimate | None:
    """For a row `<method>@<device>`: the median of cells in `out`, else in the newest run beside it; else a rough
    figure, or None where there is none.
    """
    method, _, device = row.rpartition("@")
    for folder in _runs(out):
        cells = _read(folder, method, device)
        if len(cells):
            seconds = cells["seconds"] * cells["repeats"].fillna(1) + cells[_PARTS].fillna(0).sum(axis=1)
            return Estimate(float(seconds.median()), f"{len(cells)} cells in {folder}")
    if method in ROUGH_SECONDS and device == "cpu":
        return Estimate(ROUGH_SECONDS[method] + ROUGH_AROUND_S, "a rough figure for phantoms")
    return None


def in_words(seconds: float) -> str:
    """`40 s`, `12 min`, `3.5 h`."""
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"


def _runs(out: Path) -> Sequence[Path]:
    beside = [f.parent for f in out.parent.glob("*/cases.parquet") if f.parent != out]
    beside.sort(key=lambda folder: (folder / "cases.parquet").stat().st_mtime, reverse=True)
    return [out, *beside] if (out / "cases.parquet").is_file() else beside


def _read(folder: Path, method: str, device: str) -> pd.DataFrame:
    """Finished cells of a row; none where the folder was made by another version."""
    wanted = ["method", "device", "status", "seconds", "repeats", *_PARTS]
    cells = pd.read_parquet(folder / "cases.parquet").reindex(columns=wanted)
    mine = cells[(cells["method"] == method) & (cells["device"] == device) & (cells["status"] == "ok")]
    return mine.assign(**{c: pd.to_numeric(mine[c]).astype(float) for c in wanted[3:]}).dropna(subset="seconds")
