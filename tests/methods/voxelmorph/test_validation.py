"""Validation scores the vertebrae of Table 1 in the same way, and selects the network to keep."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.evaluation import describe_pair, evaluate
from methods.base import Case, Grid, Pair, Registration, Scan
from methods.voxelmorph.validation import kept_record, validate

GRID = Grid((24, 24, 40))
KEPT, EXCLUDED, SMALL, ONLY_MOVING = 20, 21, 22, 23


def case_of_bodies() -> Case:
    """The MR shows vertebral bodies, x < 12, shifted by a voxel; the CT shows whole vertebrae."""
    whole, bodies, fixed = (np.zeros(GRID.shape, np.uint16) for _ in range(3))
    for vertebra, z, height in ((KEPT, 1, 10), (EXCLUDED, 12, 6), (SMALL, 19, 2), (ONLY_MOVING, 22, 2)):
        whole[z : z + height, 2:16, 2:30] = vertebra
        bodies[z : z + height, 2:16, 2:12] = vertebra
    fixed[:, 1:] = np.where(bodies == ONLY_MOVING, 0, bodies)[:, :-1]
    image = np.linspace(0, 1, fixed.size, dtype=np.float32).reshape(GRID.shape)
    pair = Pair("a", Scan(image, fixed, GRID), Scan(image, whole, GRID))
    return Case(pair, excluded={EXCLUDED: "fractured"}, moving_compared=bodies)


def test_excluded_small_and_one_sided_vertebrae_are_not_evaluated() -> None:
    case = case_of_bodies()
    assert case.counted == [KEPT]
    assert case.not_counted == {
        EXCLUDED: "fractured",
        SMALL: "under 500 mm3 in the moving labels",
        ONLY_MOVING: "only in the moving labels",
    }
    assert case.voxels[KEPT] == (1400, 1400) and case.voxels[ONLY_MOVING] == (280, 0)
    rows = {row["vertebra"]: row["excluded_reason"] for row in describe_pair(case, rigid_fit=False)}
    assert rows == {v: case.not_counted.get(v) for v in case.voxels}


def test_validation_has_the_dsc_of_the_table() -> None:
    case = case_of_bodies()
    zero = np.zeros((*GRID.shape, 3), np.float32)
    _, vertebrae, _ = evaluate(case, Registration(zero))
    values, _ = validate(None, [case], shrink_factor=1)
    assert values["dsc"] == pytest.approx(np.mean([row["dsc"] for row in vertebrae]))
    assert [row["vertebra"] for row in vertebrae] == [KEPT]


def test_the_record_to_keep_is_the_last_or_the_best_after_the_branch() -> None:
    history = [{"step": step, "dsc": dsc} for step, dsc in ((2, 0.9), (4, 0.8), (6, 0.7))]
    assert kept_record(history, "last", 2) == history[2]
    assert kept_record(history, "best", 2) == history[1]
