"""Draw the poses of a spine in two scans.

The order is: draw a change of spinal curvature, pre-align the two poses on annotated centroids as the paper does, then
let the MR distort. A residual of a few millimetres remains for registration. Little of it is one rigid motion of the
whole spine, since the pre-alignment has removed that up to the annotation error. All points are LPS millimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from benchmark.datasets.synthesis.distortion import Distortion, draw_distortion
from benchmark.datasets.synthesis.motion import Motion
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.tissue import draw_soft_tissue
from metrics.procrustes import fit_rigid

# Points of a vertebra relative to the centre of its body: body, transverse processes, spinous process.
_VERTEBRA_POINTS_MM = np.array([(0, 0, 0), (20, 0, 0), (-20, 0, 0), (35, 25, 5), (-35, 25, 5), (0, 60, -15)], float)
# Body centres lie almost on a line and do not determine the rotation about it; the centres of the arches do.
_ARCH_OFFSET_MM = np.array([0.0, 35.0, -5.0])

# Limits of flexion, side bend and twist of a joint. Beyond these of extension and twist, arches of neighbours collide.
LEAST_JOINT_DEG, LARGEST_JOINT_DEG = (-2.0, -10.0, -3.0), (10.0, 10.0, 3.0)
# Limits of the RMS motion that may be asked for.
RESIDUAL_RANGE_MM = (1.2, 14.0)
_LARGEST_ERROR_MM = 40.0

Three = tuple[float, float, float]


@dataclass(frozen=True)
class MotionRanges:
    """From what a motion is drawn. Angles are flexion, side bend and twist of a joint in degrees, lengths in mm.

    Attributes:
        residual_mm: median of the RMS motion of the vertebrae after pre-alignment, which is log-normal over patients.
        residual_sigma: standard deviation of its logarithm.
        residual_limits_mm: least and greatest RMS.
        shared_deg: standard deviation of the angle that all joints share.
        slope_deg: standard deviation of its change from the middle to either end.
        level_deg: standard deviation of each joint's own angle.
        level_mm: standard deviation of each disc's shear to the left, shear to the back, and change of height.
        kink_deg: standard deviation of the flexion of one joint beside all others.
        flexed: share of the patients whose curve is a flexion; in the others it is either.
        largest_joint_deg: no joint of the curve rotates further.
        annotation_mm: least and greatest RMS error of the annotated centroids.
        own_mm: least and greatest RMS motion of muscle and skin of their own, far from bone.
        uneven: spread of the soft tissue's behaviour between bones, see `draw_soft_tissue`.
        distortion_share: least and greatest distortion of the MR, as a share of the setting.
    """

    residual_mm: float
    residual_sigma: float
    residual_limits_mm: tuple[float, float]
    shared_deg: Three
    slope_deg: Three
    level_deg: Three
    level_mm: Three
    kink_deg: float
    flexed: float
    largest_joint_deg: float
    annotation_mm: tuple[float, float]
    own_mm: tuple[float, float]
    uneven: float
    distortion_share: tuple[float, float]


# Training and validation patients.
TRAINING_MOTION = MotionRanges(
    residual_mm=6.0, residual_sigma=0.6, residual_limits_mm=(1.2, 12.0),
    shared_deg=(1.0, 0.7, 0.25), slope_deg=(0.4, 0.4, 0.2), level_deg=(0.5, 0.4, 0.3),
    level_mm=(0.3, 0.5, 0.2), kink_deg=0.0, flexed=0.8, largest_joint_deg=7.0, annotation_mm=(0.5, 2.5),
    own_mm=(1.0, 3.0), uneven=0.6, distortion_share=(0.0, 0.5),
)  # fmt: skip
# Test patients: more side bend and twist, one joint that differs, larger steps between levels; and own motion of soft
# tissue and distortion above those of every training patient. Calibrated to the paper's row "Initial".
SHIFTED_MOTION = MotionRanges(
    residual_mm=11.0, residual_sigma=0.8, residual_limits_mm=(1.2, 20.0),
    shared_deg=(1.0, 1.0, 0.35), slope_deg=(0.4, 0.6, 0.3), level_deg=(0.7, 0.6, 0.4),
    level_mm=(0.6, 0.9, 0.3), kink_deg=1.5, flexed=0.9, largest_joint_deg=10.0, annotation_mm=(0.5, 2.5),
    own_mm=(3.0, 5.0), uneven=1.0, distortion_share=(0.5, 1.0),
)  # fmt: skip


def draw_motion(
    rng: PortableRng,
    ids: Sequence[int],
    centres_mm: np.ndarray,
    aligned: Sequence[int] | None = None,
    bending: float = 1.0,
    quantile: float | None = None,
    residual_mm: float | None = None,
    ranges: MotionRanges = TRAINING_MOTION,
    distortion_mm: float = 0.0,
) -> Motion:
    """Draw a change of curvature and pre-align it on noisy centroids; a residual motion remains.

    The RMS of the residual over the vertebrae follows a log-normal distribution over patients. The joints are scaled to
    reach it; where no joint may rotate further, the residual is smaller.

    Args:
        rng: draws every parameter.
        ids: vertebrae from one end to the other (n).
        centres_mm: centres of their bodies in the moving scan, (n, 3), LPS.
        aligned: the ids whose centroids (of body and of arch) the pre-alignment uses; None for all.
        bending: factor on the change of curvature.
        quantile: of the residual's distribution, in (0, 1); None draws it.
        residual_mm: the RMS of the residual; None follows the distribution. What the joints cannot reach is one rigid
            motion of the whole spine, larger than an annotation error.
        ranges: of all parameters.
        distortion_mm: of the MR at the edge of its field of view; each MR has a share of it. Bones follow it rigidly.

    Returns:
        The motion after pre-alignment.
    """
    centres = np.asarray(centres_mm, float)
    curve, levels, steps = _joints(rng, len(ids) - 1, ranges)
    is_aligned = np.array([aligned is None or v in aligned for v in ids])
    error_mm, errors = rng.uniform(*ranges.annotation_mm), _annotation_errors(rng, len(ids))
    size = rng.normal() if quantile is None else ndtri(quantile)
    target = float(np.clip(ranges.residual_mm * np.exp(ranges.residual_sigma * size), *ranges.residual_limits_mm))
    target = target if residual_mm is None else residual_mm

    def attempt(largest_deg: float, error_mm: float) -> Motion:
        joints = bending * np.clip(largest_deg * curve + levels, LEAST_JOINT_DEG, LARGEST_JOINT_DEG)
        return _prealign(_bend(tuple(ids), centres, joints, bending * steps), centres, is_aligned, error_mm * errors)

    def size_mm(largest_deg: float, error_mm: float) -> float:
        return _rms_mm(attempt(largest_deg, error_mm), centres, is_aligned)

    largest_deg = _bisect(lambda b: size_mm(b, error_mm), target, ranges.largest_joint_deg)
    if residual_mm is not None and size_mm(largest_deg, error_mm) < 0.98 * target:
        error_mm = _bisect(lambda e: size_mm(largest_deg, e), target, _LARGEST_ERROR_MM)
    motion = attempt(largest_deg, error_mm)
    tissue = draw_soft_tissue(rng, centres, ranges.own_mm, ranges.uneven)
    limits = (ranges.distortion_share[0] * distortion_mm, ranges.distortion_share[1] * distortion_mm)
    distortion = draw_distortion(rng, np.stack([motion.move(i, c) for i, c in enumerate(centres)]), limits)
    return _distort(replace(motion, tissue=tissue), centres, distortion)


def _joints(rng: PortableRng, joints: int, ranges: MotionRanges) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the joints of a curve and of single levels: angles of both in degrees, translations of levels in mm.

    The curve is scaled later; its largest angle is 1.
    """
    along = np.linspace(-1, 1, joints)[:, None] if joints > 1 else np.zeros((joints, 1))
    shared, slope = (rng.normal(size=3) * sd for sd in (ranges.shared_deg, ranges.slope_deg))
    # Flexion opens the space between spinous processes; in extension they soon touch.
    shared[0] = abs(shared[0]) if rng.chance(ranges.flexed) else shared[0]
    curve = shared + slope * along
    curve /= max(float(np.linalg.norm(curve, axis=1).max(initial=0)), 1e-6)
    angles = rng.normal(size=(joints, 3)) * ranges.level_deg
    kinked, kink = rng.uniform(0, max(joints, 1)), rng.normal(0, ranges.kink_deg)
    if joints:
        angles[int(kinked), 0] += kink
    return curve, angles, rng.normal(size=(joints, 3)) * ranges.level_mm


def _bend(ids: tuple[int, ...], centres: np.ndarray, joints_deg: np.ndarray, steps_mm: np.ndarray) -> Motion:
    """Turn every vertebra against the one before, about the point midway between their centres, and shift it."""
    rotation, translation = np.eye(3), np.zeros(3)
    rotations, translations = [rotation], [translation]
    for i, (flexion, side, twist) in enumerate(joints_deg):
        pivot = (centres[i] + centres[i + 1]) / 2
        turn = Rotation.from_euler("xyz", (flexion, side, twist), degrees=True).as_matrix()
        translation = rotation @ (pivot - turn @ pivot + steps_mm[i]) + translation
        rotation = rotation @ turn
        rotations.append(rotation)
        translations.append(translation)
    return Motion(ids, np.stack(rotations), np.stack(translations))


def _annotation_errors(rng: PortableRng, n: int) -> np.ndarray:
    """Draw errors (2, n, 3) of body and arch centres between the two scans, with a root mean square length of 1.

    A part of the error is shared by all vertebrae of an annotator, so that it does not average out.
    """
    shared, own, arch = rng.normal(size=3), rng.normal(size=(n, 3)), rng.normal(size=(n, 3))
    errors = np.stack([shared + 0.7 * own, shared + 0.7 * own + 0.5 * arch])
    return errors / np.sqrt(np.mean(np.sum(np.square(errors), axis=-1)))


def _prealign(motion: Motion, centres: np.ndarray, is_aligned: np.ndarray, errors_mm: np.ndarray) -> Motion:
    """The motion followed by the rigid fit of its noisy fixed centres to the moving ones."""
    moving = np.stack([centres, centres + _ARCH_OFFSET_MM])
    fixed = np.stack([[motion.move(i, p) for i, p in enumerate(points)] for points in moving])
    annotated = (fixed + errors_mm)[:, is_aligned]
    rotation, translation = fit_rigid(
        torch.from_numpy(annotated.reshape(-1, 3)), torch.from_numpy(moving[:, is_aligned].reshape(-1, 3).copy())
    )
    return motion.followed_by(rotation.numpy(), translation.numpy())


def _distort(motion: Motion, centres: np.ndarray, distortion: Distortion) -> Motion:
    """The motion as the distorted MR shows it: each vertebra is displaced by the rigid part of the distortion there."""
    assert motion.tissue is not None
    moved = [motion.move(i, c + _VERTEBRA_POINTS_MM) for i, c in enumerate(centres)]
    parts = [distortion.rigid_part(points) for points in moved]
    rotations = np.stack([part.T @ r for (part, _), r in zip(parts, motion.rotations, strict=True)])
    translations = np.stack([part.T @ (t - s) for (part, s), t in zip(parts, motion.translations, strict=True)])
    tissue = replace(motion.tissue, distortion=distortion, distorted=tuple(parts))
    return Motion(motion.ids, rotations, translations, tissue)


def _rms_mm(motion: Motion, centres: np.ndarray, is_aligned: np.ndarray) -> float:
    """Root mean square distance that the points of the aligned vertebrae move."""
    points = _VERTEBRA_POINTS_MM
    moved = [motion.move(i, c + points) - c - points for i, c in enumerate(centres) if is_aligned[i]]
    return float(np.sqrt(np.mean(np.sum(np.square(moved), axis=-1))))


def _bisect(rising: Callable[[float], float], target: float, high: float) -> float:
    """The argument in [0, high] at which a rising function reaches `target`."""
    low = 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2
