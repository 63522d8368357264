"""Where the processor seconds of `deformable-pc+oc` go, beside the least by arithmetic (`make deformable-time`).

    python tests/checks/deformable_time.py [--patient phantom-0120] [--rounds 3]

One thread. The least counts, at rates measured in the same run, the matrix products of the splines (forward, and twice
as many backward), the rows of descriptors that points read, and one pass over both images for each operation of MIND.
Seconds are those of this thread, so that other work on the machine changes them little; the median of the rounds is
printed. A validation patient is used.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from benchmark.datasets.cache import loader
from benchmark.datasets.phantom import Phantom
from methods.base import Pair
from methods.deformable import method as deformable
from methods.deformable.level import Level
from methods.registry import create_method

STAGES = ("load", "best_shift", "Level", "optimise", "without_folds", "compare_neighbours", "to_millimetres")
MIND_PASSES = 6 * 9 + 60  # six box filters of nine operations, and five on each of the twelve channels


def seconds_of(call: Callable[[], Any]) -> float:
    """Processor seconds of this thread."""
    start = time.thread_time()
    call()
    return time.thread_time() - start


def rates() -> tuple[float, float, float]:
    """Multiplications a second of a matrix product, rows a second of a gather, and voxels a second of one operation."""
    a, table, volume = torch.rand(512, 512), torch.rand(500_000, 12), torch.rand(2**20)
    rows = torch.randint(len(table), (65_536,)).sort()[0]
    best = [min(seconds_of(call) for _ in range(5)) for call in (
        lambda: a @ a, lambda: table.index_select(0, rows), lambda: volume * volume
    )]  # fmt: skip
    return 512**3 / best[0], len(rows) / best[1], len(volume) / best[2]


class Stages:
    """Seconds of each stage of one registration, and the least of the stages whose work is known."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self.least = dict.fromkeys(STAGES, 0.0)
        self.multiply, self.gather, self.operate = rates()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.thread_time()
            result = function(*args, **kwargs)
            self.seconds[name] += time.thread_time() - start
            if name == "optimise":
                self.least[name] += self.optimisation(args[0], result[1].iterations)
            elif name == "Level" and result.settings.similarity == "mind":
                self.least[name] += 2 * len(result._moving.rows) * MIND_PASSES / self.operate
            return result

        return timed

    def optimisation(self, level: Level, iterations: int) -> float:
        """The least seconds of one level: spline products, and the eight corners of each drawn point, twice."""
        (z, mz), (y, my), (x, mx) = (b.shape for b in level.bases)
        products = 3 * 3 * (mz * my * mx * x + mz * my * x * y + mz * y * x * z)
        rows = 2 * 8 * level.settings.samples
        return iterations * (products / self.multiply + rows / self.gather)


def measure(pair: Pair) -> tuple[float, Stages]:
    """The seconds of one registration, and of its stages."""
    row = create_method("deformable-pc+oc")
    row.prepare("cpu", 1, 0)
    stages, originals = Stages(), {name: getattr(deformable, name) for name in STAGES}
    for name, function in originals.items():
        setattr(deformable, name, stages.wrap(name, function))
    try:
        total = seconds_of(lambda: row.register(pair))
    finally:
        for name, function in originals.items():
            setattr(deformable, name, function)
    return total, stages


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--patient", default="phantom-0120")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    dataset = Phantom("phantom")
    if options.patient not in dataset.cases("val"):
        sys.exit(f"--patient: expected a validation patient, got {options.patient}")
    torch.set_num_threads(1)
    pair = loader(dataset)(options.patient).pair.blind("token")
    found = [measure(pair) for _ in range(options.rounds)]
    table = Table("stage", "seconds", "least by arithmetic")
    for name in STAGES:
        seconds, least = (statistics.median(getattr(s, kind)[name] for _, s in found) for kind in ("seconds", "least"))
        table.add_row(name, f"{seconds:.2f}", f"{least:.2f}" if least else "")
    total = statistics.median(seconds for seconds, _ in found)
    least = statistics.median(sum(s.least.values()) for _, s in found)
    table.add_row("all", f"{total:.2f}", f"{least:.2f}")
    Console().print(f"{options.patient}, {' x '.join(map(str, pair.grid.shape))} voxels, one thread", table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
