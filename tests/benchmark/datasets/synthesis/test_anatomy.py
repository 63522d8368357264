"""Who the phantom's patients are: sexes, ages, spurs, collapsed vertebrae, ribs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmark.datasets.phantom import Phantom, anatomy_stream, grid_around
from benchmark.datasets.synthesis.anatomy import Spine, draw_spine
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.rasterise import render
from benchmark.datasets.synthesis.vertebra import Spur, Vertebra, local_coordinates, ribs_distance, signed_distance


@pytest.fixture(scope="module")
def spines() -> list[Spine]:
    phantom = Phantom("phantom")
    names = [name for split in ("train", "val", "test") for name in phantom.cases(split)]
    return [draw_spine(anatomy_stream(name)) for name in names]


def labelled(spine: Spine) -> list[Vertebra]:
    return [v for v in spine.vertebrae if v.id in spine.labelled]


def test_women_have_three_quarters_of_the_cross_section_of_men(spines: list[Spine]) -> None:
    """Gilsanz et al. 1994. Levels are compared with themselves, since patients show different ones."""
    area = {woman: {v: [] for v in range(8, 25)} for woman in (True, False)}
    for spine in spines:
        for v in labelled(spine):
            area[spine.woman][v.id].append(v.width * v.depth)
    ratios = [np.mean(area[True][v]) / np.mean(area[False][v]) for v in range(16, 25)]
    assert np.mean(ratios) == pytest.approx(0.75, abs=0.04)
    assert 0.4 < np.mean([s.woman for s in spines]) < 0.6


def test_vertebrae_of_one_patient_resemble_each_other(spines: list[Spine]) -> None:
    """Sizes relative to the level's mean: less spread within a patient than between patients."""
    levels: dict[int, list[float]] = {}
    for spine in spines:
        for v in labelled(spine):
            levels.setdefault(v.id, []).append(v.width)
    relative = [[v.width / np.mean(levels[v.id]) for v in labelled(s)] for s in spines]
    assert np.mean([np.std(r) for r in relative]) < 0.5 * np.std([np.mean(r) for r in relative])


def test_age_brings_spurs_and_collapsed_vertebrae(spines: list[Spine]) -> None:
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
    fallen = next(v for v in spine.vertebrae if v.id == spine.collapsed)
    front, back = heights(spine, fallen)
    assert front < 0.88 * back
    others = [heights(spine, v) for v in labelled(spine) if v.id != spine.collapsed]
    assert min(f / b for f, b in others) > 0.88


def heights(spine: Spine, v: Vertebra) -> tuple[float, float]:
    """mm of bone along the vertebra's own axis, 60 % of the way to its front and to its back."""
    grid = grid_around(spine, 1.0)
    box, distance = signed_distance(v, grid)
    x, y, _ = local_coordinates(v, grid, box)
    columns = [np.abs(y - s * 0.3 * v.depth) < 1.5 for s in (-1, 1)]
    near = np.abs(x) < 1.5
    front, back = (float((near & c & (distance < 0)).sum()) / 9 for c in columns)
    return front, back


def test_a_spur_grows_out_of_the_rim() -> None:
    spine = draw_spine(PortableRng(3), 5)
    plain = replace(labelled(spine)[2], spurs=())
    grid = grid_around(spine, 1.0)
    box, without = signed_distance(plain, grid)
    grown, found = signed_distance(replace(plain, spurs=(Spur(0.0, 1, 4.0),)), grid)
    _, y, z = local_coordinates(plain, grid, grown)
    new = found < 0
    new[tuple(slice(b.start - g.start, b.stop - g.start) for b, g in zip(box, grown, strict=True))] &= without >= 0
    assert 20 < new.sum() < 400
    assert (y[new] < -0.35 * plain.depth).all() and (z[new] > 0).all(), "at the front of the upper rim"
    assert 1 < -y[new].min() - plain.depth / 2 < 7


def test_ribs_are_bone_without_a_label_and_leave_the_vertebra_its_own() -> None:
    spine = next(s for s in (draw_spine(PortableRng(n), 5) for n in range(50)) if s.labelled[-1] <= 18)
    grid = grid_around(spine, 1.0)
    labels, tissues = render(spine, grid, PortableRng(0, 1))
    ribs = (tissues.bone_mm < 0) & (labels == 0)
    for v in labelled(spine):
        box, distance = ribs_distance(v, grid)
        head = ribs[box] & (distance < 0)
        sides = np.sign(local_coordinates(v, grid, box)[0][head])
        assert (sides > 0).sum() > 300 and (sides < 0).sum() > 300, v.id
        alone_box, alone = signed_distance(v, grid)
        assert (labels[alone_box] == v.id).sum() > 0.95 * (alone < 0).sum()
    lumbar = next(v for s in (draw_spine(PortableRng(n), 5) for n in range(50)) for v in s.vertebrae if v.id == 22)
    assert ribs_distance(lumbar, grid)[1].size == 0
