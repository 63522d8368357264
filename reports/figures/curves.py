"""The curves of penalties at several weights: DSC and TRE against rigid DSC and volume change."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from benchmark.results.columns import Column
from reports.figures.drawing import caption
from reports.paper import colour
from reports.printing import arrow, heading
from reports.stats.curves import ACCURACY, GAINS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from matplotlib.figure import Figure


def curves_figure(table: pd.DataFrame, columns: Mapping[str, Column]) -> Figure:
    """Draw a panel for each measure of accuracy and each gain, a line for each penalty.

    Args:
        table: of `stats.curves.curve_table`.
        columns: the declarations of its columns.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    accuracy = [key for key in ACCURACY if key in table]
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(10, 4 * len(accuracy)), layout="constrained", facecolor="white")
        for line, key in zip(figure.subplots(len(accuracy), len(GAINS), squeeze=False), accuracy, strict=True):
            for axes, gain in zip(line, GAINS, strict=True):
                for name, curve in table.groupby("name", sort=False):
                    axes.plot(curve[gain], curve[key], "-", color=colour(str(name)), label=curve["penalty"].iloc[0])
                    axes.scatter(curve[gain], curve[key], s=12 + 12 * curve["factor"].rank(), color=colour(str(name)))
                axes.set(xlabel=heading(columns[gain]) + arrow(columns[gain]),
                         ylabel=heading(columns[key]) + arrow(columns[key]))  # fmt: skip
                axes.grid(color="#DDDDDD", linewidth=0.6)
        figure.axes[0].legend(fontsize=8)
        caption(figure, "A point for each weight; larger points have larger weights. Means as in Table 1.")
    return figure
