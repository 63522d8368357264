"""The course of a spine by height."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.course import Course
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid

SPINE = draw_spine(PortableRng(4), 5)
GRID = grid_around(SPINE, 2.0)


def test_the_course_passes_the_centres_of_the_bodies() -> None:
    course = Course.of(SPINE, GRID)
    z = course.z.ravel()
    for v in SPINE.vertebrae[1:-1]:
        assert np.interp(v.centre_mm[2], z, course.body_x.ravel()) == pytest.approx(v.centre_mm[0], abs=0.5)
        assert np.interp(v.centre_mm[2], z, course.level.ravel()) == pytest.approx(v.id, abs=0.1)
    assert (np.diff(course.level.ravel()) <= 0).all(), "levels count downwards, z counts upwards"


def test_values_by_level_are_linear_between_levels() -> None:
    course = Course.of(SPINE, GRID)
    np.testing.assert_allclose(course.by_level((0, 30), (0, 60)), 2 * course.level, rtol=1e-5)


def test_a_deviation_is_the_same_on_a_coarser_grid() -> None:
    coarse = Grid((GRID.shape[0] // 2, *GRID.shape[1:]), (2.0, 2.0, 4.0), GRID.origin_mm)
    fine, low = (Course.of(SPINE, g).wander(PortableRng(0), 2.0).ravel() for g in (GRID, coarse))
    np.testing.assert_allclose(fine[::2], low, atol=1e-5)
    assert 0.5 < np.std(np.concatenate([Course.of(SPINE, GRID).wander(PortableRng(n), 2.0) for n in range(40)])) < 3


def test_an_ellipse_is_1_on_its_outline() -> None:
    course = Course.of(SPINE, GRID)
    inside = course.ellipse(10, 0, 12, 12) < 1
    area = inside.sum(axis=(1, 2)) * 4
    np.testing.assert_allclose(area[5:-5], np.pi * 144, rtol=0.1)
    both = course.ellipse(25, 0, 12, 12, mirrored=True) < 1
    assert both.sum() == pytest.approx(2 * inside.sum(), rel=0.1)
