"""Tapered rods, with distances by hand."""

from __future__ import annotations

import numpy as np

from benchmark.datasets.synthesis.rods import Rod, box_around, rod_distance, smooth_max
from methods.base import Grid

ROD = Rod((0, 0, 0), (10, 0, 0), (2.0, 1.0))


def at(*points: tuple[float, float, float]) -> np.ndarray:
    x, y, z = (np.array([[c]], np.float32).reshape(1, 1, -1) for c in zip(*points, strict=True))
    return rod_distance((x, y, z), ROD).ravel()


def test_distance_is_to_a_surface_that_tapers() -> None:
    np.testing.assert_allclose(at((0, 5, 0), (10, 0, 5), (5, 0, 0), (13, 0, 0)), [3.0, 4.0, -1.5, 2.0], atol=1e-6)


def test_a_stretched_rod_is_elliptic() -> None:
    rod = Rod((0, 0, 0), (10, 0, 0), (2.0, 2.0), (1, 1, 3))
    x, y, z = (np.full((1, 1, 1), v, np.float32) for v in (5, 0, 6))
    np.testing.assert_allclose(rod_distance((x, y, z), rod), 0, atol=1e-6)
    assert rod.reach_mm() == 6
    assert rod.thinner(0.5).radius == (1.0, 1.0)


def test_box_around_points_is_cut_by_the_grid() -> None:
    grid = Grid((10, 20, 30))
    box = box_around(np.array([[5.0, 6.0, 7.0], [8.0, 6.0, 7.0]]), grid, 1.0)
    assert box == (slice(6, 9), slice(5, 8), slice(4, 10))
    empty = box_around(np.array([[5.0, 60.0, 7.0]]), grid, 1.0)
    assert empty[1].start == empty[1].stop


def test_smooth_max_is_the_maximum_where_both_differ_by_more_than_the_width() -> None:
    a, b = np.array([0.0, 3.0], np.float32), np.array([2.5, 0.0], np.float32)
    np.testing.assert_allclose(smooth_max(a, b, 2.0), [2.5, 3.0])
    assert smooth_max(np.float32(1), np.float32(1), 2.0) == 1.5
