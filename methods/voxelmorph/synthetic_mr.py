"""A synthetic MR made from a CT and its labels, and CTs with bone marrow of another density.

Each tissue of the CT, told from its HU and from the labels, gets a random signal. No two draws look alike, so that a
network reads shapes in them and not one scanner's contrast.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

HU_RANGE = (-1000.0, 2000.0)  # of a CT in [0, 1]
# HU between which the signals below are interpolated: air, lung, fat (twice), water, muscle, then contrast, discs and
# bone of rising density.
TISSUES_HU = (-1000.0, -500.0, -150.0, -60.0, 0.0, 40.0, 90.0, 150.0, 300.0, 700.0, 2000.0)
T1_SHARE = 0.7  # of the draws that are ordered like T1; all others have independent signals
DENSE_HU = 200.0  # above, bone counts as cortex, which keeps its density
THICK_SHARE = 0.7  # of the images with thick slices along an axis


def synthetic_mr(ct: Tensor, bone: Tensor, rng: np.random.Generator) -> Tensor:
    """Make an MR with random contrast.

    Args:
        ct: (1, 1, D, H, W), in [0, 1].
        bone: soft mask of the bones, (1, 1, D, H, W), in [0, 1].
        rng: the source of random numbers.

    Returns:
        (1, 1, D, H, W), in [0, 1].
    """
    air = 0.02 * rng.random()
    if rng.random() < T1_SHARE:
        fat, muscle, water = rng.uniform(0.7, 1.0), rng.uniform(0.25, 0.5), rng.uniform(0.1, 0.35)
        disc, cortex, marrow = rng.uniform(0.15, 0.45), rng.uniform(0.03, 0.2), rng.uniform(0.45, 0.9)
    else:
        fat, muscle, water, disc, cortex, marrow = rng.uniform(0.05, 1.0, 6)
        cortex *= 0.4
    lung, dense = air + 0.05 * rng.random(), 0.6 * marrow + 0.4 * cortex
    outside = (air, lung, fat, fat, water, muscle, disc, (disc + cortex) / 2, cortex, cortex, cortex)
    inside = (air, lung, marrow, marrow, marrow, marrow, marrow, marrow, dense, cortex, cortex)
    low, high = HU_RANGE
    hu = low + (high - low) * ct.clamp(0, 1)
    image: Tensor = torch.lerp(_interpolated(hu, outside), _interpolated(hu, inside), bone)
    return thick_slices(image, rng)


def _interpolated(hu: Tensor, signals: tuple[float, ...]) -> Tensor:
    """The signal of each HU, linear between those of `TISSUES_HU`."""
    knots = torch.tensor(TISSUES_HU, device=hu.device)
    values = torch.tensor(signals, dtype=hu.dtype, device=hu.device)
    below = (torch.bucketize(hu, knots) - 1).clamp(0, len(knots) - 2)
    share = (hu - knots[below]) / (knots[below + 1] - knots[below])
    return torch.lerp(values[below], values[below + 1], share)


def thick_slices(image: Tensor, rng: np.random.Generator) -> Tensor:
    """The image (1, 1, D, H, W), now and then averaged over three or five slices along one axis, mostly x."""
    if rng.random() > THICK_SHARE:
        return image
    axis, times = int(rng.choice([2, 3, 4, 4, 4])), int(rng.integers(1, 3))
    kernel = [3 if a == axis else 1 for a in (2, 3, 4)]
    padding = [n // 2 for n in reversed(kernel) for _ in range(2)]
    for _ in range(times):
        image = F.avg_pool3d(F.pad(image, padding, mode="replicate"), kernel, 1)
    return image


def with_other_marrow(ct: Tensor, bone: Tensor, rng: np.random.Generator) -> Tensor:
    """A CT whose marrow has another density, from that of soft tissue to denser than it was; cortex changes little.

    Args:
        ct: (1, 1, D, H, W), in [0, 1].
        bone: soft mask of the bones, (1, 1, D, H, W), in [0, 1].
        rng: the source of random numbers.

    Returns:
        (1, 1, D, H, W), in [0, 1].
    """
    low, high = HU_RANGE
    base, marrow, cortex = rng.uniform(0, 80), rng.uniform(-0.1, 1.1), rng.uniform(0.8, 1.3)
    hu = low + (high - low) * ct
    factor = marrow + (cortex - marrow) * ((hu - DENSE_HU) / 300).clamp(0, 1)
    changed = ((base + factor * (hu - base) - low) / (high - low)).clamp(0, 1)
    return torch.lerp(ct, changed, bone)
