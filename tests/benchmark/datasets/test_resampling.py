"""Grids and resampling against values by hand."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import SimpleITK as sitk

from benchmark.datasets.resampling import (
    IDENTITY,
    MARGIN_MM,
    Rigid,
    crop_grid,
    isotropic_grid,
    resample_displacement,
    resample_image,
    resample_scan,
)
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

# Index x runs along +y of the patient, index y along -x, index z along +z.
QUARTER_TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
TURNED_GRID = Grid((4, 3, 2), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), QUARTER_TURN)


def test_isotropic_grid_by_hand() -> None:
    """Voxel edges of TURNED_GRID: x from 10 - 7.5 to 10 + 1.5, y from 19 to 23, z from 28 to 44."""
    assert isotropic_grid(TURNED_GRID) == Grid((16, 4, 9), (1.0, 1.0, 1.0), (3.0, 19.5, 28.5))


def test_the_isotropic_grid_of_a_1_mm_lps_volume_is_the_same() -> None:
    grid = Grid((7, 8, 9), (1.0, 1.0, 1.0), (-34.2, 0.25, 100.0))
    assert isotropic_grid(grid) == grid


def test_the_isotropic_grid_does_not_depend_on_the_orientation() -> None:
    image = to_sitk(np.zeros((5, 6, 7), np.float32), Grid((5, 6, 7), (0.9, 2.0, 3.3), (12.0, -30.4, 5.0)))
    expected = isotropic_grid(from_sitk(image)[1])
    for order, flips in product(permutations(range(3)), product([False, True], repeat=3)):
        stored = sitk.Flip(sitk.PermuteAxes(image, order), flips)
        assert isotropic_grid(from_sitk(stored)[1]) == expected


def test_crop_grid_by_hand() -> None:
    """x: voxels 10 to 15 and 2 mm on each side are 10 voxels, so 16: 3 more on each side. y: exactly 16 voxels."""
    grid = Grid((50, 50, 50), (1.0, 1.0, 1.0), (100.0, 200.0, 300.0))
    points = np.array([[110.0, 206.0, 300.0], [115.0, 217.0, 312.5]])
    cropped = crop_grid(grid, points, margin_mm=2.0, multiple=16)
    assert cropped == Grid((32, 16, 16), (1.0, 1.0, 1.0), (105.0, 204.0, 291.0))


def test_crop_grid_has_margin_and_sizes_divisible_by_16() -> None:
    points = np.random.default_rng(0).uniform(-60, 60, (20, 3))
    grid = crop_grid(Grid((20, 20, 20), origin_mm=(0.3, 0.4, 0.5)), points)
    assert all(n % 16 == 0 for n in grid.shape)
    low, high = np.array(grid.origin_mm), grid.to_points_mm(np.array(grid.shape[::-1]) - 1)
    margins = np.concatenate([points.min(axis=0) - low, high - points.max(axis=0)])
    assert MARGIN_MM == 20, "as decided in FACTS.md"
    assert (margins >= MARGIN_MM - 1e-2).all() and (margins < MARGIN_MM + 9).all()


def test_labels_over_more_than_1200_mm_are_refused() -> None:
    with pytest.raises(BadInput, match=r"1200 mm.*1e\+09 mm"):
        crop_grid(Grid((2, 2, 2)), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 1e9]]))


def test_resampling_onto_the_same_grid_is_the_identity() -> None:
    grid = Grid((5, 6, 7), (0.8, 1.5, 2.0), (1.0, 2.0, 3.0))
    image = np.random.default_rng(0).normal(0, 500, grid.shape).astype(np.float32)
    np.testing.assert_allclose(resample_image(image, grid, grid), image, rtol=1e-6)


def test_the_image_is_read_at_the_transformed_point() -> None:
    """image(p) = 3x, read 1 mm further along x: 3(x + 1), and the outside value after the last voxel."""
    grid, onto = Grid((3, 3, 6), (2.0, 2.0, 2.0)), Grid((1, 1, 14), (1.0, 1.0, 1.0), (0.0, 2.0, 2.0))
    image = (3 * grid.points_mm()[..., 0]).astype(np.float32)
    found = resample_image(image, grid, onto, Rigid(np.eye(3), np.array([1.0, 0.0, 0.0])), outside=-1000.0)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0], [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, -1000, -1000, -1000, -1000])


def test_outside_the_image_lies_the_nearest_seen_value() -> None:
    """Voxels of 2 mm from -1 to 11 mm: a point at 11 mm still lies in one, a point at 12 mm does not."""
    grid, onto = Grid((3, 3, 6), (2.0, 2.0, 2.0)), Grid((1, 1, 14), (1.0, 1.0, 1.0), (0.0, 2.0, 2.0))
    image = (3 * grid.points_mm()[..., 0]).astype(np.float32)
    found, inside = resample_scan(image, grid, onto, Rigid(np.eye(3), np.array([1.0, 0.0, 0.0])))
    assert found.dtype == np.float32 and inside is not None and inside.dtype == bool
    np.testing.assert_allclose(found[0, 0], [3, 6, 9, 12, 15, 18, 21, 24, 27, 30, 30, 30, 30, 30])
    np.testing.assert_array_equal(inside[0, 0], [True] * 10 + [False] * 4)


def test_padding_has_no_influence_on_a_resampled_scan() -> None:
    grid, onto = Grid((4, 4, 8), (2.0, 2.0, 2.0)), Grid((8, 8, 16), (1.0, 1.0, 1.0))
    image = np.random.default_rng(0).random(grid.shape, np.float32)
    seen = np.ones(grid.shape, bool)
    seen[..., 5:] = False
    results = [resample_scan(np.where(seen, image, np.float32(value)), grid, onto, seen=seen) for value in (0, -9e9)]
    np.testing.assert_array_equal(results[0][0], results[1][0])
    filled, inside = results[0]
    assert inside is not None and inside[0, 0].tolist() == [True] * 9 + [False] * 7
    np.testing.assert_array_equal(filled[..., 9:], np.broadcast_to(filled[..., 8:9], (8, 8, 7)))
    np.testing.assert_allclose(filled[::2, ::2, 0], image[..., 0])


def test_a_scan_of_a_whole_grid_equals_the_resampled_image() -> None:
    grid, onto = Grid((6, 6, 6), (2.0, 2.0, 2.0)), Grid((7, 7, 7), (1.0, 1.0, 1.0), (2.0, 1.5, 1.0))
    image = np.random.default_rng(0).random(grid.shape, np.float32)
    found, inside = resample_scan(image, grid, onto)
    assert inside is None
    np.testing.assert_array_equal(found, resample_image(image, grid, onto))


def test_true_displacement_after_pre_alignment_by_hand() -> None:
    """The truth is 5 mm along x; pre-alignment is a quarter turn about z and 3 mm along x: p + 5 = R q + 3."""
    grid = Grid((2, 2, 2), (10.0, 10.0, 10.0))
    u = np.zeros((2, 2, 2, 3), np.float32)
    u[..., 0] = 5.0
    turn = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    found = resample_displacement(u, grid, grid, Rigid(turn, np.array([3.0, 0.0, 0.0])))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 0], (0, -2, 0), atol=1e-6)  # R q = (2, 0, 0), q = (0, -2, 0)
    np.testing.assert_allclose(found[0, 0, 1], (-10, -12, 0), atol=1e-6)  # p = (10, 0, 0), q = (0, -12, 0)


def test_a_true_displacement_has_its_border_value_outside_its_grid() -> None:
    u = np.full((2, 2, 2, 3), 4.0, np.float32)
    found = resample_displacement(u, Grid((2, 2, 2)), Grid((8, 8, 8), origin_mm=(-3.0, -3.0, -3.0)), IDENTITY)
    np.testing.assert_allclose(found, 4.0, atol=1e-6)
