"""The soft tissues around a spine."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.contrast import Tissue
from benchmark.datasets.synthesis.course import Course
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import Ranges
from benchmark.datasets.synthesis.soft_tissue import soft_tissue

SPINE = draw_spine(PortableRng(0), 5)
GRID = grid_around(SPINE, 2.0)
COURSE = Course.of(SPINE, GRID)


@pytest.fixture(scope="module")
def soft() -> np.ndarray:
    return soft_tissue(SPINE, GRID, PortableRng(0, 1))


def share(soft: np.ndarray, tissue: Tissue, where: np.ndarray) -> float:
    return float((soft == tissue)[np.broadcast_to(where, soft.shape)].mean())


def test_air_lies_behind_the_skin_alone(soft: np.ndarray) -> None:
    behind = COURSE.dy > COURSE.back + 95
    assert not behind.any() or share(soft, Tissue.AIR, behind) > 0.99
    assert share(soft, Tissue.AIR, (COURSE.dy > COURSE.back) & (COURSE.dy < COURSE.back + 15)) < 0.01


def test_the_back_has_muscles_with_streaks_of_fat() -> None:
    behind = (np.abs(COURSE.dx) > 8) & (np.abs(COURSE.dx) < 30) & (np.abs(COURSE.dy - COURSE.back - 14) < 8)
    lean, fatty = (
        soft_tissue(SPINE, GRID, PortableRng(0, 1), Ranges(muscle_fat=f)) for f in ((0.01, 0.02), (0.3, 0.31))
    )
    assert share(lean, Tissue.MUSCLE, behind) > share(fatty, Tissue.MUSCLE, behind) + 0.15 > 0.5


def test_discs_lie_between_bodies(soft: np.ndarray) -> None:
    for above, below in zip(SPINE.vertebrae[1:-2], SPINE.vertebrae[2:-1], strict=True):
        top, low = above.to_world([0, 0, -above.height / 2]), below.to_world([0, 0, below.height / 2])
        z, y, x = np.rint(GRID.to_indices_xyz((top + low) / 2)).astype(int)[::-1]
        assert soft[z, y, x] in (Tissue.NUCLEUS, Tissue.ANNULUS, Tissue.AIR)


def test_the_canal_holds_csf_and_the_cord_or_roots(soft: np.ndarray) -> None:
    x, y = COURSE.canal_x - COURSE.body_x, COURSE.canal_y - COURSE.body_y
    canal = COURSE.ellipse(x, y, COURSE.canal_half_width, COURSE.canal_half_depth) < 1
    assert share(soft, Tissue.CSF, canal) > 0.2
    assert share(soft, Tissue.CORD, canal) > 0.03


def test_tissues_are_the_same_every_time_and_differ_between_patients(soft: np.ndarray) -> None:
    assert np.array_equal(soft, soft_tissue(SPINE, GRID, PortableRng(0, 1)))
    assert (soft != soft_tissue(SPINE, GRID, PortableRng(1, 1))).mean() > 0.05
