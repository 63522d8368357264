"""Lungs, vessels and organs at the levels of sectional anatomy."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import Spine, draw_spine
from benchmark.datasets.synthesis.contrast import Tissue
from benchmark.datasets.synthesis.course import Course
from benchmark.datasets.synthesis.organs import paint_organs
from benchmark.datasets.synthesis.random import PortableRng, smooth_noise


def painted(spine: Spine, seed: int = 0) -> tuple[np.ndarray, Course]:
    grid = grid_around(spine, 2.0)
    course, rng = Course.of(spine, grid), PortableRng(seed, 1)
    soft = np.full(grid.shape, Tissue.FAT, np.uint8)
    paint_organs(soft, course, smooth_noise(rng, grid, 11.0), rng)
    return soft, course


def spine_between(top: int, bottom: int) -> Spine:
    spines = (draw_spine(PortableRng(n)) for n in range(300))
    return next(s for s in spines if s.labelled[0] <= top and s.labelled[-1] >= bottom)


@pytest.fixture(scope="module")
def thoracic() -> tuple[np.ndarray, Course]:
    return painted(spine_between(12, 16))


@pytest.fixture(scope="module")
def lumbar() -> tuple[np.ndarray, Course]:
    return painted(spine_between(20, 24))


def test_lungs_touch_the_thoracic_bodies_and_end_above_l1(
    thoracic: tuple[np.ndarray, Course], lumbar: tuple[np.ndarray, Course]
) -> None:
    soft, course = thoracic
    beside = (np.abs(np.abs(course.dx) - course.half_width - 14) < 3) & (np.abs(course.dy) < 5)
    level = (course.level > 12) & (course.level < 16)
    assert (soft[beside & level] == Tissue.LUNG).mean() > 0.8
    soft, course = lumbar
    assert not ((soft == Tissue.LUNG) & (course.level > 20.5)).any()


def test_the_aorta_lies_left_of_the_cava_and_in_front_of_the_bodies(lumbar: tuple[np.ndarray, Course]) -> None:
    soft, course = lumbar
    above_fork = (course.level > 20) & (course.level < 22)
    positions = {}
    for tissue in (Tissue.VESSEL, Tissue.VEIN):
        where = (soft == tissue) & above_fork
        positions[tissue] = np.broadcast_to(course.dx, soft.shape)[where].mean()
        assert np.broadcast_to(course.dy, soft.shape)[where].mean() < -10
    assert positions[Tissue.VESSEL] > 0 > positions[Tissue.VEIN]


def test_the_heart_is_thoracic_and_bowel_is_not(
    thoracic: tuple[np.ndarray, Course], lumbar: tuple[np.ndarray, Course]
) -> None:
    soft, course = lumbar
    assert not ((soft == Tissue.HEART) & (course.level > 18.6)).any()
    assert (soft == Tissue.BOWEL).any()
    soft, course = thoracic
    assert (soft == Tissue.HEART).any()
    assert not ((soft == Tissue.BOWEL) & (course.level < 18)).any()
