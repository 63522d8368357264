"""Validation during a training: the same vertebrae, compared in the same way, as in Table 1."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.evaluation import describe_pair, evaluate
from methods.base import Case, Grid, Pair, Registration, Scan
from methods.voxelmorph.validation import validate

GRID = Grid((24, 24, 40))
KEPT, EXCLUDED, SMALL, ONLY_MOVING = 20, 21, 22, 23


def case_of_bodies() -> Case:
    """The MR shows bodies, x < 12, shifted by a voxel; the CT shows whole vertebrae."""
    whole, bodies, fixed = (np.zeros(GRID.shape, np.uint16) for _ in range(3))
    for vertebra, z, height in ((KEPT, 1, 10), (EXCLUDED, 12, 6), (SMALL, 19, 2), (ONLY_MOVING, 22, 2)):
        whole[z : z + height, 2:16, 2:30] = vertebra
        bodies[z : z + height, 2:16, 2:12] = vertebra
    fixed[:, 1:] = np.where(bodies == ONLY_MOVING, 0, bodies)[:, :-1]
    image = np.linspace(0, 1, fixed.size, dtype=np.float32).reshape(GRID.shape)
    pair = Pair("a", Scan(image, fixed, GRID), Scan(image, whole, GRID))
    return Case(pair, excluded={EXCLUDED: "fractured"}, moving_compared=bodies)


def test_a_vertebra_counts_unless_excluded_small_or_on_one_side_alone() -> None:
    case = case_of_bodies()
    assert case.counted == [KEPT]
    assert case.not_counted == {
        EXCLUDED: "fractured",
        SMALL: "under 500 mm3 in the moving labels",
        ONLY_MOVING: "only in the moving labels",
    }
    assert case.voxels[KEPT] == (1400, 1400) and case.voxels[ONLY_MOVING] == (280, 0)
    rows = {row["vertebra"]: row["excluded_reason"] for row in describe_pair(case, ceiling=False)}
    assert rows == {v: case.not_counted.get(v) for v in case.voxels}


def test_validation_scores_what_the_table_scores() -> None:
    case = case_of_bodies()
    stay = np.zeros((*GRID.shape, 3), np.float32)
    _, vertebrae, _ = evaluate(case, Registration(stay))
    figures, _ = validate(None, [case], coarsening=1)
    assert figures["dsc"] == pytest.approx(np.mean([row["dsc"] for row in vertebrae]))
    assert [row["vertebra"] for row in vertebrae] == [KEPT]
