"""Whether a method's field follows a shift of the CT along each axis.

Run by `make following`. Values are means over the moving labels of validation phantoms; `follows` in
methods/voxelmorph/following.py explains them. Exits 1 where the baseline follows along some axis by less than 0.5.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.datasets.phantom import Phantom
from benchmark.execution.resources import usable_cores
from benchmark.execution.worker import Worker, WorkerSpec
from methods.base import Pair
from methods.registry import METHODS
from methods.voxelmorph.following import AXES, follows
from methods.voxelmorph.variants import VARIANTS

SHIFTS_MM = (-4.0, 0.0, 4.0)
LEAST = 0.5
LIMIT_S = 3600


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
        slopes = follows(partial(fields, name), pairs, SHIFTS_MM)
        table.add_row(name, *(f"{slope:.2f}" for slope in slopes))
        least[name] = min(slopes)
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return int(least.get("voxelmorph", 1.0) < LEAST)


if __name__ == "__main__":
    sys.exit(main())
