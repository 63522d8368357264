"""Are the phantoms as hard as the paper's patients? The 25 test patients beside the paper's row "Initial".

Run by `make data-report`; prints a table, draws the distributions, and exits 1 where a target is missed. The phantom is
calibrated on training and validation patients; the test patients are only reported here.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
from rich.console import Console
from rich.table import Table

from benchmark.datasets.anatomy import draw_spine
from benchmark.datasets.base import SPLITS
from benchmark.datasets.cache import switched
from benchmark.datasets.phantom import Phantom, anatomy_stream
from benchmark.evaluation import describe_pair

TIMED = 5
# What is measured, where it must lie, and what the paper says of its 25 test patients.
TARGETS = {
    "vertebrae of all 167 patients": (1230, 1330, "about 1280"),
    "Initial DSC, mean over vertebrae": (0.64, 0.70, "0.67"),
    "Initial DSC, SD over vertebrae": (0.12, 0.18, "0.15"),
    "ceiling of per-vertebra rigid fits, mean": (0.86, 0.90, "0.88"),
    "CT to MR label volume difference, mean %": (2.5, 5.5, "4.16"),
    "CT to MR label volume difference, SD %": (3.0, 5.0, ""),
    "seconds to make a patient, mean": (0.0, 3.0, ""),
}


def describe(split: str) -> pd.DataFrame:
    """A row per vertebra of a split's patients, with the seconds its patient took where it was made anew."""
    dataset = Phantom("phantom")
    rows = []
    for position, name in enumerate(dataset.cases(split)):
        began = time.perf_counter()
        with switched(position >= TIMED):
            case = dataset.load(name)
        seconds = time.perf_counter() - began if position < TIMED else None
        rows += [{"case": name, "seconds": seconds, **row} for row in describe_pair(case)]
    return pd.DataFrame(rows)


def measure(rows: pd.DataFrame) -> dict[str, float]:
    kept = rows[rows.excluded_reason.isna()]
    dataset = Phantom("phantom")
    patients = [case for split in SPLITS for case in dataset.cases(split)]
    values = (
        sum(len(draw_spine(anatomy_stream(case)).labelled) for case in patients),
        kept.initial_dsc.mean(),
        kept.initial_dsc.std(),
        kept.ceiling_dsc.mean(),
        kept.label_volume_difference_pct.mean(),
        kept.label_volume_difference_pct.std(),
        rows.groupby("case").seconds.first().mean(),
    )
    return dict(zip(TARGETS, map(float, values), strict=True))


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Distributions over the vertebrae, and every patient's vertebrae side by side."""
    kept = rows[rows.excluded_reason.isna()]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), width_ratios=(1, 1, 2), layout="constrained")
    sns.histplot(kept, x="initial_dsc", bins=np.arange(0, 1.01, 0.05), ax=axes[0])
    sns.histplot(kept, x="ceiling_dsc", bins=np.arange(0.7, 1.01, 0.01), ax=axes[1])
    sns.stripplot(kept, x="case", y="initial_dsc", size=3, ax=axes[2])
    axes[0].set(xlabel="Initial DSC", ylabel="vertebrae")
    axes[1].set(xlabel="ceiling DSC", ylabel="vertebrae")
    axes[2].set(xlabel="patient", ylabel="Initial DSC", xticks=[])
    sns.despine(figure)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=150)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/data-report"))
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows = describe(options.split)
    kept = rows[rows.excluded_reason.isna()]
    table = Table("measured", "here", "target", "", "paper", title=f"Phantoms, split {options.split}")
    missed = 0
    for name, value in measure(rows).items():
        low, high, paper = TARGETS[name]
        reached = low <= value <= high
        missed += not reached
        table.add_row(name, f"{value:.4g}", f"{low:g} to {high:g}", "reached" if reached else "MISSED", paper)
    console.print(table)
    console.print(f"{rows.case.nunique()} patients, {len(kept)} of {len(rows)} vertebrae evaluated.")
    draw(rows, options.out / f"{options.split}.png")
    rows.to_csv(options.out / f"{options.split}.csv", index=False)
    console.print(f"Figure and rows: {options.out}/")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
