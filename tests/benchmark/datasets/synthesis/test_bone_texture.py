"""Cortex and marrow of the bones."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.phantom import grid_around
from benchmark.datasets.synthesis.anatomy import Spine, draw_spine
from benchmark.datasets.synthesis.bone_texture import bone_texture
from benchmark.datasets.synthesis.contrast import Marrow
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import Ranges
from benchmark.datasets.synthesis.rasterise import render_bones
from benchmark.datasets.synthesis.vertebra import local_coordinates, signed_distance_box

SPINE = draw_spine(PortableRng(5), 5)
GRID = grid_around(SPINE, 1.0)
LABELS = render_bones(SPINE, GRID)[0]
RANGES = Ranges(
    body_shell_mm=(0.3, 0.31), endplate_shell_mm=(0.8, 0.81), arch_shell_mm=(1.2, 1.21), endplate_hu=(100, 101),
    marrow_sd_hu=(25, 26),
)  # fmt: skip


@pytest.fixture(scope="module")
def drawn() -> tuple[np.ndarray, Marrow]:
    return bone_texture(SPINE, LABELS, GRID, PortableRng(0, 1), RANGES)


def densities(seed: int, spine: Spine = SPINE) -> list[float]:
    _, marrow = bone_texture(spine, LABELS, GRID, PortableRng(seed, 1), RANGES)
    return [float(np.median(marrow.density_hu[v == LABELS])) for v in spine.labelled]


def test_the_cortex_of_endplates_and_arches_is_thicker_than_that_of_walls(drawn: tuple[np.ndarray, Marrow]) -> None:
    shell, _ = drawn
    for v in (v for v in SPINE.vertebrae if v.id in SPINE.labelled):
        box = signed_distance_box(v, GRID)
        _, y, z = local_coordinates(v, GRID, box)
        mine = LABELS[box] == v.id
        middle, end = (y < 0) & (np.abs(z) < 0.15 * v.height), (y < 0) & (np.abs(z) > v.height / 2 - 2)
        wall, endplate, arch = (shell[box][mine & part] for part in (middle, end, y > v.depth / 2 + 8))
        assert np.median(arch) > 2 * np.median(wall)
        assert np.median(endplate) > 1.3 * np.median(wall)
        assert wall.min() >= 0.15


def test_marrow_is_denser_below_the_endplates(drawn: tuple[np.ndarray, Marrow]) -> None:
    _, marrow = drawn
    for v in (v for v in SPINE.vertebrae if v.id in SPINE.labelled):
        box = signed_distance_box(v, GRID)
        x, y, z = local_coordinates(v, GRID, box)
        body = (LABELS[box] == v.id) & (np.hypot(x, y) < 0.3 * v.depth)
        density = marrow.density_hu[box]
        assert density[body & (np.abs(z) > v.height / 2 - 4)].mean() > density[body & (np.abs(z) < 4)].mean() + 20


def test_the_density_of_a_vertebra_does_not_name_its_level() -> None:
    values = np.array([densities(seed) for seed in range(12)])
    assert values.std(axis=1).min() > 5, "vertebrae of one patient differ"
    assert np.ptp(values.mean(axis=0)) < 60, "and no level is always dense"


def test_only_bone_has_marrow(drawn: tuple[np.ndarray, Marrow]) -> None:
    _, marrow = drawn
    for values in (marrow.density_hu, marrow.fat):
        assert values.dtype == np.float32
        assert not values[LABELS == 0].any()
