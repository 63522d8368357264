"""The displacement between vertebrae, and the distances that weight it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from benchmark.datasets.synthesis.blending import blend, squared_distance
from methods.base import Grid

STILL = np.eye(3), np.zeros(3)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (2.5, 0.7, 1.3)])
def test_distances_are_those_of_scipy(spacing_mm: tuple[float, float, float]) -> None:
    mask = np.random.default_rng(0).random((4, 6, 5)) > 0.8
    mask[0, 0, 0] = mask[-1, -1, -1] = True
    whole = np.zeros((12, 9, 14), bool)
    whole[3:7, 2:8, 8:13] = mask
    found = squared_distance(mask, (3, 2, 8), whole.shape, spacing_mm).sqrt().numpy()
    assert np.allclose(found, distance_transform_edt(~whole, sampling=spacing_mm), rtol=1e-6)


def test_weights_between_two_voxels_are_as_by_hand() -> None:
    """Weights (max(d - 1, 0) + 0.2)^-3 by hand: 1.2^-3 at two millimetres, 4.2^-3 at five."""
    labels = np.zeros((1, 1, 8), np.uint16)
    labels[0, 0, 0], labels[0, 0, 7] = 20, 21
    field = blend(labels, {20: STILL, 21: (np.eye(3), np.array([0.0, 3.0, 0.0]))}, Grid(labels.shape))
    assert field.shape == (3, 1, 1, 8)
    near, far = 1.2**-3, 4.2**-3
    assert field[1, 0, 0, 2] == pytest.approx(3 * far / (near + far), rel=1e-5)
    assert field[1, 0, 0, 5] == pytest.approx(3 * near / (near + far), rel=1e-5)
    assert (field[[0, 2]] == 0).all()


def test_one_vertebra_alone_moves_everything_on_an_oblique_grid() -> None:
    direction = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
    grid = Grid((5, 6, 7), (0.8, 1.5, 2.2), (30.0, -80.0, 12.0), tuple(direction.ravel()))
    rotation, translation = Rotation.from_euler("z", 8, degrees=True).as_matrix(), np.array([1.0, -2.0, 4.0])
    labels = np.zeros(grid.shape, np.uint16)
    labels[2, 3, 3] = 22
    field = blend(labels, {22: (rotation, translation), 23: STILL}, grid)
    points = grid.points_mm()
    assert np.allclose(np.moveaxis(field, 0, -1), points @ rotation.T + translation - points, atol=1e-4)


def test_the_displacement_is_zero_without_a_vertebra() -> None:
    assert (blend(np.zeros((2, 3, 4), np.uint16), {20: STILL}, Grid((2, 3, 4))) == 0).all()
