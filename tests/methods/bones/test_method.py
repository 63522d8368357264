"""`polyrigid` and `edt-interpolation`: the displacement is rigid in each bone, and unusable pairs are refused."""

from __future__ import annotations

import numpy as np
import pytest
from support.bone_pairs import (
    OBLIQUE,
    PLAIN,
    ROWS,
    apply,
    fixed_position,
    lowest_jacobian,
    moved_pair,
    register,
    true_transform,
)

from methods.base import Grid, Pair, Scan


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE], ids=["plain", "oblique"])
@pytest.mark.parametrize("row", ROWS)
def test_the_displacement_is_rigid_in_every_bone_and_does_not_fold(row: str, grid: Grid) -> None:
    pair = moved_pair(grid)
    registration = register(row, pair)
    points = grid.points_mm()
    for v in (20, 21):
        truth = true_transform(v, pair.moving.labels, grid)
        inside = fixed_position(v, pair, truth, erosions=1)
        error = registration.displacement_mm[inside] - (apply(truth, points[inside]) - points[inside])
        assert np.linalg.norm(error, axis=1).mean() < 0.3, "the direction is fixed -> moving, in LPS millimetres"
        reported = registration.rigid_transforms[v]
        apart = registration.displacement_mm[inside] - (apply(reported, points[inside]) - points[inside])
        assert np.linalg.norm(apart, axis=1).mean() < 0.05, "the reported transform is that of the displacement"
    assert lowest_jacobian(registration, grid) > 0
    assert registration.notes["lowest_jacobian"] == pytest.approx(lowest_jacobian(registration, grid))
    worst = registration.notes["rigidity_deviation_worst_vertebra_mm"]
    assert worst < {"polyrigid": 0.05, "edt-interpolation": 1e-4}[row]


@pytest.mark.parametrize("row", ROWS)
def test_one_vertebra_gives_one_rigid_transform_of_the_volume(row: str) -> None:
    """The weight is 1 everywhere, so the displacement is affine and its second differences are 0."""
    registration = register(row, moved_pair(PLAIN, keep=(20,)))
    inner = registration.displacement_mm[8:-8, 8:-8, 8:-8]
    assert max(np.abs(np.diff(inner, n=2, axis=a)).max() for a in range(3)) < 1e-3
    assert "not_found" not in registration.notes


def test_a_second_run_gives_the_same_displacement() -> None:
    pair = moved_pair(PLAIN)
    np.testing.assert_array_equal(*(register("polyrigid", pair).displacement_mm for _ in range(2)))


@pytest.mark.parametrize("row", ROWS)
def test_pairs_that_cannot_be_registered_are_refused(row: str) -> None:
    pair = moved_pair(PLAIN)
    unlabelled = Scan(pair.moving.image, np.zeros_like(pair.moving.labels), PLAIN)
    with pytest.raises(ValueError, match=f"pair p: the moving label map is empty; {row} needs"):
        register(row, Pair("p", pair.fixed, unlabelled))
    flat = Scan(np.full(PLAIN.shape, 0.5, np.float32), None, PLAIN)
    with pytest.raises(ValueError, match=r"the fixed image has one value everywhere, 0\.5"):
        register(row, Pair("p", flat, pair.moving))
    elsewhere = np.zeros(PLAIN.shape, np.float32)
    elsewhere[:4, :4, :4] = pair.fixed.image[:4, :4, :4]
    with pytest.raises(ValueError, match="shows none of the 2 labelled vertebrae"):
        register(row, Pair("p", Scan(elsewhere, None, PLAIN), pair.moving))
