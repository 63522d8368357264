"""Random smooth displacements: the anatomy of another patient, and the motion between two scans."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation

from metrics.boxes import Box

# Anatomy: distance of the random vectors, their SD, and the largest logarithm of a scale factor.
BODY_MM, BODY_SD_MM, BODY_SIZE = 30.0, 3.0, 0.22
WAVE_MM = 80.0  # the shortest wave of a motion's lateral curve


@dataclass(frozen=True)
class Motion:
    """The size of random motions.

    Attributes:
        shift_mm: SDs of the shift along z, y and x.
        turn_deg: SD of the rotation angle about each axis.
        bend_mm: SD of the lateral curve along the spine.
        slide_mm: largest further shift along z, drawn uniformly.
        ripple_mm: SD of random vectors at the same distances as those of an anatomy.
    """

    shift_mm: tuple[float, float, float] = (2.5, 2.5, 2.5)
    turn_deg: float = 3.0
    bend_mm: float = 2.0
    slide_mm: float = 0.0
    ripple_mm: float = 0.0


def anatomy_field(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], rng: np.random.Generator
) -> np.ndarray:
    """A smooth displacement (1, 3, D, H, W) in voxels: scaled axes and random vectors at points 3 cm apart."""
    field = _random_vectors(shape, spacing_mm, BODY_SD_MM, rng)
    for axis, n in enumerate(shape):
        field[:, axis] /= spacing_mm[axis]
        offsets = (np.arange(n, dtype=np.float32) - (n - 1) / 2) * np.float32(
            math.exp(rng.uniform(-BODY_SIZE, BODY_SIZE)) - 1
        )
        field[:, axis] += offsets.reshape([n if a == axis else 1 for a in range(3)])
    return field


def _random_vectors(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], sd_mm: float, rng: np.random.Generator
) -> np.ndarray:
    """Random vectors (1, 3, D, H, W) in mm, independent at points 3 cm apart and linear between."""
    knots = [max(2, round(n * s / BODY_MM) + 1) for n, s in zip(shape, spacing_mm, strict=True)]
    drawn = rng.normal(0, sd_mm, (3, *knots)).astype(np.float32)
    return F.interpolate(torch.from_numpy(drawn)[None], shape, mode="trilinear", align_corners=True).numpy()


def motion_field(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], rng: np.random.Generator,
    motion: Motion = Motion(), window: Box | None = None,
) -> np.ndarray:  # fmt: skip
    """A displacement (1, 3, D, H, W) in voxels: a rigid motion about the centre and a lateral curve along the spine.

    The curve shifts each axial slice as a whole and therefore keeps all volumes. A motion may slide along the spine and
    ripple in addition.

    Args:
        shape: (D, H, W).
        spacing_mm: (z, y, x).
        rng: the source of random numbers.
        motion: the sizes.
        window: part of the volume in which rotation, curve and ripple have a mean of 0. The shift and the slide are
            then the mean displacement there; about the centre of a long volume, a small rotation moves its ends far.
            None: rotate about the volume's centre.
    """
    axes = [(np.arange(n, dtype=np.float32) - np.float32((n - 1) / 2)) * np.float32(s)
            for n, s in zip(shape, spacing_mm, strict=True)]  # fmt: skip
    turn = Rotation.from_rotvec(rng.normal(0, motion.turn_deg, 3), degrees=True).as_matrix() - np.eye(3)
    positions = np.stack(np.meshgrid(*axes, indexing="ij"))
    field = np.einsum("ij,jzyx->izyx", turn.astype(np.float32), positions)
    shift = rng.normal(0, np.reshape(motion.shift_mm, (3, 1, 1, 1))).astype(np.float32)
    length = max(shape[0] * spacing_mm[0], WAVE_MM)
    waves = np.arange(1, int(2 * length / WAVE_MM) + 1)
    curves = np.cos(np.pi * np.outer(waves, np.arange(shape[0]) / max(shape[0] - 1, 1)))
    bend = rng.normal(0, motion.bend_mm / np.sqrt(len(waves)), (2, len(waves))) @ curves
    field[1:] += bend[:, :, None, None].astype(np.float32)
    if motion.slide_mm:
        shift[0] += np.float32(rng.uniform(-motion.slide_mm, motion.slide_mm))
    if motion.ripple_mm:
        field += _random_vectors(shape, spacing_mm, motion.ripple_mm, rng)[0]
    if window is not None:
        field -= field[:, *window].mean((1, 2, 3), keepdims=True)
    field += shift
    return (field / np.array(spacing_mm, np.float32)[:, None, None, None])[None]
