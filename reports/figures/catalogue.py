"""The figures of a data set's report, each with its file's stem, its title and its text alternative."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.errors import BadInput
from reports.run_data import DataSet
from reports.stats.curves import curve_table
from reports.stats.loss_or_network import effects, has_both
from reports.stats.verdicts import outside_paper

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Drawn:
    """A figure of the report. alternative: its description, for readers who cannot see it."""

    stem: str
    title: str
    alternative: str
    figure: Figure


def draw_all(
    data: DataSet, run_folder: Path, case: str | None = None, sagittal: int | None = None, axial: int | None = None,
    sweep: pd.DataFrame | None = None, paper_axes: bool = False,
) -> Iterator[Drawn]:  # fmt: skip
    """Draw every figure for which the data set has values, Fig. 2 first.

    Args:
        data: One data set and split of a run.
        run_folder: The run's folder, which holds the pictures.
        case: Fig. 3's patient; None for the patient of median DSC.
        sagittal: Fig. 3's sagittal slice among those kept, from 1; None for the one with the most label.
        axial: The same for the axial slice.
        sweep: The table of a tuning, which has a figure too.
        paper_axes: Whether Fig. 2 has the paper's axes; else they are fitted to the values.

    Raises:
        BadInput: Fig. 3 cannot show the case or a slice.
    """
    from reports.figures.critical_difference import critical_difference, critical_difference_data
    from reports.figures.curves import curves_figure
    from reports.figures.fig1 import fig1, fig1_data
    from reports.figures.fig2 import fig2, fig2_data
    from reports.figures.fig3 import fig3, fig3_data
    from reports.figures.penalties import penalties_figure
    from reports.figures.runtime import runtime_figure, timed

    yield Drawn("fig2", "Fig. 2: DSC, rigid DSC and relative volume change", "Boxplots.",
                fig2(fig2_data(data), data.scans, paper_axes))  # fmt: skip
    try:
        shown = fig3_data(data, run_folder, case, sagittal, axial)
    except ValueError as error:
        raise BadInput(f"Fig. 3: {error}") from error
    if shown is not None:
        title = (
            f"Fig. 3: {shown.slices.case}, moving {data.scans.moving} and fixed {data.scans.fixed} with warped labels"
        )
        yield Drawn("fig3", title, "Slices of both scans with outlines and errors of the labels.", fig3(shown))
    fields = fig1_data(data, run_folder)
    if fields is not None:
        title = f"Fields as in Fig. 1: {fields.slices.case}, displacement and |J| on a sagittal slice"
        yield Drawn("fig1", title, "Arrows of each displacement over the fixed scan, and maps of |J|.", fig1(fields))
    if ranks := critical_difference_data(data):
        title = "Critical differences: mean ranks by patient, rows that are not shown to differ joined"
        yield Drawn("critical-difference", title, "Mean ranks of the rows.", critical_difference(ranks))
    if has_both(data) and not outside_paper(data):
        title = "Loss or network: what each penalty changes in the network, in the optimisation, and in both"
        alternative = "Differences from no penalty with intervals."
        yield Drawn("loss-or-network", title, alternative, penalties_figure(effects(data), data.columns))
    if len(weights := curve_table(data)):
        title = "Penalties at several weights: DSC and TRE against rigid DSC and volume change"
        yield Drawn("curves", title, "A line for each penalty, a point for each weight.",
                    curves_figure(weights, data.columns))  # fmt: skip
    if timed(data.compared_cases):
        title = "Runtime: seconds, memory, and seconds by voxels"
        alternative = "Bars of seconds and memory, and seconds against voxels."
        yield Drawn("runtime", title, alternative, runtime_figure(data.compared_cases, data.asked))
    if sweep is not None:
        from reports.figures.training import draw_sweep

        yield Drawn("tuning", "Tuning of similarity and smoothness", "DSC by setting.", draw_sweep(sweep))
