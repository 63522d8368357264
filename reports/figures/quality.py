"""The quality picture of `register`: one sagittal and one axial slice, before and after."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from reports.figures.drawing import caption
from reports.figures.fig3 import Shown, panel
from reports.figures.slices import PLANES, Warped, slices_of, warped_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from benchmark.cli.register import Slices


def quality(slices_of_pair: Slices, method: str) -> Figure:
    """Draw the moving scan, and the fixed scan with the moving labels before and after.

    Args:
        slices_of_pair: what `benchmark.cli.register.register` returns.
        method: name in the title.

    Returns:
        The figure: a row for each plane. Where the pair has fixed labels, errors are shaded as in Fig. 3.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    slices, after = slices_of("pair", slices_of_pair.pair), warped_of(slices_of_pair.result)
    fixed, moving = slices_of_pair.scans.fixed, slices_of_pair.scans.moving
    titles = (f"moving {moving}", f"fixed {fixed}, before", f"fixed {fixed}, {method}")
    before = Warped(slices.moving_labels, slices.ct)
    shown = Shown(slices, {plane: slices.fullest(plane) for plane in PLANES}, {}, [], slices_of_pair.scans)
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(9, 7), layout="constrained", facecolor="white")
        for row, plane in zip(figure.subplots(2, 3), PLANES, strict=True):
            panel(row[0], shown, plane, None, moving=True)
            panel(row[1], shown, plane, before)
            panel(row[2], shown, plane, after)
            if plane == PLANES[0]:
                for axes, title in zip(row, titles, strict=True):
                    axes.set_title(title, fontsize=10)
        text = f"Green: labels of the moving {moving}, on the right warped."
        if slices.fixed_labels:
            text += " Orange: label where it does not belong, blue: label that is missing; red circles: large"
            text += f" errors. Compared with the labels of the fixed {fixed}."
        caption(figure, text)
    return figure


def write_quality(path: Path, slices_of_pair: Slices, method: str) -> Path:
    """Write the picture of `quality` as PNG, and return its path."""
    quality(slices_of_pair, method).savefig(path, dpi=120)
    return path
