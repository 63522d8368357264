"""The README's picture: which rows it shows."""

from __future__ import annotations

from reports.figures.before_after import before_after, best_rows
from reports.figures.fig3 import fig3_data


def test_it_shows_the_best_classical_row_and_the_best_network(run_folder, data):
    rows = best_rows(data)
    networks = [row for row in data.measured_rows if row.method in data.networks]
    best = max(networks, key=lambda row: data.values(row, "dsc").mean())
    assert [row.label for row in rows] == ["Staring", best.label]
    figure = before_after(data, fig3_data(data, run_folder))
    assert [axes.get_title() for axes in figure.axes] == ["Moving CT", "Before", "Staring", best.label]


def test_rigid_is_a_control_and_no_classical_row(two_patients):
    two_patients.cell("staring", "a", {20: (0.7, 0.8, 1.0)})
    two_patients.cell("rigid", "a", {20: (0.9, 0.8, 1.0)})
    data = two_patients.data()
    assert [row.method for row in best_rows(data)] == ["staring", "voxelmorph"]
