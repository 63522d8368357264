"""The quality picture of `register`: one sagittal and one axial slice, before and after."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reports.figures.drawing import caption
from reports.figures.fig3 import Shown, panel
from reports.figures.slices import PLANES, Warped, slices_of, warped_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def quality(pair: Mapping[str, np.ndarray], result: Mapping[str, np.ndarray], method: str) -> Figure:
    """Draw the moving CT, and the fixed MR with the moving labels before and after.

    Args:
        pair: arrays of `benchmark.results.pictures.of_case`.
        result: arrays of `benchmark.results.pictures.of_cell`.
        method: name in the title.

    Returns:
        The figure: a row for each plane. Where the pair has fixed labels, errors are shaded as in Fig. 3.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    slices, after = slices_of("pair", pair), warped_of(result)
    before = Warped(slices.moving_labels, slices.ct)
    shown = Shown(slices, {plane: slices.fullest(plane) for plane in PLANES}, {}, [])
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(9, 7), layout="constrained", facecolor="white")
        for row, plane in zip(figure.subplots(2, 3), PLANES, strict=True):
            panel(row[0], shown, plane, None, moving=True)
            panel(row[1], shown, plane, before)
            panel(row[2], shown, plane, after)
            if plane == PLANES[0]:
                for axes, title in zip(row, ("moving CT", "fixed MR, before", f"fixed MR, {method}"), strict=True):
                    axes.set_title(title, fontsize=10)
        text = "Green: moving or warped labels."
        if slices.fixed_labels:
            text += " Orange: label where it does not belong, blue: label that is missing; red circles: large errors."
        caption(figure, text)
    return figure


def write_quality(path: Path, pair: Mapping[str, np.ndarray], result: Mapping[str, np.ndarray], method: str) -> Path:
    """Write the picture of `quality` as PNG, and return its path."""
    quality(pair, result, method).savefig(path, dpi=120)
    return path
