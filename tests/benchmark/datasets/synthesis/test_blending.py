"""The displacement between vertebrae, and the distances that weight it."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from benchmark.datasets.synthesis.blending import (
    Coarse,
    Rigid,
    blend,
    bone_distances,
    grid_points,
    refine,
    smooth_step,
    squared_distance,
)
from methods.base import Grid

STILL = np.eye(3), np.zeros(3)


def blended(labels: np.ndarray, motions: dict[int, Rigid], grid: Grid, *options: float) -> np.ndarray:
    return blend(bone_distances(labels, list(motions), grid), (motions,), grid, *options)[0]


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
    field = blended(labels, {20: STILL, 21: (np.eye(3), np.array([0.0, 3.0, 0.0]))}, Grid(labels.shape))
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
    field = blended(labels, {22: (rotation, translation), 23: STILL}, grid)
    points = grid.points_mm()
    assert np.allclose(np.moveaxis(field, 0, -1), points @ rotation.T + translation - points, atol=1e-4)


def test_the_displacement_is_zero_without_a_vertebra() -> None:
    assert (blended(np.zeros((2, 3, 4), np.uint16), {20: STILL}, Grid((2, 3, 4))) == 0).all()


def test_exponent_and_shares_weigh_as_by_hand_and_motions_share_the_weights() -> None:
    """With exponent 2 and a share of 3: 3 * 1.2^-2 at two millimetres against 4.2^-2 at five."""
    labels = np.zeros((1, 1, 8), np.uint16)
    labels[0, 0, 0], labels[0, 0, 7] = 20, 21
    grid = Grid(labels.shape)
    up = {20: STILL, 21: (np.eye(3), np.array([0.0, 3.0, 0.0]))}
    twice = {20: STILL, 21: (np.eye(3), np.array([0.0, 6.0, 0.0]))}
    first, second = blend(bone_distances(labels, [20, 21], grid), (up, twice), grid, 2.0, {20: 3.0, 21: 1.0})
    near, far = 3 * 1.2**-2, 4.2**-2
    assert first[1, 0, 0, 2] == pytest.approx(3 * far / (near + far), rel=1e-5)
    np.testing.assert_allclose(second, 2 * first, rtol=1e-6)


@pytest.mark.parametrize("shape", [(5, 8, 9), (4, 7, 2)])
def test_coarse_nodes_lie_on_every_second_voxel_and_refining_is_exact_for_a_plane(shape: tuple[int, int, int]) -> None:
    grid = Grid(shape, (1.0, 0.9, 2.0), (3.0, 4.0, 5.0))
    labels = np.arange(np.prod(shape)).reshape(shape)
    coarse = Coarse.of(labels, grid)
    assert coarse.factors == (1, 2, 2) and coarse.grid.spacing_mm == (2.0, 1.8, 2.0)
    inner = tuple(slice(0, (n + f - 1) // f) for n, f in zip(shape, coarse.factors, strict=True))
    assert np.array_equal(coarse.labels[inner], labels[:, ::2, ::2])
    box, weights = coarse.fine_box()
    assert box == tuple(slice(0, n) for n in shape)
    np.testing.assert_allclose(refine(grid_points(coarse.grid), weights), grid_points(grid), atol=1e-5)
    part = (slice(1, 3), slice(1, 9), slice(0, 1))
    box, weights = coarse.fine_box(part)
    part_points = refine(grid_points(coarse.grid)[(slice(None), *part)], weights)
    np.testing.assert_allclose(part_points, grid_points(grid)[(slice(None), *box)], atol=1e-5)


def test_points_of_an_oblique_grid() -> None:
    direction = Rotation.from_euler("xyz", (20, -35, 50), degrees=True).as_matrix()
    grid = Grid((5, 6, 7), (0.8, 1.5, 2.2), (30.0, -80.0, 12.0), tuple(direction.ravel()))
    expected = np.moveaxis(grid.points_mm(), -1, 0)
    np.testing.assert_allclose(grid_points(grid), expected, atol=1e-4)
    np.testing.assert_allclose(grid_points(grid, np.index_exp[1:3, 2:9, :4]), expected[:, 1:3, 2:9, :4], atol=1e-4)


def test_the_step_is_half_in_the_middle_and_flat_at_both_ends() -> None:
    assert smooth_step(np.array([-1.0, 0.0, 0.5, 1.0, 4.0])).tolist() == [0, 0, 0.5, 1, 1]
    assert smooth_step(np.array([0.01])) < 0.001 and smooth_step(np.array([0.99])) > 0.999
