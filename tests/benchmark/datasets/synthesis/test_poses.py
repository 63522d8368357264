"""The drawn poses: bent, pre-aligned with a small annotation error, and hardly one rigid motion of the whole."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from benchmark.datasets.synthesis.motion import Motion
from benchmark.datasets.synthesis.poses import (
    LARGEST_JOINT_DEG,
    LEAST_JOINT_DEG,
    SHIFTED_MOTION,
    TRAINING_MOTION,
    MotionRanges,
    draw_motion,
)
from benchmark.datasets.synthesis.random import PortableRng
from metrics.procrustes import fit_rigid

IDS = list(range(17, 25))
CENTRES = np.stack([np.zeros(8), 0.002 * np.linspace(-120, 120, 8) ** 2, np.linspace(120, -120, 8)], axis=1)
CORNERS = np.array([(0, 0, 0), (20, 0, 0), (-20, 0, 0), (35, 25, 5), (-35, 25, 5), (0, 60, -15)], float)
SEEDS = range(60)
BOTH = pytest.mark.parametrize("ranges", [TRAINING_MOTION, SHIFTED_MOTION], ids=["training", "testing"])


def joints_deg(motion: Motion) -> np.ndarray:
    """Flexion, side bend and twist of each joint, (n - 1, 3)."""
    joints = Rotation.from_matrix(motion.rotations[:-1]).inv() * Rotation.from_matrix(motion.rotations[1:])
    return joints.as_euler("xyz", degrees=True)


def squared_motion(motion: Motion) -> tuple[float, float]:
    """Mean squared motion of the vertebrae, and what is left of it after the best rigid transform of the whole."""
    points = torch.from_numpy(np.concatenate([c + CORNERS for c in CENTRES]))
    moved = torch.from_numpy(np.concatenate([motion.move(i, c + CORNERS) for i, c in enumerate(CENTRES)]))
    rotation, translation = fit_rigid(points, moved)
    left = moved - points @ rotation.T - translation
    return float((moved - points).square().sum(1).mean()), float(left.square().sum(1).mean())


@BOTH
def test_one_rigid_transform_removes_little_of_the_squared_motion(ranges: MotionRanges) -> None:
    both = np.array([squared_motion(draw_motion(PortableRng(s), IDS, CENTRES, ranges=ranges)) for s in SEEDS])
    assert both[:, 1].sum() > 0.85 * both[:, 0].sum()


@BOTH
def test_the_pre_alignment_leaves_an_error_of_about_3_mm_at_most(ranges: MotionRanges) -> None:
    """Without bending, the motion that is left is rigid, and no larger than the annotation error makes it."""
    sizes = []
    for seed in SEEDS:
        before, left = squared_motion(draw_motion(PortableRng(seed), IDS, CENTRES, bending=0.0, ranges=ranges))
        assert left == pytest.approx(0, abs=1e-9)
        sizes.append(np.sqrt(before))
    assert ranges.annotation_mm[1] <= 3 and max(sizes) < 4 and np.median(sizes) < 2.5


@BOTH
def test_joints_stay_within_their_limits_and_bend_more_than_they_twist(ranges: MotionRanges) -> None:
    angles = np.stack([joints_deg(draw_motion(PortableRng(s), IDS, CENTRES, ranges=ranges)) for s in SEEDS])
    assert (angles.min(axis=(0, 1)) > np.array(LEAST_JOINT_DEG) - 0.01).all()
    assert (angles.max(axis=(0, 1)) < np.array(LARGEST_JOINT_DEG) + 0.01).all()
    flexion, side, twist = np.abs(angles).mean(axis=(0, 1))
    assert flexion > twist and side > twist


def test_the_residual_is_reached_where_the_joints_allow_it() -> None:
    reached = []
    for seed in range(20):
        motion = draw_motion(PortableRng(seed), IDS, CENTRES, residual_mm=5.0)
        reached.append(np.sqrt(squared_motion(motion)[0]))
    assert np.median(reached) == pytest.approx(5.0, rel=0.02) and max(reached) < 5.1


def test_the_size_follows_the_quantile_and_bending_lessens_it() -> None:
    sizes = [squared_motion(draw_motion(PortableRng(1), IDS, CENTRES, quantile=q))[0] for q in (0.1, 0.5, 0.9)]
    assert sizes == sorted(sizes) and sizes[2] > 3 * sizes[0]
    full, half = (joints_deg(draw_motion(PortableRng(1), IDS, CENTRES, quantile=0.9, bending=b)) for b in (1.0, 0.5))
    np.testing.assert_allclose(half, 0.5 * full, atol=1e-6)


def test_test_patients_lie_outside_the_ranges_of_training() -> None:
    assert SHIFTED_MOTION.own_mm[0] >= TRAINING_MOTION.own_mm[1]
    assert SHIFTED_MOTION.distortion_share[0] >= TRAINING_MOTION.distortion_share[1]
    assert SHIFTED_MOTION.kink_deg > TRAINING_MOTION.kink_deg == 0
    for field in fields(MotionRanges):
        training, testing = (np.atleast_1d(getattr(r, field.name)) for r in (TRAINING_MOTION, SHIFTED_MOTION))
        assert (testing >= training).all()


def test_bones_follow_the_distortion_rigidly() -> None:
    """The distortion moves each vertebra by the rigid part of p -> p - g(p), to first order."""
    plain = draw_motion(PortableRng(2), IDS, CENTRES, ranges=SHIFTED_MOTION)
    warped = draw_motion(PortableRng(2), IDS, CENTRES, ranges=SHIFTED_MOTION, distortion_mm=2.0)
    assert warped.tissue is not None and warped.tissue.distortion is not None
    assert 1.0 <= warped.tissue.distortion.size_mm <= 2.0
    for i, centre in enumerate(CENTRES):
        points = plain.move(i, centre + CORNERS)
        expected = points - warped.tissue.distortion.at(points)
        assert np.linalg.norm(warped.move(i, centre + CORNERS) - expected, axis=1).max() < 0.7
    np.testing.assert_allclose(warped.rotations @ warped.rotations.transpose(0, 2, 1), [np.eye(3)] * 8, atol=1e-9)


@pytest.mark.parametrize("n", [1, 2])
def test_one_or_two_vertebrae_can_be_moved(n: int) -> None:
    motion = draw_motion(PortableRng(0), IDS[:n], CENTRES[:n], ranges=SHIFTED_MOTION, distortion_mm=2.0)
    assert motion.ids == tuple(IDS[:n]) and np.isfinite(motion.translations).all()


def test_the_same_numbers_give_the_same_motion() -> None:
    a, b = (draw_motion(PortableRng(5), IDS, CENTRES, distortion_mm=1.0) for _ in range(2))
    assert np.array_equal(a.rotations, b.rotations) and np.array_equal(a.translations, b.translations)
    assert a.tissue is not None and b.tissue is not None and np.array_equal(a.tissue.nodes_mm, b.tissue.nodes_mm)
