"""Drawn spines: sexes, ages, spurs and collapsed vertebrae."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.datasets.phantom import Phantom, anatomy_stream, grid_around
from benchmark.datasets.synthesis.anatomy import Spine, draw_spine
from benchmark.datasets.synthesis.vertebra import Vertebra, local_coordinates, signed_distance


@pytest.fixture(scope="module")
def spines() -> list[Spine]:
    phantom = Phantom("phantom")
    names = [name for split in ("train", "val", "test") for name in phantom.cases(split)]
    return [draw_spine(anatomy_stream(name)) for name in names]


def labelled(spine: Spine) -> list[Vertebra]:
    return [v for v in spine.vertebrae if v.id in spine.labelled]


def test_women_have_three_quarters_of_the_cross_section_of_men(spines: list[Spine]) -> None:
    """Gilsanz et al. 1994. The ratio is taken for each level, since patients have different levels."""
    area = {woman: {v: [] for v in range(8, 25)} for woman in (True, False)}
    for spine in spines:
        for v in labelled(spine):
            area[spine.woman][v.id].append(v.width * v.depth)
    ratios = [np.mean(area[True][v]) / np.mean(area[False][v]) for v in range(16, 25)]
    assert np.mean(ratios) == pytest.approx(0.75, abs=0.04)
    assert 0.4 < np.mean([s.woman for s in spines]) < 0.6


def test_sizes_vary_less_within_a_patient_than_between_patients(spines: list[Spine]) -> None:
    """Sizes are relative to the mean of the level."""
    levels: dict[int, list[float]] = {}
    for spine in spines:
        for v in labelled(spine):
            levels.setdefault(v.id, []).append(v.width)
    relative = [[v.width / np.mean(levels[v.id]) for v in labelled(s)] for s in spines]
    assert np.mean([np.std(r) for r in relative]) < 0.5 * np.std([np.mean(r) for r in relative])


def test_spurs_and_collapsed_vertebrae_come_with_age(spines: list[Spine]) -> None:
    ages = np.array([s.age_years for s in spines])
    spurs = np.array([np.mean([len(v.spurs) for v in labelled(s)]) for s in spines])
    assert ages.min() > 25 and ages.max() < 85
    assert not spurs[ages < 40].any() and spurs[ages > 70].mean() > 0.3
    collapsed = [s for s in spines if s.collapsed is not None]
    assert 0.01 < len(collapsed) / len(spines) < 0.1, "rare"
    for spine in collapsed:
        assert spine.age_years > 50 and spine.collapsed in spine.labelled


def test_a_collapsed_vertebra_is_lower_in_front(spines: list[Spine]) -> None:
    spine = next(s for s in spines if s.collapsed is not None)
    collapsed = next(v for v in spine.vertebrae if v.id == spine.collapsed)
    front, back = heights(spine, collapsed)
    assert front < 0.88 * back
    others = [heights(spine, v) for v in labelled(spine) if v.id != spine.collapsed]
    assert min(f / b for f, b in others) > 0.88


def heights(spine: Spine, v: Vertebra) -> tuple[float, float]:
    """Heights in mm of the body's box, without dents and osteophytes, 60 % of the way to the front and to the back."""
    v, grid = replace(v, spurs=(), waves=(), concavity=0.0), grid_around(spine, 1.0)
    box, distance = signed_distance(v, grid)
    x, y, _ = local_coordinates(v, grid, box)
    columns = [np.abs(y - s * 0.3 * v.depth) < 1.5 for s in (-1, 1)]
    near = np.abs(x) < 1.5
    front, back = (float((near & c & (distance < 0)).sum()) / 9 for c in columns)
    return front, back
