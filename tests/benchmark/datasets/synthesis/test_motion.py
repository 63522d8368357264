"""The motion between two scans: rigid inside every vertebra, invertible elsewhere but where bones slide."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation

from benchmark.datasets.synthesis.motion import (
    Motion,
    displacement,
    move_labels,
    move_spine,
    rigid_core,
)
from benchmark.datasets.synthesis.poses import SHIFTED_MOTION, draw_motion
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid
from methods.geometry import to_voxels
from metrics.fields import jacobian, jacobian_determinant
from metrics.label_warping import warp_labels

GRID = Grid((48, 40, 32))


def two_blocks(gap: int = 8) -> np.ndarray:
    """Label 20 above label 21, blocks of 12 x 16 x 12 voxels, `gap` voxels apart; (z, y, x)."""
    labels = np.zeros(GRID.shape, np.uint16)
    labels[24 + gap // 2 : 36 + gap // 2, 12:28, 10:22] = 20
    labels[12 - gap // 2 : 24 - gap // 2, 12:28, 10:22] = 21
    return labels


def shifts(first: tuple[float, float, float], second: tuple[float, float, float]) -> Motion:
    return Motion((20, 21), np.stack([np.eye(3)] * 2), np.array([first, second], float))


def test_labels_follow_the_motion_and_the_displacement_is_its_inverse() -> None:
    # Vertebra 20 moves 3 mm to the left (+x), so the displacement of its fixed voxels is 3 mm to the right.
    moved = move_spine(shifts((3, 0, 0), (0, -2, 0)), two_blocks(), GRID)
    assert np.array_equal(moved.labels == 20, np.roll(two_blocks() == 20, 3, axis=2))
    assert np.array_equal(moved.labels == 21, np.roll(two_blocks() == 21, -2, axis=1))
    np.testing.assert_allclose(moved.displacement_mm[moved.labels == 20], [[-3, 0, 0]] * 2304, atol=1e-6)
    np.testing.assert_allclose(moved.displacement_mm[moved.labels == 21], [[0, 2, 0]] * 2304, atol=1e-6)


def test_a_quarter_turn_is_exact() -> None:
    # A rotation by 90 degrees about z takes (x, y) to (-y, x): the corner (4, 2) of the block goes to (-2, 4).
    labels = np.zeros((21, 21, 21), np.uint16)
    labels[8:13, 10:13, 10:15] = 20
    grid = Grid((21, 21, 21), origin_mm=(-10.0, -10.0, -10.0))
    turn = Rotation.from_euler("z", 90, degrees=True).as_matrix()
    fixed, _ = move_labels(Motion((20,), turn[None], np.zeros((1, 3))), labels, grid)
    expected = np.zeros_like(labels)
    expected[8:13, 10:15, 8:11] = 20
    assert np.array_equal(fixed, expected)


def test_the_displacement_between_two_vertebrae_is_monotonic() -> None:
    fixed = two_blocks(gap=12)
    grid = Grid(GRID.shape, (2.0, 2.0, 2.0))
    u = displacement(shifts((2, 0, 0), (-2, 0, 0)), fixed, grid)[0][:, 20, 16, 0]
    inside_21, inside_20 = np.flatnonzero(fixed[:, 20, 16] == 21), np.flatnonzero(fixed[:, 20, 16] == 20)
    assert (u[inside_21] == 2).all() and (u[inside_20] == -2).all()
    between = u[inside_21[-1] : inside_20[0] + 1]
    assert (np.diff(between) <= 1e-6).all()
    # The middle of the gap of 12 voxels lies between the sixth and the seventh, where both weights are equal.
    assert between[6] + between[7] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (0.8, 1.25, 2.0)])
def test_the_displacement_equals_the_motion_on_any_grid(spacing: tuple[float, float, float]) -> None:
    direction = tuple(Rotation.from_euler("xyz", (10, -20, 30), degrees=True).as_matrix().ravel())
    grid = Grid((24, 30, 28), spacing, (5.0, -7.0, 11.0), direction)
    labels = np.zeros(grid.shape, np.uint16)
    labels[6:18, 8:22, 8:20] = 20
    turn = Rotation.from_euler("xyz", (4, -3, 2), degrees=True).as_matrix()
    centre = grid.to_points_mm(np.array([14.0, 15.0, 12.0]))
    motion = Motion((20,), turn[None], (centre + 1.5 - turn @ centre)[None])
    moved = move_spine(motion, labels, grid)
    inside = moved.labels == 20
    source = grid.points_mm()[inside] + moved.displacement_mm[inside]
    np.testing.assert_allclose(motion.move(0, source), grid.points_mm()[inside], atol=1e-3)
    warped = warp_labels(torch.from_numpy(labels.astype(np.int32)), to_voxels(moved.displacement_mm, grid), [20])
    overlap = 2 * ((warped.numpy() == 20) & inside).sum() / ((warped.numpy() == 20).sum() + inside.sum())
    assert overlap > 0.99


def test_overlap_is_counted() -> None:
    # The blocks are 2 voxels apart; one moves 3 voxels down onto the other, so that 16 x 12 voxels overlap.
    fixed, overlap = move_labels(shifts((0, 0, -3), (0, 0, 0)), two_blocks(gap=2), GRID)
    union = 2 * 2304 - 192
    assert (fixed > 0).sum() == union
    assert overlap == pytest.approx(192 / union)


def test_the_core_excludes_only_surfaces_in_contact() -> None:
    far, touching = rigid_core(two_blocks(8), GRID), rigid_core(two_blocks(0), GRID)
    assert np.array_equal(far, two_blocks(8) > 0)
    lost = (two_blocks(0) > 0) & ~touching
    # Both blocks lose the layer where they touch and the rim within 2 voxels of it, and nothing inside.
    assert lost[23, 12:28, 10:22].all() and lost[24, 12:28, 10:22].all()
    assert not lost[:21].any() and not lost[27:].any()
    assert touching[22, 20, 16] and touching[25, 20, 16]


def column() -> tuple[np.ndarray, Grid, np.ndarray]:
    """Four blocks above each other as bodies, each with a plate behind it that nearly reaches the next; and centres."""
    grid = Grid((96, 56, 40), origin_mm=(-20.0, -20.0, -48.0))
    labels = np.zeros(grid.shape, np.uint16)
    for i in range(4):
        labels[70 - 22 * i : 86 - 22 * i, 10:30, 10:30] = 20 + i
        labels[68 - 22 * i : 88 - 22 * i, 30:48, 14:26] = 20 + i
    return labels, grid, np.array([[0, 0, 30 - 22 * i] for i in range(4)], float)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_motion_is_rigid_in_bone_and_invertible_where_nothing_slides(seed: int) -> None:
    labels, grid, centres = column()
    motion = draw_motion(
        PortableRng(seed), [20, 21, 22, 23], centres, residual_mm=2.0, ranges=SHIFTED_MOTION, distortion_mm=2.0
    )
    moved = move_spine(motion, labels, grid)
    determinant = jacobian_determinant(jacobian(to_voxels(moved.displacement_mm, grid)))[0].numpy()
    assert moved.lowest_jacobian(grid) == pytest.approx(float(determinant[~moved.sliding].min()))
    assert determinant[~moved.sliding].min() > 0.1
    assert 0 < moved.sliding.mean() < 0.1
    for i, vertebra in enumerate(motion.ids):
        points = grid.points_mm()[moved.labels == vertebra]
        source = points + moved.displacement_mm[moved.labels == vertebra]
        np.testing.assert_allclose(motion.move(i, source), points, atol=1e-3)


def test_the_displacement_off_bone_is_no_blend_of_rigid_motions() -> None:
    """Beside the column it differs from the inverse cubed distance by about a millimetre, and by less near bone."""
    labels, grid, centres = column()
    motion = draw_motion(PortableRng(0), [20, 21, 22, 23], centres, residual_mm=2.0, ranges=SHIFTED_MOTION)
    plain = Motion(motion.ids, motion.rotations, motion.translations)
    of_tissue, of_blend = (move_spine(m, labels, grid) for m in (motion, plain))
    assert np.array_equal(of_tissue.labels, of_blend.labels) and not of_blend.sliding.any()
    difference = np.linalg.norm(of_tissue.displacement_mm - of_blend.displacement_mm, axis=-1)
    assert (difference[of_tissue.labels > 0] == 0).all()
    away = distance_transform_edt(of_tissue.labels == 0)
    assert difference[away > 12].mean() > 0.6 > difference[(away > 0) & (away < 3)].mean()


def test_a_coarser_grid_has_the_same_displacement() -> None:
    labels, grid, centres = column()
    motion = draw_motion(PortableRng(0), [20, 21, 22, 23], centres, residual_mm=2.0, distortion_mm=2.0)
    fine, _ = displacement(motion, labels, grid)
    coarse, sliding = displacement(motion, labels[::2, ::2, ::2], Grid((48, 28, 20), (2.0,) * 3, grid.origin_mm))
    difference = np.linalg.norm(fine[::2, ::2, ::2] - coarse, axis=-1)
    assert difference[~sliding].max() < 0.5 and difference.mean() < 0.02
