"""Targets that teach a network to read one image before it compares two: where in its vertebra each voxel lies.

A displacement is learned from the product of what is read in both images. From random weights the gradient of this
product is small beside its noise, so reading is learned first. The position along the spine is a phase: it is 0 at the
centroid of every vertebra and grows by a turn from one vertebra to the next. The sine and the cosine of the phase name
no level, and they are continuous between neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

# Voxels of a vertebra below which its centroid is not used: the volume or a crop shows a small part of it only.
FEWEST_VOXELS = 60
# Largest distance from the centroid, in vertebrae, at which a phase is a target; neighbours meet at 0.5.
FARTHEST = 0.55
# Distance from bone, in voxels of the half resolution, up to which a phase is a target.
NEAR = 2
# Period of the position across the spine, which is cyclic too: a vertebra fills about one period.
PERIOD_MM = 32.0
_SHARPNESS = 8.0


def spine_phase(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the phase along the spine at half resolution, where the network's decoder ends.

    The distance a from the centroid of a vertebra, along the line between the centroids of its neighbours, is measured
    in units of the distance between vertebrae. Neighbouring vertebrae are blended by exp(-8 a^2).

    Args:
        labels: (D, H, W), integers, 0 = background; even sizes.

    Returns:
        Sine and cosine of 2 pi a, float32 (2, D/2, H/2, W/2); and their weights, float32 (1, D/2, H/2, W/2) in [0, 1]:
        1 near bone of a vertebra whose phase is known, 0 elsewhere. All weights are 0 with fewer than two whole
        vertebrae, which determine no direction.

    Raises:
        ValueError: a size is odd.
    """
    blended, weights = _blended(labels)
    return blended[:2], weights


def spine_position(labels: Tensor, spacing_mm: Sequence[float]) -> tuple[Tensor, Tensor]:
    """Compute `spine_phase` and the position across the spine.

    The position across is the offset y and x from the line through the centroids, as sine and cosine with a period of
    32 mm.

    Args:
        labels: (D, H, W), integers, 0 = background; even sizes.
        spacing_mm: (z, y, x) of the labels.

    Returns:
        Sine and cosine along the spine, of y and of x, float32 (6, D/2, H/2, W/2); and their weights, as `spine_phase`.

    Raises:
        ValueError: a size is odd.
    """
    blended, weights = _blended(labels)
    turns = [2 * math.pi / PERIOD_MM * s * offset for s, offset in zip(spacing_mm[1:], blended[2:], strict=True)]
    return torch.cat([blended[:2], *(torch.stack([t.sin(), t.cos()]) for t in turns)]), weights


def bone_share(labels: Tensor) -> Tensor:
    """Compute the share of labelled voxels at half resolution.

    Args:
        labels: (D, H, W), integers, 0 = background; even sizes.

    Returns:
        float32 (1, D/2, H/2, W/2) in [0, 1].
    """
    return F.avg_pool3d((labels > 0).float()[None], 2)


def _blended(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Sine and cosine along the spine and the offsets y and x from it, in voxels, (4, D/2, H/2, W/2); and the weights.

    The offsets are blended as they are, since they are continuous between neighbours.
    """
    if any(n % 2 for n in labels.shape):
        raise ValueError(f"labels: expected even sizes, got {tuple(labels.shape)}; pad first")
    half = [n // 2 for n in labels.shape]
    centres = _whole_centroids(labels)
    if len(centres) < 2:
        return torch.zeros(4, *half, device=labels.device), torch.zeros(1, *half, device=labels.device)
    (directions,) = torch.gradient(centres, dim=0)
    lengths = directions.norm(dim=1)
    # A voxel of the half resolution covers voxels 2i and 2i + 1.
    z, y, x = (2 * torch.arange(n, device=labels.device) + 0.5 for n in half)
    blended, total = torch.zeros(4, *half, device=labels.device), torch.zeros(half, device=labels.device)
    nearest = torch.full(half, math.inf, device=labels.device)
    for c, d, length in zip(centres, directions / lengths[:, None], lengths, strict=True):
        along = (z - c[0])[:, None, None] * d[0] + (y - c[1])[:, None] * d[1] + (x - c[2]) * d[2]
        a = along / length
        weight = torch.exp(-_SHARPNESS * a.square())
        offsets = (y - c[1])[:, None] - along * d[1], (x - c[2]) - along * d[2]
        blended += weight * torch.stack([(2 * math.pi * a).sin(), (2 * math.pi * a).cos(), *offsets])
        total += weight
        nearest = torch.minimum(nearest, a.abs())
    near_bone = F.max_pool3d((labels > 0).float()[None], 2)
    for axis in range(3):
        window = [2 * NEAR + 1 if a == axis else 1 for a in range(3)]
        near_bone = F.max_pool3d(near_bone, window, 1, [n // 2 for n in window])
    return blended / total.clamp(min=1e-6), near_bone * (nearest < FARTHEST)


def _whole_centroids(labels: Tensor) -> Tensor:
    """Centroids (n, 3) in voxels (z, y, x), ascending by z, of the vertebrae that neither end of the volume cuts."""
    ends = set(labels[0].unique().tolist()) | set(labels[-1].unique().tolist())
    centres = []
    for vertebra in labels.unique().tolist():
        if vertebra == 0 or vertebra in ends:
            continue
        voxels = (labels == vertebra).nonzero()
        if len(voxels) >= FEWEST_VOXELS:
            centres.append(voxels.float().mean(dim=0))
    if not centres:
        return torch.zeros(0, 3, device=labels.device)
    stacked = torch.stack(centres)
    return stacked[stacked[:, 0].argsort()]
