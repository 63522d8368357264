"""Compare phantoms with the paper's patients and with real scans.

`make data-report` compares the 25 test patients with the paper's row "Initial", and grey values by tissue with those of
real scans, if ../shared/data has any. It prints tables, draws figures, and exits with 1 if a target is missed. The
phantom is calibrated on training and validation patients; this report only describes the test patients.
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
from tissues import MAX_RATIO, TISSUES, Values, compare, of_phantom, real_scans

from benchmark.datasets.base import SPLITS
from benchmark.datasets.phantom import Phantom, anatomy_stream
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.evaluation import describe_pair
from methods.geometry import spacing_zyx, to_voxels
from metrics.fields import jacobian, jacobian_determinant

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MODALITIES = {"CT": "HU", "MR": "relative to the brightest"}
# Each measure with its least and greatest target, and the value of the paper for its 25 test patients.
TARGETS = {
    "vertebrae of all 167 patients": (1230, 1330, "about 1280"),
    "Initial DSC, mean over vertebrae": (0.64, 0.70, "0.67"),
    "Initial DSC, SD over vertebrae": (0.12, 0.18, "0.15"),
    "ceiling of per-vertebra rigid fits, mean": (0.86, 0.90, "0.88"),
    "CT to MR label volume difference, mean %": (2.5, 5.5, "4.16"),
    "CT to MR label volume difference, SD %": (3.0, 5.0, ""),
    "|J| of the true fields, least of all": (0.1, 1.0, ""),
    "seconds to make a patient, mean": (0.0, 3.0, ""),
}


def describe(split: str) -> tuple[pd.DataFrame, dict[str, list[Values]]]:
    """A table line for each vertebra of a split, with the seconds of its patient; and grey values by modality."""
    dataset = Phantom("phantom")
    rows: list[dict] = []
    values: dict[str, list[Values]] = {m: [] for m in MODALITIES}
    for name in dataset.cases(split):
        start = time.perf_counter()
        case = dataset.load(name)
        seconds = time.perf_counter() - start
        u = to_voxels(case.true_displacement_mm, case.pair.grid)
        min_jacobian = float(jacobian_determinant(jacobian(u, spacing_zyx(case.pair.grid))).min())
        rows += [
            {"case": name, "seconds": seconds, "least_jacobian": min_jacobian, **row} for row in describe_pair(case)
        ]
        for modality, patients in values.items():
            patients.append(of_phantom(case, modality))
    return pd.DataFrame(rows), values


def measure(rows: pd.DataFrame) -> dict[str, float]:
    """The value of each of TARGETS."""
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
        rows.least_jacobian.min(),
        rows.groupby("case").seconds.first().mean(),
    )
    return dict(zip(TARGETS, map(float, values), strict=True))


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Draw distributions over all vertebrae, and the vertebrae of each patient."""
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


def draw_tissues(phantoms: dict[str, list[Values]], real: dict[str, dict[str, Values]], file: Path) -> None:
    """Draw densities of grey values: of all phantoms together, and of each real scan."""
    figure, axes = plt.subplots(2, 4, figsize=(13, 5), layout="constrained")
    for row, (modality, unit) in zip(axes, MODALITIES.items(), strict=True):
        for ax, tissue in zip(row, TISSUES, strict=True):
            drawn = {"phantoms": np.concatenate([p[tissue] for p in phantoms[modality]])}
            drawn |= {name: values[tissue] for name, values in real[modality].items()}
            low, high = np.quantile(np.concatenate([np.quantile(v, (0.01, 0.99)) for v in drawn.values()]), (0, 1))
            for name, values in drawn.items():
                ax.hist(values, np.linspace(low, high, 60), density=True, histtype="step", label=name)
            ax.set(title=f"{modality}, {tissue}", xlabel=unit, yticks=[])
        row[0].legend(fontsize=7)
    sns.despine(figure, left=True)
    figure.savefig(file, dpi=150)


def check(console: Console, title: str, rows: list[tuple[str, float, float, float, str]], paper: str) -> int:
    """Print values with their targets, and return how many values miss them."""
    table = Table("measured", "here", "target", "", paper, title=title)
    missed = 0
    for name, value, low, high, reference in rows:
        reached = low <= value <= high
        missed += not reached
        table.add_row(name, f"{value:.4g}", f"{low:g} to {high:g}", "reached" if reached else "MISSED", reference)
    console.print(table)
    return missed


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--split", choices=SPLITS, default="test")
    parser.add_argument("--out", type=Path, default=Path("runs/data-report"))
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    rows, values = describe(options.split)
    kept = rows[rows.excluded_reason.isna()]
    measured = [(name, value, *TARGETS[name]) for name, value in measure(rows).items()]
    missed = check(console, f"Phantoms, split {options.split}", measured, "paper")
    console.print(f"{rows.case.nunique()} patients, {len(kept)} of {len(rows)} vertebrae evaluated.")
    draw(rows, options.out / f"{options.split}.png")
    rows.to_csv(options.out / f"{options.split}.csv", index=False)
    if SHARED.is_dir():
        real = {m: real_scans(SHARED, m) for m in MODALITIES}
        distances = {(m, t): pair for m in MODALITIES for t, pair in compare(values[m], real[m]).items()}
        ratios = [
            (f"{m}, {t}", to_real / between_real, 0.0, MAX_RATIO, f"{to_real:.3g} against {between_real:.3g}")
            for (m, t), (to_real, between_real) in distances.items()
        ]
        title = "Mean Wasserstein distance of grey values: phantoms to real scans, over real scans to each other"
        missed += check(console, title, ratios, "distances")
        draw_tissues(values, real, options.out / "tissues.png")
    else:
        console.print(f"No real scans in {SHARED}: grey values are not compared.")
    console.print(f"Figures and tables: {options.out}/")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
