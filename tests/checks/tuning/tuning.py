"""Run the rows of a configuration on validation patients and tabulate them, to choose settings.

    python tests/checks/tuning/tuning.py tests/checks/tuning/staring.yaml [--limit 3] [--out runs/tuning/staring]

The configuration is one of `run` with a row for each candidate; the split must be `val`. The table is written beside it
as NAME.md: means over vertebrae (DSC, rigid DSC, volume change, TRE) and over patients (folding voxels, SD log|J|,
processor seconds, which other work on the machine hardly changes), and the number of patients with a result.
An existing run folder is completed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd
from rich.console import Console

from benchmark.cli.requests import run_options
from benchmark.cli.run import run_config
from benchmark.config import RunConfig, load_config
from benchmark.results.store import read_run

VERTEBRAE = {"dsc": "DSC", "rigid_dsc": "rigid DSC", "volume_change_pct": "%Δvol", "tre_mm": "TRE mm"}
CASES = {"folding_voxels": "folding", "sd_log_jacobian": "SD log J", "processor_seconds": "CPU s"}
DIGITS = {"%Δvol": 2, "TRE mm": 2, "folding": 1, "CPU s": 1}


def table_of(folder: Path, config: RunConfig) -> pd.DataFrame:
    """The table of a run, one line for each row of the configuration, in its order."""
    run = read_run(folder)
    cases = run.cases[run.cases["status"] == "ok"].copy()
    cases["processor_seconds"] = cases["seconds"] * cases["threads_observed"]
    means = pd.concat(
        [
            run.vertebrae.groupby("method")[list(VERTEBRAE)].mean(),
            cases.groupby("method")[list(CASES)].mean(),
            cases.groupby("method").size().rename("patients"),
        ],
        axis=1,
    )
    means = means.reindex([m.name for m in config.methods]).rename(columns=VERTEBRAE | CASES)
    return means.round({name: DIGITS.get(name, 4) for name in means})


def markdown(table: pd.DataFrame) -> str:
    lines = [["row", *table.columns], ["---", *["---:"] * len(table.columns)]]
    lines += [[f"`{name}`", *("–" if pd.isna(v) else f"{v:g}" for v in row)] for name, row in table.iterrows()]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("config", type=Path)
    parser.add_argument("--limit", type=int, default=None, help="Only the first so many patients.")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--on-stale", default="redo")
    options = parser.parse_args()
    config = load_config(str(options.config))
    if config.dataset.split != "val":
        sys.exit(
            f"{options.config}: expected split: val, got {config.dataset.split}; nothing is chosen on test patients"
        )
    if options.limit is not None:
        config = config.model_copy(update={"dataset": config.dataset.model_copy(update={"limit": options.limit})})
    folder = options.out or Path("runs/tuning") / options.config.stem
    outcome = run_config(config, folder, run_options(options.on_stale, False, 1, "local", ""), Console())
    table = table_of(folder, config)
    Console(width=140).print(table.to_string())
    patients = f"{config.dataset.limit} patients" if config.dataset.limit else "all patients"
    options.config.with_suffix(".md").write_text(
        f"Validation phantoms, {patients}, threads {config.threads}.\n\n{markdown(table)}", encoding="utf-8"
    )
    return outcome.exit_status


if __name__ == "__main__":
    sys.exit(main())
