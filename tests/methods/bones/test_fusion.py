"""Distances to bones, weights and matrices against hand-computed values."""

from __future__ import annotations

import numpy as np
import torch
from support.bone_pairs import OBLIQUE, apply, spine, true_transform

from methods.base import Grid
from methods.bones.fusion import MARGIN_MM, BoneDistance, in_voxels, inverse_distance_weights


def test_the_distance_to_a_bone_is_in_millimetres_also_beyond_the_margin() -> None:
    """One voxel at (z, y, x) = (5, 6, 7), spacing (x, y, z) = (1, 2, 3): three voxels along z are 9 mm."""
    grid = Grid((10, 12, 14), (1.0, 2.0, 3.0))
    labels = np.zeros(grid.shape, np.uint16)
    labels[5, 6, 7] = 3
    points = torch.tensor([[5.0, 6, 7], [8, 6, 7], [5, 4, 7], [5, 6, 9.5], [45, 6, 7], [5, 6, -60]]).T[:, :, None, None]
    expected = [0, 9, 4, 2.5, 120, 67]
    assert MARGIN_MM < 60
    np.testing.assert_allclose(BoneDistance(labels, 3, grid)(points).flatten(), expected, atol=1e-4)


def test_weights_are_inverse_powers_of_distance() -> None:
    """Distances 1 and 2 mm give 4/5 and 1/5; inside one bone its weight is 1, inside two bones 1/2 each."""
    distances = torch.tensor([[1.0, 0.0, 0.0, 1e6], [2.0, 5.0, 0.0, 1e6]])
    np.testing.assert_allclose(
        inverse_distance_weights(distances, 2.0), [[0.8, 1, 0.5, 0.5], [0.2, 0, 0.5, 0.5]], atol=1e-6
    )


def test_a_transform_in_voxels_agrees_with_the_one_in_millimetres() -> None:
    transform = true_transform(20, spine(OBLIQUE), OBLIQUE)
    index_zyx = np.array([3.0, 10.0, 20.0])
    target_mm = apply(transform, OBLIQUE.to_points_mm(index_zyx[::-1]))
    np.testing.assert_allclose(apply(in_voxels(transform, OBLIQUE), index_zyx), OBLIQUE.to_indices_xyz(target_mm)[::-1])
