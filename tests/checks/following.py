"""Does a method find a motion, or does it know how patients usually lie? The CT is shifted as a whole, along each axis.

Run by `make following`. A method that looks gives a field that grows by as much as the CT was shifted (1.00); one that
goes by habit gives the same field whatever it is shown (0.00). Means over the moving labels of validation phantoms, who
are prealigned: what is left of their own motion along the spine is small, and a network may never have had to look.
Exits 1 where the baseline follows along some axis by less than half.
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
    """The pair, its moving scan's content `voxels` further along an axis (z, y, x). The border goes round."""
    assert pair.moving.labels is not None
    image, labels = (np.roll(a, voxels, axis) for a in (pair.moving.image, pair.moving.labels))
    return replace(pair, moving=replace(pair.moving, image=image, labels=labels))


def fields(name: str, pairs: Iterable[Pair]) -> Iterator[np.ndarray]:
    """The displacement of each pair, in mm, from a process of the method's own, as in a run."""
    job, worker = WorkerSpec(name, {}, "cpu", usable_cores(), 0, 1), None
    for pair in pairs:
        worker = worker or Worker(job, LIMIT_S)
        yield worker.register(pair)[0].displacement_mm
        if METHODS[name].load().fresh_process:
            worker.close()
            worker = None
    if worker is not None:
        worker.close()


def follows(name: str, pairs: Sequence[Pair]) -> np.ndarray:
    """By how much of a shift the mean displacement on the moving labels grows, per axis (z, y, x)."""
    cases = [
        (pair, axis, round(mm / pair.grid.spacing_mm[2 - axis]))
        for pair in pairs for axis in range(3) for mm in SHIFTS_MM
    ]  # fmt: skip
    slopes, done, found = [], [], []
    for (pair, axis, voxels), field in zip(cases, fields(name, (shifted(*c) for c in cases)), strict=True):
        assert pair.moving.labels is not None
        along_axes = field[pair.moving.labels > 0] @ pair.grid.matrix
        done.append(voxels * pair.grid.spacing_mm[2 - axis])
        found.append(along_axes.mean(0)[2 - axis])
        if len(done) == len(SHIFTS_MM):
            slopes.append(np.polyfit(done, found, 1)[0])
            done, found = [], []
    return np.reshape(slopes, (len(pairs), 3)).mean(0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", default=",".join(VARIANTS))
    parser.add_argument("--patients", type=int, default=3)
    asked = parser.parse_args()
    phantom = Phantom("phantom")
    pairs = [phantom.load(case).pair.blind(case) for case in phantom.cases("val")[: asked.patients]]
    table = Table("row", *AXES, title=f"what a field follows of a shift, {len(pairs)} validation phantoms")
    least = {}
    for name in asked.methods.split(","):
        slopes = follows(name, pairs)
        table.add_row(name, *(f"{slope:.2f}" for slope in slopes))
        least[name] = min(slopes)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return int(least.get("voxelmorph", 1.0) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
