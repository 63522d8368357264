"""The erosion of masks."""

from __future__ import annotations

import numpy as np

from methods.elastix import limited_view


def mask_of(z: int, y: int, x: int) -> np.ndarray:
    mask = np.zeros((120, 100, 80), bool)
    mask[5 : 5 + z, 7 : 7 + y, 9 : 9 + x] = True
    return mask


def test_masks_are_eroded_unless_too_little_is_left() -> None:
    parameters = {"ImagePyramidSchedule": ("4", "4", "4", "1", "1", "1")}
    assert limited_view.erodes(None, parameters) == "true"
    assert limited_view.erodes(mask_of(60, 60, 60), parameters) == "true"
    assert limited_view.erodes(mask_of(60, 60, 10), parameters) == "false"
