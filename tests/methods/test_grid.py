"""Voxel positions agree with SimpleITK, and a grid that no image can have is refused."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from methods.base import Grid
from methods.geometry import to_sitk

OBLIQUE = tuple(Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix().ravel())


def test_voxel_centres_are_those_of_simpleitk() -> None:
    grid = Grid((9, 11, 13), (0.7, 1.1, 2.5), (-31.0, 12.5, 140.0), OBLIQUE)
    image = to_sitk(np.zeros(grid.shape, np.float32), grid)
    points = grid.points_mm()
    assert points.shape == (*grid.shape, 3)
    np.testing.assert_allclose(points[3, 4, 5], image.TransformIndexToPhysicalPoint((5, 4, 3)), atol=1e-9)
    np.testing.assert_allclose(grid.to_indices_xyz(points[3, 4, 5]), (5, 4, 3), atol=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"shape": (2, 3)}, "shape: expected three positive integers"),
        ({"shape": (2, 3, 0)}, "shape: expected three positive integers"),
        ({"spacing_mm": (1.0, 0.0, 1.0)}, "spacing_mm: expected three positive lengths"),
        ({"origin_mm": (0.0, np.nan, 0.0)}, "origin_mm: expected three finite coordinates"),
        ({"direction": (1.0, 0.0, 0.0, 0.0, 2.0, 0.0, 0.0, 0.0, 1.0)}, "direction: expected an orthonormal"),
    ],
)
def test_a_grid_that_no_image_can_have_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Grid(**{"shape": (2, 3, 4), **arguments})
