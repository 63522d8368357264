"""Whether a method's field follows a shift of the CT along each axis.

Run by `make following`. Values are means over the moving labels of validation phantoms; `follows` in
methods/voxelmorph/following.py explains them. Exits 1 where the baseline follows along some axis by less than 0.5.

With `--run FOLDER` the rows are the networks of that run, with the run's settings and plugins. The values are written
to `following.csv` in the folder, with the fingerprint of the settings and weights that they hold for. The report of the
run uses them for cells with the same: a claim that compares with a network that does not follow is not testable.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmark.config import MethodConfig, load_config
from benchmark.datasets.phantom import Phantom
from benchmark.execution.plan import settings_and_weights
from benchmark.execution.resources import usable_cores
from benchmark.execution.worker import Worker, WorkerSpec
from benchmark.results.following import write_following
from methods.base import Pair
from methods.registry import METHODS
from methods.voxelmorph.following import AXES, follows
from methods.voxelmorph.variants import VARIANTS
from reports.stats.gates import LEAST_FOLLOWING

SHIFTS_MM = (-4.0, 0.0, 4.0)
LIMIT_S = 3600


def fields(row: MethodConfig, plugins: Sequence[str], pairs: Iterable[Pair]) -> Iterator[np.ndarray]:
    """The displacement of each pair, in mm, from a process for the row, as in a run."""
    spec = WorkerSpec(row.method, row.settings, "cpu", usable_cores(), row.seed or 0, 1, plugins, row.name)
    worker = None
    for pair in pairs:
        worker = worker or Worker(spec, LIMIT_S)
        yield worker.register(pair)[0].displacement_mm
        if METHODS[row.method].load().fresh_process:
            worker.close()
            worker = None
    if worker is not None:
        worker.close()


def rows_of_run(folder: Path, names: str | None) -> tuple[list[MethodConfig], list[str]]:
    """The rows of a run that are measured, its networks unless named, and its plugins. Further seeds are left out."""
    config = load_config(str(folder / "config.yaml"))
    wanted = VARIANTS if names is None else names.split(",")
    rows = [m for m in config.methods if m.of is None and (m.method if names is None else m.name) in wanted]
    return rows, [str(plugin) for plugin in config.plugins]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--methods", help="Rows, with commas; default: the networks.")
    parser.add_argument("--patients", type=int, default=3)
    parser.add_argument("--run", type=Path, help="A run folder, whose report shows the values.")
    options = parser.parse_args()
    phantom = Phantom("phantom")
    pairs = [phantom.load(case).pair.blind(case) for case in phantom.cases("val")[: options.patients]]
    if options.run is None:
        names = list(VARIANTS) if options.methods is None else options.methods.split(",")
        rows, plugins = [MethodConfig(method=name, name=name) for name in names], []
    else:
        rows, plugins = rows_of_run(options.run, options.methods)
    table = Table("row", *AXES, title=f"Motion of a field per mm of shift, {len(pairs)} validation phantoms")
    found = {row.name: follows(partial(fields, row, plugins), pairs, SHIFTS_MM) for row in rows}
    for name, slopes in found.items():
        table.add_row(name, *(f"{slope:.2f}" for slope in slopes))
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    if options.run is not None:
        config = load_config(str(options.run / "config.yaml"))
        write_following(options.run, found, {row.name: settings_and_weights(config, row) for row in rows})
    return int(min(found.get("voxelmorph", np.ones(3))) < LEAST_FOLLOWING)


if __name__ == "__main__":
    sys.exit(main())
