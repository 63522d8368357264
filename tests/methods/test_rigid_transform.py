"""Rigid transforms that a method reports are checked."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from methods.base import Grid, Registration
from methods.rigid_transform import check_rigid_transforms

RIGID = np.eye(4)
RIGID[:3, :3] = Rotation.from_euler("xyz", [10, -20, 5], degrees=True).as_matrix()
RIGID[:3, 3] = 3.0, -2.0, 7.0


def test_rigid_transforms_of_vertebrae_and_of_the_whole_image_are_accepted() -> None:
    check_rigid_transforms({0: RIGID, 20: np.eye(4)})


@pytest.mark.parametrize(
    ("transforms", "message"),
    [
        ({"20": RIGID}, "expected a VerSe id, or 0 for the whole image"),
        ({20: RIGID[:3]}, "expected a finite 4 x 4 matrix"),
        ({20: np.full((4, 4), np.nan)}, "expected a finite 4 x 4 matrix"),
        ({20: RIGID.T}, "last row 0 0 0 1"),
        ({20: np.diag([1.1, 1, 1, 1])}, "expected a rotation"),
        ({20: np.diag([-1.0, 1, 1, 1])}, "expected a rotation"),
    ],
)
def test_other_transforms_are_refused(transforms: dict, message: str) -> None:
    grid = Grid((2, 3, 4))
    with pytest.raises(ValueError, match=message):
        Registration(np.zeros((*grid.shape, 3), np.float32), {}, transforms).check(grid)
