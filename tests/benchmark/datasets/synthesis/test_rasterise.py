"""A spine sampled on a grid: labels and bone."""

from __future__ import annotations

import numpy as np

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import draw_spine
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.rasterise import render
from benchmark.datasets.synthesis.vertebra import local_coordinates, ribs_distance, signed_distance


def test_ribs_are_bone_without_a_label() -> None:
    spine = next(s for s in (draw_spine(PortableRng(n), 5) for n in range(50)) if s.labelled[-1] <= 18)
    grid = grid_around(spine, 1.0)
    labels, tissues = render(spine, grid, PortableRng(0, 1))
    ribs = (tissues.bone_mm < 0) & (labels == 0)
    for v in (v for v in spine.vertebrae if v.id in spine.labelled):
        box, distance = ribs_distance(v, grid)
        head = ribs[box] & (distance < 0)
        sides = np.sign(local_coordinates(v, grid, box)[0][head])
        assert (sides > 0).sum() > 300 and (sides < 0).sum() > 300, v.id
        alone_box, alone = signed_distance(v, grid)
        assert (labels[alone_box] == v.id).sum() > 0.93 * (alone < 0).sum()
    lumbar = next(v for s in (draw_spine(PortableRng(n), 5) for n in range(50)) for v in s.vertebrae if v.id == 22)
    assert ribs_distance(lumbar, grid)[1].size == 0
