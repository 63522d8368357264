"""The figure of penalties at several weights."""

from __future__ import annotations

import pandas as pd

from benchmark.results.columns import all_declared
from reports.figures.curves import curves_figure


def test_each_penalty_is_a_line_in_a_panel_for_each_accuracy_and_gain():
    lines = [
        {"name": name, "penalty": name, "factor": factor, "dsc": 0.7, "tre_mm": 1.0, "rigid_dsc": 0.9,
         "volume_change_pct": 2.0}
        for name in ("pc", "oc") for factor in (0.1, 1.0, 10.0)
    ]  # fmt: skip
    figure = curves_figure(pd.DataFrame(lines), all_declared())
    assert len(figure.axes) == 4 and all(len(axes.lines) == 2 for axes in figure.axes)
    assert figure.axes[0].get_xlabel() == "Rigid DSC ↑" and figure.axes[2].get_ylabel() == "TRE [mm] ↓"
