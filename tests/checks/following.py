"""Whether a method's field follows a shift of the CT along each axis.

Run by `make following`. The mean displacement of a method that uses the images grows by the shift (1.00); that of a
method that predicts the same field for every input does not change (0.00). Values are means over the moving labels of
validation phantoms. Pre-alignment leaves little motion along the spine, so a network may not learn to follow there.
Exits 1 where the baseline follows along some axis by less than 0.5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.datasets.phantom import Phantom
from benchmark.execution.resources import usable_cores
from benchmark.execution.worker import Worker, WorkerSpec
from methods.base import Pair
from methods.registry import METHODS
from methods.voxelmorph.variants import VARIANTS

SHIFTS_MM = (-4.0, 0.0, 4.0)
AXES = ("along the spine", "front to back", "left to right")
LEAST = 0.5
LIMIT_S = 3600


def shifted(pair: Pair, axis: int, voxels: int) -> Pair:
    """The pair, its moving scan shifted by `voxels` along an axis (z, y, x), with periodic borders."""
    assert pair.moving.labels is not None
    image, labels = (np.roll(a, voxels, axis) for a in (pair.moving.image, pair.moving.labels))
    return replace(pair, moving=replace(pair.moving, image=image, labels=labels))


def fields(name: str, pairs: Iterable[Pair]) -> Iterator[np.ndarray]:
    """The displacement of each pair, in mm, from a process for the method, as in a run."""
    spec, worker = WorkerSpec(name, {}, "cpu", usable_cores(), 0, 1), None
    for pair in pairs:
        worker = worker or Worker(spec, LIMIT_S)
        yield worker.register(pair)[0].displacement_mm
        if METHODS[name].load().fresh_process:
            worker.close()
            worker = None
    if worker is not None:
        worker.close()


def follows(name: str, pairs: Sequence[Pair]) -> np.ndarray:
    """The growth of the mean displacement on the moving labels per mm of shift, for each axis (z, y, x)."""
    cases = [
        (pair, axis, round(mm / pair.grid.spacing_mm[2 - axis]))
        for pair in pairs for axis in range(3) for mm in SHIFTS_MM
    ]  # fmt: skip
    slopes, shifts_mm, means_mm = [], [], []
    for (pair, axis, voxels), field in zip(cases, fields(name, (shifted(*c) for c in cases)), strict=True):
        assert pair.moving.labels is not None
        along_axes = field[pair.moving.labels > 0] @ pair.grid.matrix
        shifts_mm.append(voxels * pair.grid.spacing_mm[2 - axis])
        means_mm.append(along_axes.mean(0)[2 - axis])
        if len(shifts_mm) == len(SHIFTS_MM):
            slopes.append(np.polyfit(shifts_mm, means_mm, 1)[0])
            shifts_mm, means_mm = [], []
    return np.reshape(slopes, (len(pairs), 3)).mean(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(VARIANTS))
    parser.add_argument("--patients", type=int, default=3)
    options = parser.parse_args()
    phantom = Phantom("phantom")
    pairs = [phantom.load(case).pair.blind(case) for case in phantom.cases("val")[: options.patients]]
    table = Table("row", *AXES, title=f"Motion of a field per mm of shift, {len(pairs)} validation phantoms")
    least = {}
    for name in options.methods.split(","):
        slopes = follows(name, pairs)
        table.add_row(name, *(f"{slope:.2f}" for slope in slopes))
        least[name] = min(slopes)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return int(least.get("voxelmorph", 1.0) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
