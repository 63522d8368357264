"""Neighbouring bones slide: their displacement jumps along the surface between them, and not across it."""

from __future__ import annotations

import numpy as np
import torch

from benchmark.datasets.synthesis.blending import Coarse, Rigid, blend, bone_distances
from benchmark.datasets.synthesis.sliding import facing_pairs, slide, sliding_surfaces
from methods.base import Grid
from methods.geometry import to_voxels
from metrics.fields import jacobian, jacobian_determinant

GRID = Grid((40, 60, 30))


def facing_plates() -> np.ndarray:
    """Two bodies, 8 mm apart, and behind them two upright plates that face each other across a gap of 3 voxels."""
    labels = np.zeros(GRID.shape, np.uint16)
    labels[24:36, 4:20, 6:24], labels[4:16, 4:20, 6:24] = 20, 21
    labels[17:36, 20:44, 6:13], labels[4:23, 20:44, 16:24] = 20, 21
    return labels


def shifts(first: tuple[float, float, float], second: tuple[float, float, float]) -> dict[int, Rigid]:
    return {20: (np.eye(3), np.array(first)), 21: (np.eye(3), np.array(second))}


def slid(motions: dict[int, Rigid]) -> tuple[np.ndarray, np.ndarray]:
    """The blended field before and after the bones slide, (3, z, y, x)."""
    coarse = Coarse.of(facing_plates(), Grid(GRID.shape, (1.0, 1.0, 1.0)))
    distances = bone_distances(facing_plates(), [20, 21], GRID)
    (before,) = blend(distances, (motions,), GRID)
    after = before.copy()
    places = list(facing_pairs(bone_distances(coarse.labels, [20, 21], coarse.grid), [20, 21], coarse))
    assert [pair for pair, _ in places] == [(20, 21)]
    slide(after, places[0][1], (motions[20], motions[21]), GRID)
    return before, after


def test_a_motion_along_the_plates_jumps_between_them() -> None:
    """One plate moves up by 3 mm against the other: each voxel of the gap has one displacement or the other."""
    before, after = slid(shifts((0, 0, 3), (0, 0, 0)))
    row = np.index_exp[2, 20, 34, 11:18]  # two voxels of each plate and the three of the gap
    np.testing.assert_allclose(after[row][[0, 1, 5, 6]], [3, 3, 0, 0], atol=0.05)
    in_gap = after[row][2:5]
    assert np.minimum(np.abs(in_gap), np.abs(in_gap - 3)).max() < 0.05
    assert np.abs(np.diff(after[row])).max() > 2.9 > 2 > np.abs(np.diff(before[row])).max()


def test_a_motion_across_the_plates_stays_continuous() -> None:
    """The normal part does not change; near the rims the surface bends, so that little is tangential."""
    before, after = slid(shifts((-1, 0, 0), (0, 0, 0)))
    middle = np.index_exp[:, 19:22, 30:40, 12:18]
    np.testing.assert_allclose(after[middle], before[middle], atol=0.15)
    assert np.abs(after - before)[0][19:22, 30:40].mean() < 0.01


def test_bodies_do_not_slide_and_nothing_changes_far_from_both() -> None:
    before, after = slid(shifts((0, 0, 3), (0, 2, 0)))
    changed = np.abs(after - before).max(axis=0) > 1e-6
    assert changed.any() and not changed[:, :20].any() and not changed[:, 56:].any()


def test_sliding_does_not_fold_off_the_surface() -> None:
    _, after = slid(shifts((0, 0, 3), (0, 0, 0)))
    field = to_voxels(np.ascontiguousarray(np.moveaxis(after, 0, -1)), GRID)
    determinant = jacobian_determinant(jacobian(field))[0]
    surfaces = torch.from_numpy(sliding_surfaces(facing_plates(), GRID))
    assert surfaces[20, 34, 14] and surfaces[20, 34, 15] and not surfaces[:, :20].any()
    assert determinant[~surfaces].min() > 0.1


def test_without_neighbours_nothing_slides() -> None:
    alone = np.where(facing_plates() == 20, 20, 0)
    assert not sliding_surfaces(alone, GRID).any()
    assert not sliding_surfaces(np.zeros(GRID.shape, int), GRID).any()
