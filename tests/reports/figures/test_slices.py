"""What is drawn from a run's pictures: Fig. 3, the field of Fig. 1, and which patient and slice are shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.synthetic import blocks_case, write_run

from benchmark.results.store import read_run
from reports.figures.fig1 import field_slice, fig1, fig1_data
from reports.figures.fig3 import circles, fig3, fig3_data
from reports.figures.slices import misplaced, read_slices, read_warped, typical_case
from reports.run_data import DataSet, Row, data_sets


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    lost = {("pc", 1): ("crashed", "no memory")}
    return write_run(tmp_path_factory.mktemp("slices") / "run", patients=3, lost=lost)


@pytest.fixture(scope="module")
def data(run_folder) -> DataSet:
    return data_sets(read_run(run_folder))[0]


def test_a_patients_slices_are_read_as_they_were_cut(run_folder):
    slices = read_slices(run_folder, "test-data-000")
    case = blocks_case("test-data-000")
    x = slices.where["sagittal"][0]  # the box is the whole of this small volume
    np.testing.assert_array_equal(slices.fixed_labels["sagittal"][0], case.pair.fixed.labels[:, :, x])
    assert slices.aspect("sagittal") == 1
    middle = slices.where["sagittal"][slices.fullest("sagittal")]
    assert abs(middle - 18) <= 2, "the ellipsoids are centred at 18 of 36"
    assert read_slices(run_folder, "nobody") is None
    assert read_warped(run_folder, Row("staring", "cuda", ""), "test-data-000") is None
    assert read_warped(run_folder, Row("initial", "", "Initial"), "test-data-000") is not None


def test_fig3_shows_the_typical_patient_and_every_row(run_folder, data):
    shown = fig3_data(data, run_folder)
    base = data.by_patient(data.find_row("voxelmorph"), "dsc").sort_values()
    # Of three patients one lost a cell; of the other two the lower median.
    assert shown.slices.case == next(case for case in base.index if case != "test-data-001")
    assert list(shown.warped) == ["Staring", "VoxelMorph", "pc", "volume"]
    figure = fig3(shown)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == ["Moving CT", "Staring", "VoxelMorph", "pc", "volume"]
    assert len(figure.axes) == 10


def test_case_and_slices_can_be_chosen_and_a_lost_cell_says_so(run_folder, data):
    shown = fig3_data(data, run_folder, case="test-data-001", sagittal=1, axial=6)
    assert (shown.slices.case, shown.chosen) == ("test-data-001", {"axial": 5, "sagittal": 0})
    assert shown.warped["pc"] is None
    assert "no result" in [text.get_text() for axes in fig3(shown).axes for text in axes.texts]
    with pytest.raises(ValueError, match="axial slice 7: expected 1 to 6"):
        fig3_data(data, run_folder, axial=7)
    with pytest.raises(ValueError, match="case nobody: expected a patient with pictures"):
        fig3_data(data, run_folder, case="nobody")


def test_the_typical_case_is_among_those_with_pictures(data):
    assert typical_case(data, ["test-data-001"]) == "test-data-001"
    assert typical_case(data, []) is None


def test_errors_are_labels_in_the_wrong_place_and_labels_that_are_missing():
    fixed = np.array([[20, 20, 0, 21]])
    warped = np.array([[20, 21, 20, 0]])
    too_much, missing = misplaced(warped, fixed)
    assert too_much.tolist() == [[False, True, True, False]]
    assert missing.tolist() == [[False, False, False, True]]


def test_circles_go_around_thick_errors_only():
    wrong = np.zeros((40, 40), bool)
    wrong[5, :] = True  # a rim of one voxel
    wrong[20:26, 10:14] = True
    (circle,) = circles(wrong, (1.0, 1.0))
    assert (circle.column, circle.row) == (11.5, 22.5)
    # Six by four voxels, a fifth wider on each side, and 2 mm.
    assert (circle.half_height, circle.half_width) == pytest.approx((6 * 0.6 + 2, 4 * 0.6 + 2))
    assert circles(wrong, (0.2, 0.2)) == [], "the same at a fifth of the size is thin"


def test_the_field_on_a_slice_is_cut_and_its_determinant_is_that_of_the_volume():
    z, y, x = np.mgrid[:8, :9, :7].astype(np.float32)
    # Stretch by 10 % along x, 20 % along z, in mm on a grid of 2 x 1 x 3 mm: |J| = 1.1 * 1.2.
    field = np.stack([0.1 * x * 2, 0 * y, 0.2 * z * 3], axis=-1)
    cut = field_slice(field, 3, (2.0, 1.0, 3.0))
    np.testing.assert_allclose(cut.determinant, 1.1 * 1.2, rtol=1e-5)
    np.testing.assert_allclose(cut.arrows_mm[..., 1], 0.6 * z[:, :, 0], rtol=1e-5)
    assert cut.arrows_mm.shape == (8, 9, 2)


def test_fig1_draws_the_display_case(run_folder, data):
    fields = fig1_data(data, run_folder)
    assert fields.slices.case == "test-data-000" and list(fields.rows) == ["Staring", "VoxelMorph", "pc", "volume"]
    figure = fig1(fields)
    assert [axes.get_title() for axes in figure.axes[:4]] == list(fields.rows)


def test_a_run_without_pictures_has_neither_figure(tmp_path, data):
    assert fig3_data(data, tmp_path) is None and fig1_data(data, tmp_path) is None
