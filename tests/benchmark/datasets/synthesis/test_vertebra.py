"""The implicit surface of one vertebra."""

from __future__ import annotations

from dataclasses import replace

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.vertebra import Spur, local_coordinates, signed_distance


def test_a_spur_adds_bone_at_the_rim() -> None:
    spine = draw_spine(PortableRng(3), 5)
    plain = replace(spine.vertebrae[3], spurs=(), waves=())
    grid = grid_around(spine, 1.0)
    box, without = signed_distance(plain, grid)
    large_box, with_spur = signed_distance(replace(plain, spurs=(Spur(0.0, 1, 4.0),)), grid)
    _, y, z = local_coordinates(plain, grid, large_box)
    new = with_spur < 0
    new[tuple(slice(b.start - c.start, b.stop - c.start) for b, c in zip(box, large_box, strict=True))] &= without >= 0
    assert 20 < new.sum() < 400
    assert (y[new] < -0.35 * plain.depth).all() and (z[new] > 0).all(), "at the front of the upper rim"
    assert 1 < -y[new].min() - plain.depth / 2 < 7
