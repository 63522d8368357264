"""The figure of the chapter "Loss or network"."""

from __future__ import annotations

from support.both_families import with_both_families

from reports.figures.penalties import penalties_figure
from reports.stats.loss_or_network import effects


def test_each_measure_has_a_panel_and_each_family_its_marks(empty):
    data = with_both_families(empty, 6).data()
    figure = penalties_figure(effects(data), data.columns)
    assert len(figure.axes) == 4
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert labels == ["pc", "oc", "pc+oc"]
    _, families = figure.axes[0].get_legend_handles_labels()
    assert families == ["network", "optimisation", "both"]


def test_few_patients_are_drawn_without_intervals(empty):
    data = with_both_families(empty, 2).data()
    assert penalties_figure(effects(data), data.columns).axes
