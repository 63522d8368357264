"""Accuracy and speed of `staring-tuned` against `staring`, on five validation patients.

Run by `make staring-tuned`; an hour on two cores. Both rows run patient by patient, so that other work on the machine
affects both; an existing run folder is completed. The speed-up is the ratio of the rows' processor seconds, one thread
each, which other work hardly changes; that of wall time is printed too. Exits 1 where a target is missed: a speed-up of
5, or a mean DSC or rigid DSC not below that of `staring`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table

from benchmark.cli.requests import run_options
from benchmark.cli.run import run_config
from benchmark.config import make_config
from benchmark.results.store import read_run

ROWS = ("staring", "staring-tuned")
PATIENTS = 5
SPEED = 5.0


def complete(folder: Path, patients: int, threads: int, on_stale: str, console: Console) -> int:
    """Run both rows on one more patient at a time. Returns the last exit status."""
    status = 0
    for limit in range(1, patients + 1):
        content = {
            "dataset": {"name": "phantom", "split": "val", "limit": limit},
            "methods": list(ROWS), "threads": threads, "time_limit_s": 7200,
        }  # fmt: skip
        status = run_config(
            make_config(content, "staring-tuned"), folder, run_options(on_stale, False, 1, "local", ""), console
        ).exit_status
    return status


def row_means(folder: Path) -> pd.DataFrame:
    """For each row mean DSC, rigid DSC and volume change over vertebrae, folding voxels and seconds over patients."""
    run = read_run(folder)
    cases = run.cases.assign(processor_seconds=run.cases["seconds"] * run.cases["threads_observed"])
    vertebrae = run.vertebrae.groupby("method")[["dsc", "rigid_dsc", "volume_change_pct"]].mean()
    return vertebrae.join(cases.groupby("method")[["folding_voxels", "seconds", "processor_seconds"]].mean())


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("runs/staring-tuned"))
    parser.add_argument("--patients", type=int, default=PATIENTS)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--on-stale", default="redo")
    options = parser.parse_args()
    console = Console()
    if complete(options.out, options.patients, options.threads, options.on_stale, console):
        console.print("a registration failed; see the logs in the run folder")
        return 1
    means = row_means(options.out)
    shown = Table("row", *means.columns, title=f"{options.patients} validation patients, {options.threads} thread(s)")
    for row in ROWS:
        shown.add_row(row, *(f"{value:.4g}" for value in means.loc[row]))
    console.print(shown)
    paper, tuned = (means.loc[row] for row in ROWS)
    judged = {
        f"times as fast, processor (at least {SPEED:g})": (paper.processor_seconds / tuned.processor_seconds, SPEED),
        "DSC (at least staring's)": (tuned.dsc, paper.dsc),
        "rigid DSC (at least staring's)": (tuned.rigid_dsc, paper.rigid_dsc),
    }
    for what, (value, least) in judged.items():
        console.print(f"{what}: {value:.4f}, {'reached' if value >= least else 'MISSED'}", highlight=False)
    console.print(f"times as fast, wall: {paper.seconds / tuned.seconds:.2f}", highlight=False)
    return int(any(value < least for value, least in judged.values()))


if __name__ == "__main__":
    sys.exit(main())
