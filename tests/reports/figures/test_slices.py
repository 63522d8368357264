"""What is drawn from a run's pictures: Fig. 3, the field of Fig. 1, and which patient and slice are shown."""

from __future__ import annotations

import numpy as np
from support.synthetic import blocks_case

from reports.figures.slices import misplaced, read_slices, read_warped, typical_case
from reports.run_data import Row


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


def test_the_typical_case_is_among_those_with_pictures(data):
    assert typical_case(data, ["test-data-001"]) == "test-data-001"
    assert typical_case(data, []) is None


def test_errors_are_labels_in_the_wrong_place_and_labels_that_are_missing():
    fixed = np.array([[20, 20, 0, 21]])
    warped = np.array([[20, 21, 20, 0]])
    too_much, missing = misplaced(warped, fixed)
    assert too_much.tolist() == [[False, True, True, False]]
    assert missing.tolist() == [[False, False, False, True]]
