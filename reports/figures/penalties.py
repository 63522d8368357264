"""What each penalty changes in the network, in the optimisation of single pairs, and in both: means with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from benchmark.results.columns import Column
from reports.figures.drawing import caption
from reports.paper import label
from reports.printing import arrow, heading
from reports.stats.intervals import LEAST_PATIENTS
from reports.stats.loss_or_network import FAMILIES, MEASURES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOURS = {"network": "#332288", "optimisation": "#117733", "both": "#CC6677"}
_MARKS = {"network": "o", "optimisation": "s", "both": "D"}


def penalties_figure(table: pd.DataFrame, columns: Mapping[str, Column]) -> Figure:
    """Draw a panel for each measure: a line for each penalty, a mark with its 95 % interval for each family.

    Args:
        table: Of `loss_or_network.effects`, not empty.
        columns: The declaration of every column, by name.
    """
    import matplotlib.style
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(table["penalty"]))
    with matplotlib.style.context("default"):
        figure = Figure(figsize=(9, 1.7 + 0.55 * len(names)), layout="constrained")
        panels = figure.subplots(1, len(MEASURES), sharey=True)
        for axes, key in zip(panels, MEASURES, strict=True):
            _panel(axes, table[table["metric"] == key], names)
            axes.set_title(f"{heading(columns[key])}{arrow(columns[key])}", fontsize=9)
        panels[0].set_yticks(range(len(names)), [label(name) for name in names], fontsize=8)
        panels[0].invert_yaxis()
        handles, texts = panels[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="outside upper center", ncols=len(FAMILIES), fontsize=8, frameon=False)
        against = "; ".join(
            f"{family}: minus {label(base)}" for family, base, _ in FAMILIES if family in set(table["family"])
        )
        caption(figure, f"Difference from the same family without a penalty ({against}), mean over patients with its "
                        f"95 % interval; no interval for fewer than {LEAST_PATIENTS} patients.")  # fmt: skip
    return figure


def _panel(axes: Axes, table: pd.DataFrame, names: list[str]) -> None:
    axes.axvline(0, color="#888888", linewidth=0.8)
    for place, (family, _, _) in enumerate(FAMILIES):
        part = table[table["family"] == family]
        if part.empty:
            continue
        at = [names.index(name) + 0.22 * (place - 1) for name in part["penalty"]]
        low, high = (part[end].fillna(part["mean"]) for end in ("low", "high"))
        errors = [(part["mean"] - low).to_numpy(), (high - part["mean"]).to_numpy()]
        axes.errorbar(part["mean"], at, xerr=errors, fmt=_MARKS[family], color=_COLOURS[family], markersize=4.5,
                      linewidth=1.3, capsize=2, label=family)  # fmt: skip
    axes.tick_params(labelsize=8)
    axes.grid(axis="x", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
