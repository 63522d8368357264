"""Figures of trainings: a preview of a validation case, and the tuning of similarity and smoothness."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmark.results.scans import scans_of
from reports.figures.drawing import save
from reports.printing import PrintedTable, TableCell, render, write_text

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from methods.base import Preview

_FIXED, _WARPED = "#44AA99", "#EE3377"


def draw_preview(preview: Preview, title: str, file: Path) -> None:
    """Write a PNG of the fixed image with the outlines of both labels, and of the warped image with its label."""
    import matplotlib.style
    from matplotlib.figure import Figure

    scans = scans_of(preview.fixed_modality, preview.moving_modality)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(7, 5), layout="constrained")
        for axes, image, name in zip(
            figure.subplots(1, 2),
            (preview.fixed, preview.warped),
            (f"fixed {scans.fixed}", f"warped {scans.moving}"),
            strict=True,
        ):
            axes.imshow(image, cmap="gray", vmin=0, vmax=float(np.percentile(image, 99.5)) or 1, aspect=preview.aspect)
            axes.set_title(name, fontsize=9)
            axes.set_axis_off()
            _outline(axes, preview.warped_labels, _WARPED)
            if image is preview.fixed:
                _outline(axes, preview.fixed_labels, _FIXED)
        figure.suptitle(f"{title}: labels of the fixed scan (green) and warped (red)", fontsize=9)
        file.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(file, dpi=90, metadata={"Software": None})


def _outline(axes: Axes, labels: np.ndarray, colour: str) -> None:
    for label in np.unique(labels[labels > 0]):
        axes.contour(labels == label, levels=[0.5], colors=colour, linewidths=0.9)


def sweep_markdown(table: pd.DataFrame) -> str:
    """Return the tuning's table as Markdown, best DSC in bold, with its figure below."""
    heads = ["Similarity", "Smoothness", "Steps", "DSC", "SD log|J|", "|J|≤0"]
    best = table["dsc"].max()
    lines = [
        [
            TableCell(str(row["similarity"]), "text"), TableCell(f"{row['smoothness']:g}", "value"),
            TableCell(str(row["steps"]), "value"), TableCell(f"{row['dsc']:.4f}", "value", best=row["dsc"] == best),
            TableCell(f"{row['sd_log_jacobian']:.3f}", "value"), TableCell(f"{row['folding_voxels']:g}", "value"),
        ]
        for row in table.to_dict("records")
    ]  # fmt: skip
    before = table["dsc_before"].iloc[0]
    note = f"Means over validation patients; SD log|J| without the 3 of Learn2Reg. DSC before training: {before:.4f}."
    printed = PrintedTable("Tuning", heads, [False] + [True] * 5, lines)
    return render("sweep.md", printed=printed, note=note)


def draw_sweep(table: pd.DataFrame) -> Figure:
    """Draw DSC by similarity at one smoothness (left), and DSC and SD log|J| by smoothness for MIND (right)."""
    import matplotlib.style
    import seaborn
    from matplotlib.figure import Figure

    with matplotlib.style.context("default"):
        figure = Figure(figsize=(9, 3.6), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(1, 1.6))
        common = table[table["stage"] == "similarity"]
        seaborn.stripplot(common, x="similarity", y="dsc", color="#332288", size=9, jitter=False, ax=left)
        left.axhline(table["dsc_before"].iloc[0], color="#777777", linestyle="--", linewidth=0.9)
        low, high = common[["dsc", "dsc_before"]].min().min(), common["dsc"].max()
        left.set(xlabel="", ylabel="validation DSC", ylim=(low - 0.02, high + 0.02),
                 title=f"smoothness {common['smoothness'].iloc[0]:g}; dashed: before")  # fmt: skip
        series = table[table["similarity"] == "mind"].sort_values("smoothness")
        seaborn.lineplot(series, x="smoothness", y="dsc", marker="o", color="#332288", ax=right)
        right.set(xscale="log", xlabel="smoothness weight", title="MIND")
        right.set_ylabel("validation DSC", color="#332288")
        other = right.twinx()
        seaborn.lineplot(series, x="smoothness", y="sd_log_jacobian", marker="s", color="#CC6677", ax=other)
        other.set_ylabel("SD log|J|", color="#CC6677")
    return figure


def read_sweep(folder: Path) -> pd.DataFrame | None:
    """Return the table of a tuning that `train --sweep` finished in `folder`; None without one."""
    file = folder / "sweep.parquet"
    return pd.read_parquet(file) if file.is_file() else None


def write_sweep(folder: Path) -> Path:
    """Write sweep.md and the figure beside the sweep.parquet of `folder`, and return the path of sweep.md."""
    table = pd.read_parquet(folder / "sweep.parquet")
    save(draw_sweep(table), folder / "sweep")
    file = folder / "sweep.md"
    write_text(file, sweep_markdown(table))
    return file
