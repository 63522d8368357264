"""Fig. 2: its data, and properties of the drawn figure."""

from __future__ import annotations

import matplotlib
import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from reports.figures.fig2 import PANELS, axis_limits, fig2, fig2_data
from reports.paper import colour
from reports.run_data import data_sets


def data_of(run) -> pd.DataFrame:
    return fig2_data(run.data())


def points(axes) -> list[np.ndarray]:
    """The values of the points of each box, in the order of the boxes."""
    return [np.asarray(collection.get_offsets())[:, 1] for collection in axes.collections]


def test_the_data_are_the_tables_vertebrae_in_the_tables_order(two_patients):
    two_patients.cell("staring", "a", {20: (0.3, 0.4, 5.0), 21: (0.2, 0.4, 6.0)})
    two_patients.cell("staring", "b", {20: (0.0, 0.0, 99.0)}, status="failed")
    data = data_of(two_patients)
    assert list(dict.fromkeys(data["row"])) == ["Initial", "Staring", "VoxelMorph"]
    by_row = dict(list(data.groupby("row")))
    assert list(by_row["Initial"]["dsc"]) == [0.5, 0.6, 0.7]
    assert list(by_row["Initial"]["rigid_dsc"]) == [0.8, 0.9, 1.0]
    assert list(by_row["Staring"]["volume_change_pct"]) == [5.0, 6.0]


def test_every_vertebra_is_a_point_beside_its_box_in_its_methods_colour(two_patients):
    data = data_of(two_patients)
    figure = fig2(data)
    assert len(figure.axes) == len(PANELS)
    for axes, (column, _, _) in zip(figure.axes, PANELS, strict=True):
        for drawn, (name, part) in zip(points(axes), data.groupby("row", sort=False), strict=True):
            assert list(drawn) == list(part[column]), name
        for place, collection in enumerate(axes.collections):
            across = np.asarray(collection.get_offsets())[:, 0]
            box = axes.patches[place].get_path().vertices[:, 0]
            assert across.min() > box.max()
            assert across.max() < place + 0.5
        shades = [to_hex(collection.get_facecolor()[0]).upper() for collection in axes.collections]
        assert shades == [colour("initial"), colour("voxelmorph")]


def test_axes_are_fitted_to_the_values(two_patients):
    limits = [axes.get_ylim() for axes in fig2(data_of(two_patients)).axes]
    # DSC 0.5 to 0.9, rigid DSC 0.8 to 1 and volume change from 0 to 8, with a margin of 4 %; no DSC is above 1.
    np.testing.assert_allclose(limits, [(0.484, 0.916), (0.792, 1.0), (0.0, 8.32)])


def test_an_axis_of_equal_values_has_a_span():
    assert axis_limits("rigid_dsc", pd.Series([1.0, 1.0])) == pytest.approx((0.948, 1.0))
    assert axis_limits("volume_change_pct", pd.Series([0.0, 0.0])) == pytest.approx((0.0, 1.04))


def test_the_papers_axes_widen_for_an_outlier_instead_of_hiding_it(two_patients):
    data = data_of(two_patients)
    inside = data.assign(rigid_dsc=data["rigid_dsc"] * 0.9)
    drawn_in_paper_axes = fig2(inside, paper_axes=True).axes
    assert [axes.get_ylim() for axes in drawn_in_paper_axes] == [(0.2, 0.95), (0.55, 0.97), (0.0, 50.0)]
    two_patients.cell("oc", "a", {20: (0.05, 0.1, 180.0), 21: (0.6, 0.8, 3.0)})
    for axes in fig2(data_of(two_patients), paper_axes=True).axes:
        low, high = axes.get_ylim()
        assert all(((low <= drawn) & (drawn <= high)).all() for drawn in points(axes))


def test_only_initial_is_hatched(two_patients):
    for axes in fig2(data_of(two_patients)).axes:
        assert [bool(patch.get_hatch()) for patch in axes.patches] == [True, False]


def test_a_row_without_results_keeps_its_place_with_a_label(two_patients):
    two_patients.cell("staring", "a", {}, status="failed")
    axes = fig2(data_of(two_patients)).axes[0]
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["Initial", "Staring", "VoxelMorph"]
    assert [(text.get_text(), text.get_position()[0]) for text in axes.texts] == [("no result", 1)]


def test_the_caption_counts_vertebrae_and_names_rows_with_fewer(two_patients):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)})
    caption = fig2(data_of(two_patients)).get_supxlabel()
    assert caption.startswith("3 vertebrae of 2 patients, one point each (fewer: oc 2).")
    assert "the labels of the fixed MR and the moving CT, before registration" in caption


def test_drawing_leaves_inputs_and_global_style_alone(two_patients):
    run = two_patients.run()
    frames = (run.pairs, run.vertebrae, run.cases)
    before = [frame.copy(deep=True) for frame in frames]
    style = dict(matplotlib.rcParams)
    data = fig2_data(data_sets(run)[0])
    copy = data.copy(deep=True)
    fig2(data)
    assert dict(matplotlib.rcParams) == style
    pd.testing.assert_frame_equal(data, copy)
    for frame, unchanged in zip(frames, before, strict=True):
        pd.testing.assert_frame_equal(frame, unchanged)
