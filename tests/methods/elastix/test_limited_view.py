"""Resolutions that fit into a mask, by hand, and the erosion of masks."""

from __future__ import annotations

import numpy as np
import pytest

from methods.elastix import limited_view, parameter_file


def mask_of(z: int, y: int, x: int) -> np.ndarray:
    mask = np.zeros((120, 100, 80), bool)
    mask[5 : 5 + z, 7 : 7 + y, 9 : 9 + x] = True
    return mask


@pytest.mark.parametrize(
    ("width", "left", "schedule"),
    [(64, 0, "444222111"), (63, 1, "222111"), (32, 1, "222111"), (31, 2, "111"), (3, 2, "111")],
)
def test_resolutions_with_fewer_than_16_voxels_across_the_mask_are_left_out(
    width: int, left: int, schedule: str
) -> None:
    parameters = parameter_file.read(parameter_file.locate("rigid"))
    found, left_out = limited_view.with_fitting_resolutions(parameters, mask_of(100, 90, width))
    assert left_out == left
    assert "".join(found["ImagePyramidSchedule"]) == schedule
    assert found["NumberOfResolutions"] == (str(3 - left),)


def test_values_for_each_resolution_lose_the_first_and_others_stay() -> None:
    paper = parameter_file.read(parameter_file.locate("paper"))
    paper["CenterOfRotationPoint"] = ("1", "2", "3")
    found, left_out = limited_view.with_fitting_resolutions(paper, mask_of(40, 90, 70))
    assert left_out == 1
    assert found["SP_a"] == ("120000.0", "70000.0") and found["NumberOfHistogramBins"] == ("64", "100")
    assert found["DilateRigidityImages"] == ("false", "false")
    same = ("Metric", "Metric0Weight", "MaximumNumberOfIterations", "CenterOfRotationPoint")
    assert all(found[name] == paper[name] for name in same)


@pytest.mark.parametrize("schedule", [(), ("4", "2", "1"), ("4.5",) * 9])
def test_other_schedules_are_kept(schedule: tuple[str, ...]) -> None:
    parameters = {"NumberOfResolutions": ("3",), "ImagePyramidSchedule": schedule}
    assert limited_view.with_fitting_resolutions(parameters, mask_of(3, 3, 3)) == (parameters, 0)


def test_masks_are_eroded_unless_too_little_is_left() -> None:
    parameters = {"ImagePyramidSchedule": ("4", "4", "4", "1", "1", "1")}
    assert limited_view.erodes(None, parameters) == "true"
    assert limited_view.erodes(mask_of(60, 60, 60), parameters) == "true"
    assert limited_view.erodes(mask_of(60, 60, 10), parameters) == "false"
