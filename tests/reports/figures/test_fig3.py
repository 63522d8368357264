"""Fig. 3: which patient, slices and rows it shows, and which errors it encircles."""

from __future__ import annotations

import numpy as np
import pytest

from reports.figures.fig3 import circles, fig3, fig3_data


def test_fig3_shows_the_typical_patient_and_every_row(run_folder, data):
    shown = fig3_data(data, run_folder)
    base = data.by_case(data.find_row("voxelmorph"), "dsc").sort_values()
    # Of three patients one lost a cell; of the other two the lower median.
    assert shown.slices.case == next(case for case in base.index if case != "test-data-001")
    assert list(shown.warped) == ["Staring", "VoxelMorph", "pc", "volume"]
    figure = fig3(shown)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["Moving CT", "Fixed MR", "Initial", "Staring", "VoxelMorph", "pc", "volume"]
    assert len(figure.axes) == 14
    drawn = {axes.get_title(): len(axes.collections) for axes in figure.axes if axes.get_title()}
    assert drawn["Fixed MR"] == 0 and drawn["Initial"] > 0, "the scan alone, then the labels before registration"
    assert "against those of the fixed MR" in figure.get_supxlabel().replace("\n", " ")


def test_case_and_slices_can_be_chosen_and_a_lost_cell_is_labelled(run_folder, data):
    shown = fig3_data(data, run_folder, case="test-data-001", sagittal=1, axial=6)
    assert (shown.slices.case, shown.chosen) == ("test-data-001", {"axial": 5, "sagittal": 0})
    assert shown.warped["pc"] is None
    assert "no result" in [text.get_text() for axes in fig3(shown).axes for text in axes.texts]
    with pytest.raises(ValueError, match="axial slice 7: expected 1 to 6"):
        fig3_data(data, run_folder, axial=7)
    with pytest.raises(ValueError, match="case nobody: expected a patient with pictures"):
        fig3_data(data, run_folder, case="nobody")


def test_circles_go_around_thick_errors_only():
    wrong = np.zeros((40, 40), bool)
    wrong[5, :] = True  # a rim of one voxel
    wrong[20:26, 10:14] = True
    (circle,) = circles(wrong, (1.0, 1.0))
    assert (circle.column, circle.row) == (11.5, 22.5)
    # Six by four voxels, a fifth wider on each side, and 2 mm.
    assert (circle.half_height, circle.half_width) == pytest.approx((6 * 0.6 + 2, 4 * 0.6 + 2))
    assert circles(wrong, (0.2, 0.2)) == [], "the same at a fifth of the size is thin"


def test_a_run_without_pictures_has_no_fig3(tmp_path, data):
    assert fig3_data(data, tmp_path) is None
