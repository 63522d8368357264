"""The critical-difference diagram (Demsar 2006): mean ranks; a bar joins rows that are not shown to differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from reports.printing import heading
from reports.run_data import DataSet
from reports.stats.intervals import ALPHA, LEAST_PATIENTS
from reports.stats.ranking import ranks
from reports.stats.tests import Ranks

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# The columns of Fig. 2.
METRICS = ("dsc", "rigid_dsc", "volume_change_pct")


def critical_difference_data(data: DataSet) -> dict[str, Ranks]:
    """Return the ranks in each of METRICS in which the rows can be ranked (`ranking.ranks`), by its heading.

    Empty for fewer than LEAST_PATIENTS patients, with which no difference of ranks is significant.
    """
    if data.independent_patients < LEAST_PATIENTS:
        return {}
    found = {heading(data.columns[key]): ranks(data, key) for key in METRICS}
    return {key: value for key, value in found.items() if value is not None}


def critical_difference(data: Mapping[str, Ranks]) -> Figure:
    """Draw a diagram for each metric of `critical_difference_data`, best rank left."""
    import matplotlib.style
    from matplotlib.figure import Figure

    rows = max(len(ranks.ranks) for ranks in data.values())
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(8, len(data) * (1.0 + 0.19 * rows)), layout="constrained")
        for axes, (name, ranks) in zip(figure.subplots(len(data), 1, squeeze=False)[:, 0], data.items(), strict=True):
            diagram(axes, ranks)
            p = "p < 0.001" if ranks.p < 0.001 else f"p = {ranks.p:.3f}"
            distance = critical_distance(len(ranks.ranks), ranks.patients)
            title = f"{name}: mean rank over {ranks.patients} patients, Friedman {p}, CD {distance:.2f}"
            axes.set_title(title, fontsize=9, loc="left", pad=18)
    return figure


def diagram(axes: Axes, ranks: Ranks) -> Axes:
    """Draw one diagram into `axes`, with bars by Nemenyi's test."""
    import scikit_posthocs

    # Numbers in place of names: the library draws from a set, whose order differs between processes for text.
    names = list(ranks.ranks.index)
    numbered = ranks.ranks.set_axis(range(len(names)))
    pairwise = ranks.pairwise.loc[names, names].set_axis(range(len(names))).set_axis(range(len(names)), axis=1)
    drawn = scikit_posthocs.critical_difference_diagram(
        numbered, pairwise, alpha=ALPHA, ax=axes,
        label_fmt_left="{label}", label_fmt_right="{label}", label_props={"fontsize": 8},
        elbow_props={"color": "#555555", "linewidth": 0.9}, marker_props={"color": "#332288", "s": 14},
        crossbar_props={"color": "#CC6677", "linewidth": 2.5},
    )  # fmt: skip
    for text in drawn["labels"]:
        number = int(text.get_text())
        text.set_text(f"{names[number]} ({numbered[number]:.2f})")
    axes.tick_params(labelsize=8)
    return axes


def critical_distance(rows: int, patients: int) -> float:
    """Return Nemenyi's critical difference at ALPHA: q / sqrt(2) * sqrt(k (k + 1) / 6 N) (Demsar 2006)."""
    from scipy.stats import studentized_range

    q = float(studentized_range.ppf(1 - ALPHA, rows, np.inf))
    return q / float(np.sqrt(2)) * float(np.sqrt(rows * (rows + 1) / (6 * patients)))
