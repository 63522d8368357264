"""Compare phantoms with the paper's patients and with real scans.

`make data-report` compares the 25 test patients with the paper's row "Initial" on the scale of the paper's code, says
what registration has to remove and what row `rigid` removes, and compares grey values and noise by tissue with those of
real scans, if ../shared/data has any. It prints tables, draws figures, and exits with 1 if a target is missed. The
phantom is calibrated on training and validation patients; this report only describes the test patients.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import seaborn as sns
from following import fields
from residuals import residual_of, soft_rigid_fits
from rich.console import Console
from rich.table import Table
from sheet import draw_sheet
from spectra import BANDS, Spectrum, noise_spectrum
from tissues import MAX_RATIO, TISSUES, Values, Volume, compare, read_real, sample, volume_of

from benchmark.config import MethodConfig
from benchmark.datasets.base import SPLITS
from benchmark.datasets.phantom import Phantom, anatomy_stream
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.evaluation import describe_pair, evaluate
from methods.base import Registration

SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
MODALITIES = {"CT": "HU", "MR": "relative to the brightest"}
# Each measure with its least and greatest target, and the value of the paper for its 25 test patients.
TARGETS = {
    "vertebrae of all 167 patients": (1230, 1330, "about 1280"),
    "Initial DSC, mean over vertebrae": (0.64, 0.70, "0.67"),
    "Initial DSC, SD over vertebrae": (0.12, 0.18, "0.15"),
    "DSC of per-vertebra SSD-closest rigid fits, mean, soft without squares": (0.86, 0.90, "0.88"),
    "CT to MR label volume difference, mean %": (2.5, 5.5, "4.16"),
    "squared motion that one rigid transform removes, %": (0.0, 15.0, ""),
    "true field to a distance blend of the true poses near bone, RMS mm": (0.5, 3.0, ""),
    "voxels where the true field folds, %": (0.0, 0.005, ""),
    "seconds to make a patient, mean": (0.0, 3.0, ""),
}
RIGID = MethodConfig(method="rigid", name="rigid")
# Phantoms in the sheet.
SHEET = 12


@dataclass(frozen=True)
class Described:
    """A split. rows: a line for each vertebra. values, spectra: of each patient, by modality. sheet: the first ones."""

    rows: pd.DataFrame
    values: dict[str, list[Values]]
    spectra: dict[str, list[Spectrum]]
    sheet: dict[str, dict[str, Volume]]


def describe(split: str, patients: int | None, rigid: bool) -> Described:
    """Make and measure the patients of a split, or the first of them. rigid: also run row `rigid`."""
    dataset = Phantom("phantom")
    found = Described(pd.DataFrame(), *({m: [] for m in MODALITIES} for _ in range(2)), {m: {} for m in MODALITIES})
    rows: list[dict] = []
    for number, name in enumerate(dataset.cases(split)[:patients]):
        start = time.perf_counter()
        case = dataset.load(name)
        seconds = time.perf_counter() - start
        soft, of_case = soft_rigid_fits(case), {"case": name, "seconds": seconds, **vars(residual_of(case))}
        by_rigid: dict[int, float] = {}
        if rigid:
            field = next(fields(RIGID, [], [case.pair.blind(name)]))
            by_rigid = {v["vertebra"]: v["dsc"] for v in evaluate(case, Registration(field), ["dsc"])[1]}
        for row in describe_pair(case):
            v = row["vertebra"]
            fit_dsc, exact = soft.get(v, (np.nan, np.nan))
            rows.append({**of_case, **row, "soft_rigid_fit": fit_dsc, "soft_exact": exact,
                         "rigid_row_dsc": by_rigid.get(v, np.nan)})  # fmt: skip
        for modality in MODALITIES:
            volume = volume_of(case, modality)
            found.values[modality].append(sample(volume, modality))
            found.spectra[modality].append(noise_spectrum(volume, modality))
            if number < SHEET:
                found.sheet[modality][name] = volume
    return replace(found, rows=pd.DataFrame(rows))


def measure(rows: pd.DataFrame) -> dict[str, float]:
    """The value of each of TARGETS."""
    kept = rows[rows.excluded_reason.isna()]
    dataset = Phantom("phantom")
    patients = [case for split in SPLITS for case in dataset.cases(split)]
    of_case = rows.groupby("case").first()
    values = (
        sum(len(draw_spine(anatomy_stream(case)).labelled) for case in patients),
        kept.initial_dsc.mean(),
        kept.initial_dsc.std(),
        kept.soft_rigid_fit.mean(),
        kept.label_volume_difference_pct.mean(),
        100 * (1 - of_case.left_mm2.sum() / of_case.motion_mm2.sum()),
        np.sqrt(np.square(of_case.blend_mm).mean()),
        of_case.folds_pct.mean(),
        of_case.seconds.mean(),
    )
    return dict(zip(TARGETS, map(float, values), strict=True))


def tell(console: Console, rows: pd.DataFrame) -> None:
    """Print what has no target."""
    kept, of_case = rows[rows.excluded_reason.isna()], rows.groupby("case").first()
    size, left = np.sqrt(of_case.motion_mm2), np.sqrt(of_case.left_mm2)
    removed = np.sqrt(of_case.motion_mm2 - of_case.left_mm2)
    table = Table("without a target", "here", title="What registration has to remove, and the scales of the table")
    for name, value in {
        "RMS motion of the vertebrae, mm: median, greatest": f"{size.median():.2f}, {size.max():.2f}",
        "of it left by the best rigid transform, mm": f"{left.median():.2f}, {left.max():.2f}",
        "of it removed by the best rigid transform, mm": f"{removed.median():.2f}, {removed.max():.2f}",
        "DSC of Initial and of row `rigid`": f"{kept.initial_dsc.mean():.3f}, {kept.rigid_row_dsc.mean():.3f}",
        "DSC of SSD-closest rigid fits on the scale of the table, hard": f"{kept.rigid_fit_dsc.mean():.3f}",
        "true field on the scale of the paper's code": f"{kept.soft_exact.mean():.3f} (paper's code: about 0.936)",
        "DSC and volume change % of the true field": f"{kept.true_dsc.mean():.3f}, "
        f"{kept.true_volume_change_pct.abs().mean():.2f}",
        "voxels beside a surface on which bones slide, %": f"{of_case.sliding_pct.mean():.2f}",
        "CT to MR label volume difference, SD %": f"{kept.label_volume_difference_pct.std():.2f}",
    }.items():
        table.add_row(name, value)
    console.print(table)


def tell_spectra(console: Console, phantoms: dict[str, list[Spectrum]], real: dict[str, dict[str, Spectrum]]) -> None:
    """Print the noise of phantoms (median, least and greatest) beside that of real scans."""
    title = "Noise of soft tissue in axial patches: SD, and shares of its power by frequency (cycles per mm)"
    table = Table("scan", "SD", *(f"{n} {a:g}-{b:g}" for n, (a, b) in BANDS.items()), title=title)
    for modality, unit in MODALITIES.items():
        names = ("sd", *BANDS)
        found = {n: np.array([p[n] for p in phantoms[modality]]) for n in names}
        ranges = [f"{np.nanmedian(v):.3g} ({np.nanmin(v):.2g}-{np.nanmax(v):.2g})" for v in found.values()]
        table.add_row(f"{modality} phantoms, {unit}", *ranges)
        for name, spectrum in real[modality].items():
            table.add_row(f"{modality} {name}", *(f"{spectrum[n]:.3g}" for n in names))
    console.print(table)


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Draw distributions over all vertebrae, and the vertebrae of each patient."""
    kept = rows[rows.excluded_reason.isna()]
    figure, axes = plt.subplots(1, 3, figsize=(13, 3.6), width_ratios=(1, 1, 2), layout="constrained")
    sns.histplot(kept, x="initial_dsc", bins=np.arange(0, 1.01, 0.05), ax=axes[0])
    sns.histplot(kept, x="soft_rigid_fit", bins=np.arange(0.7, 1.01, 0.01), ax=axes[1])
    sns.stripplot(kept, x="case", y="initial_dsc", size=3, ax=axes[2])
    axes[0].set(xlabel="Initial DSC", ylabel="vertebrae")
    axes[1].set(xlabel="DSC of the SSD-closest rigid fit, soft without squares", ylabel="vertebrae")
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
    parser.add_argument("--patients", type=int, help="only the first of the split")
    parser.add_argument("--without-rigid", action="store_true", help="leave out row `rigid`, which needs elastix")
    options = parser.parse_args()
    console = Console(width=None if sys.stdout.isatty() else 120)
    found = describe(options.split, options.patients, not options.without_rigid)
    rows = found.rows
    kept = rows[rows.excluded_reason.isna()]
    measured = [(name, value, *TARGETS[name]) for name, value in measure(rows).items()]
    missed = check(console, f"Phantoms, split {options.split}", measured, "paper")
    tell(console, rows)
    console.print(f"{rows.case.nunique()} patients, {len(kept)} of {len(rows)} vertebrae evaluated.")
    draw(rows, options.out / f"{options.split}.png")
    rows.to_csv(options.out / f"{options.split}.csv", index=False)
    volumes = {m: read_real(SHARED, m) if SHARED.is_dir() else {} for m in MODALITIES}
    spectra = {m: {n: noise_spectrum(v, m) for n, v in volumes[m].items()} for m in MODALITIES}
    tell_spectra(console, found.spectra, spectra)
    draw_sheet({m: {**volumes[m], **found.sheet[m]} for m in MODALITIES}, options.out / "sheet.png")
    if SHARED.is_dir():
        real = {m: {name: sample(v, m) for name, v in volumes[m].items()} for m in MODALITIES}
        distances = {(m, t): pair for m in MODALITIES for t, pair in compare(found.values[m], real[m]).items()}
        ratios = [
            (f"{m}, {t}", to_real / between_real, 0.0, MAX_RATIO, f"{to_real:.3g} against {between_real:.3g}")
            for (m, t), (to_real, between_real) in distances.items()
        ]
        title = "Mean Wasserstein distance of grey values: phantoms to real scans, over real scans to each other"
        missed += check(console, title, ratios, "distances")
        draw_tissues(found.values, real, options.out / "tissues.png")
    else:
        console.print(f"No real scans in {SHARED}: grey values, noise and slices of phantoms stand alone.")
    console.print(f"Figures and tables: {options.out}/")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
