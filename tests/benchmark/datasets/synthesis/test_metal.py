"""Pedicle screws and rods."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.metal import METAL_SHARE, metal_distance, with_metal_ct, with_metal_mr
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.rasterise import render_bones

SPINE = draw_spine(PortableRng(8), 5)
GRID = grid_around(SPINE, 1.0)


@pytest.fixture(scope="module")
def metal() -> np.ndarray:
    distance = metal_distance(SPINE, GRID, PortableRng(0), share=1.0)
    assert distance is not None
    return distance


def test_screws_are_rare() -> None:
    drawn = [metal_distance(SPINE, grid_around(SPINE, 4.0), PortableRng(n)) for n in range(200)]
    assert 0 < sum(d is not None for d in drawn) < 3 * METAL_SHARE * 200


def test_screws_lie_in_the_pedicles_of_neighbours_and_leave_the_canal_free(metal: np.ndarray) -> None:
    labels, _ = render_bones(SPINE, GRID)
    pierced = sorted(set(np.unique(labels[metal < 0])) - {0})
    assert 2 <= len(pierced) <= 3 and pierced == list(range(pierced[0], pierced[-1] + 1))
    for v in (v for v in SPINE.vertebrae if v.id in pierced):
        canal = np.rint(GRID.to_indices_xyz(v.to_world([0, (v.depth + v.canal_depth) / 2, 0]))).astype(int)[::-1]
        assert metal[tuple(canal)] > 3


@pytest.mark.parametrize("vertebrae", [1, 2])
def test_a_short_spine_has_screws_in_all_vertebrae_at_most(vertebrae: int) -> None:
    spine = draw_spine(PortableRng(8), vertebrae)
    for seed in range(4):
        assert metal_distance(spine, grid_around(spine, 2.0), PortableRng(seed), share=1.0) is not None


def test_metal_is_bright_in_ct_with_dark_streaks_to_the_sides(metal: np.ndarray) -> None:
    plain = np.full(GRID.shape, 40, np.float32)
    ct = with_metal_ct(plain, metal, GRID, PortableRng(0))
    assert ct[metal < -1].min() > 2500
    rows = (metal < 0).any(axis=2)
    beside = np.broadcast_to(rows[:, :, None], GRID.shape) & (metal > 5)
    assert ct[beside].mean() < -50
    far = np.broadcast_to((metal > 1).all(axis=(1, 2))[:, None, None], GRID.shape)
    np.testing.assert_allclose(ct[far], 40, atol=1e-3)


def test_metal_has_no_signal_in_mr(metal: np.ndarray) -> None:
    mr = with_metal_mr(np.ones(GRID.shape, np.float32), metal)
    assert mr[metal < 4].max() == 0
    assert (mr[metal > 8] == 1).all()
