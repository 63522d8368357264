"""Fig. 2: boxplots of DSC, rigid DSC and volume change, every vertebra as a point beside its box.

Figures are drawn under matplotlib's defaults without pyplot, so that a user's settings cannot change their bytes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from benchmark.results.scans import Scans
from reports.frames import quantity
from reports.paper import colour
from reports.run_data import DataSet

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Column, title, and the paper's axis.
PANELS = (
    ("dsc", "DSC ↑", (0.2, 0.95)),
    ("rigid_dsc", "Rigid DSC ↑", (0.55, 0.97)),
    ("volume_change_pct", "Relative volume change [%] ↓", (0.0, 50.0)),
)
_LARGEST = {"dsc": 1.0, "rigid_dsc": 1.0}
_LEAST_SPAN = {"dsc": 0.05, "rigid_dsc": 0.05, "volume_change_pct": 1.0}  # so that rounding does not fill an axis
_BOX_AT, _BOX_WIDTH, _POINTS_AT, _POINTS_SPREAD = -0.17, 0.42, 0.26, 0.09


def fig2_data(data: DataSet) -> pd.DataFrame:
    """Return the data of Fig. 2, a line per vertebra and row of Table 1, in the table's order.

    Returns:
        Columns row (the label), method, case, vertebra, dsc, rigid_dsc and volume_change_pct (in %, absolute). A row
        without a result has a line of nulls.
    """
    columns = ["method", "case", "vertebra", *(panel[0] for panel in PANELS)]
    parts = []
    for row in data.rows:
        part = row.of(data.vertebra_values)[columns]
        if part.empty:
            part = pd.DataFrame([{"method": row.method}], columns=columns)
        parts.append(part.assign(row=row.label).astype({panel[0]: float for panel in PANELS}))
    return pd.concat(parts, ignore_index=True)[["row", *columns]]


def fig2(data: pd.DataFrame, scans: Scans | None = None, paper_axes: bool = False) -> Figure:
    """Draw Fig. 2: three panels, a box per row. Whiskers reach 1.5 interquartile ranges.

    Args:
        data: The frame of `fig2_data`.
        scans: What the scans are, for the caption. Default: the paper's.
        paper_axes: Whether axes are the paper's, widened where a value lies beyond them. Default: fitted to the values.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(data["row"]))
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(max(9.0, 3.3 + 1.15 * len(names)), 4.6), layout="constrained")
        for axes, (column, title, _) in zip(figure.subplots(1, len(PANELS)), PANELS, strict=True):
            boxes(axes, data, column, axis_limits(column, data[column].dropna(), paper_axes))
            axes.set_title(title, fontsize=11)
        figure.supxlabel(_caption(data, scans or Scans()), fontsize=8, color="#444444", x=0.01, ha="left")
    return figure


def boxes(axes: Axes, data: pd.DataFrame, column: str, limits: tuple[float, float]) -> Axes:
    """Draw one panel into `axes`: a box of `column` per row, its points beside it, Initial hatched."""
    import seaborn
    from matplotlib.colors import to_rgba

    names = list(dict.fromkeys(data["row"]))
    methods = dict(zip(data["row"], data["method"], strict=True))
    for place, name in enumerate(names):
        values = data.loc[data["row"] == name, column].dropna().to_numpy()
        if not len(values):
            axes.text(place, sum(limits) / 2, "no result", rotation=90, ha="center", va="center", color="#777777")
            continue
        before = len(axes.patches)
        seaborn.boxplot(
            x=np.full(len(values), place + _BOX_AT),
            y=values,
            native_scale=True,
            width=_BOX_WIDTH,
            color=colour(methods[name]),
            saturation=1,
            zorder=2,
            showfliers=False,
            linecolor="#222222",
            linewidth=0.9,
            ax=axes,
        )
        for patch in axes.patches[before:]:
            # Pale, so that the median line is visible on dark colours too.
            patch.set_facecolor(to_rgba(colour(methods[name]), 0.55))
            if methods[name] == "initial":
                patch.set_hatch("////")
        # The horizontal offset of a point has no meaning: it is the same in every figure.
        spread = np.random.default_rng(0).uniform(-_POINTS_SPREAD, _POINTS_SPREAD, len(values))
        across = place + _POINTS_AT + spread
        axes.scatter(across, values, s=5, color=colour(methods[name]), linewidths=0, zorder=3, clip_on=False)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_ylim(*limits)
    axes.set(xlabel="", ylabel="")
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def axis_limits(column: str, values: pd.Series, paper_axes: bool = False) -> tuple[float, float]:
    """Return the limits of a panel's axis.

    Args:
        column: A column of PANELS.
        values: Its values, without nulls. Without any, the limits are the paper's.
        paper_axes: Whether the paper's axis is used, widened where a value lies beyond it.

    Returns:
        The least and the greatest value with a margin of 4 %, within the column's range (DSC: 0 to 1); volume change
        starts at 0.
    """
    paper = {key: limits for key, _, limits in PANELS}[column]
    if paper_axes or values.empty:
        return _widened(paper, values)
    largest = _LARGEST.get(column, np.inf)
    low = float(values.min()) if column in _LARGEST else 0.0
    span = max(float(values.max()) - low, _LEAST_SPAN[column])
    high = min(largest, max(float(values.max()), low + span) + 0.04 * span)
    return max(0.0, min(low, high - span) - 0.04 * span), high


def _widened(limits: tuple[float, float], values: pd.Series) -> tuple[float, float]:
    """Return the limits of an axis: `limits`, widened with a margin of 3 % where a value lies beyond them."""
    low, high = limits
    if values.empty:
        return limits
    margin = 0.03 * (max(high, values.max()) - min(low, values.min()))
    # A volume change of 0 lies on the axis in the paper too.
    new_low = low if values.min() >= low else values.min() - margin
    return new_low, high if values.max() <= high else values.max() + margin


def _caption(data: pd.DataFrame, scans: Scans) -> str:
    initial = data[data["method"] == "initial"]
    points = data.groupby("row", sort=False)["vertebra"].count()
    fewer = ", ".join(f"{name} {count}" for name, count in points.items() if count < len(initial))
    fewer = f" (fewer: {fewer})" if fewer else ""
    return (
        f"{quantity(len(initial), 'vertebra', 'vertebrae')} of "
        f"{quantity(initial['case'].nunique(), 'patient', 'patients')}, one point each{fewer}.\n"
        "Initial (hatched): rigid DSC and volume change compare the labels of the fixed"
        f" {scans.fixed} and the moving {scans.moving}, before registration."
    )
