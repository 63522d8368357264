"""The runner's overhead, wall time of a run less that of its steps, and the time of `--help`.

Run by `make speed`. The steps are process start, prepare, load, register and evaluate. The run is that of `table1` with
rows that take seconds, on the first patients of the phantom's test split. Exits 1 where a target is missed: overhead
under 3 %, `--help` under 1 s.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console

from benchmark.cli.progress import Bar
from benchmark.cli.requests import run_request
from benchmark.execution.runner import run

ROOT = Path(__file__).resolve().parents[2]
MOST_OVERHEAD_PCT = 3.0
MOST_HELP_S = 1.0


def help_seconds(rounds: int = 5) -> float:
    """Median time of `--help` in a new process, which must not import torch."""
    times = []
    for _ in range(rounds):
        began = time.perf_counter()
        subprocess.run([sys.executable, "run_benchmark.py", "--help"], cwd=ROOT, check=True, capture_output=True)
        times.append(time.perf_counter() - began)
    return statistics.median(times)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--methods", default="initial,staring-fast,voxelmorph")
    parser.add_argument("--patients", type=int, default=5)
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    wanted = run_request("table1", options.methods, "", "", options.patients, False, [])
    with tempfile.TemporaryDirectory() as folder, Bar(console) as bar:
        outcome = run(wanted, Path(folder) / "run", bar)
    spent = sum(outcome.seconds.values())
    overhead_pct = 100 * (outcome.wall_seconds - spent) / outcome.wall_seconds
    parts = ", ".join(f"{what} {seconds:.1f}" for what, seconds in outcome.seconds.items())
    console.print(f"{len(outcome.statuses)} cells in {outcome.wall_seconds:.1f} s: {parts} s.")
    missed = 0
    for name, value, most, unit in (
        ("overhead", overhead_pct, MOST_OVERHEAD_PCT, "%"), ("--help", help_seconds(), MOST_HELP_S, "s"),
    ):  # fmt: skip
        late = not value < most
        missed += late
        console.print(f"{name}: {value:.2f} {unit} (under {most:g} {unit} {'MISSED' if late else 'reached'})")
    if outcome.exit_status:
        console.print(f"cells without a result: {[s for s in outcome.statuses if s != 'ok']}")
    return 1 if missed or outcome.exit_status else 0


if __name__ == "__main__":
    sys.exit(main())
