"""Similarity of images of different contrast: MIND-SSC.

Reference:
    Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
    MICCAI 2013. Of the six neighbours at `dilation` voxels, the twelve pairs that are sqrt(2) dilations apart are
    compared by the mean squared difference D of the patches around them; the descriptor is exp(-(D - min D) / V) with
    V the mean of D - min D over the twelve.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_AXIS_PAIRS = ((0, 1), (0, 2), (1, 2))


def _box_sum(volume: Tensor, radius: int) -> Tensor:
    """Sums over cubes of edge 2 radius + 1; every axis gets shorter by 2 radius."""
    for axis in (-3, -2, -1):
        n = volume.shape[axis] - 2 * radius
        total = volume.narrow(axis, 0, n)
        for start in range(1, 2 * radius + 1):
            total = total + volume.narrow(axis, start, n)
        volume = total
    return volume


def _patch_distances(image: Tensor, radius: int, dilation: int) -> Tensor:
    """The twelve patch distances D, (B, 12, D, H, W).

    Pairs with the same difference vector share one box filter: D of the pair (a, b) at x is a function of x + a and
    b - a alone, so that six filters serve twelve pairs.
    """
    reach = radius + dilation
    padded = F.pad(image, (reach,) * 6, mode="replicate")[:, 0]
    size = image.shape[2:]
    distances = []
    for i, j in _AXIS_PAIRS:
        for sign in (1, -1):
            # a = -dilation along i to b = sign * dilation along j; and a' = -b to b' = -a: the same difference.
            start_a, start_b = [0, 0, 0], [0, 0, 0]
            start_a[i], start_b[j] = -dilation, sign * dilation
            step = [b - a for a, b in zip(start_a, start_b, strict=True)]
            starts = (start_a, [-b for b in start_b])
            low = [min(s[k] for s in starts) for k in range(3)]
            extent = [max(s[k] for s in starts) - low[k] + size[k] + 2 * radius for k in range(3)]
            here, there = padded, padded
            for k in range(3):
                here = here.narrow(k + 1, dilation + low[k], extent[k])
                there = there.narrow(k + 1, dilation + low[k] + step[k], extent[k])
            box = _box_sum((here - there) ** 2, radius)
            for start in starts:
                part = box
                for k in range(3):
                    part = part.narrow(k + 1, start[k] - low[k], size[k])
                distances.append(part)
    return torch.stack(distances, dim=1) / (2 * radius + 1) ** 3


def mind_ssc(image: Tensor, radius: int = 2, dilation: int = 2) -> Tensor:
    """MIND-SSC descriptors (B, 12, D, H, W) in (0, 1] of images (B, 1, D, H, W).

    radius: of the patch, voxels. dilation: distance of the six neighbours, voxels. The image is continued by its
    border value. Invariant to a * image + b, but for the guard of flat regions: V is kept within 0.001 and 1000 times
    its mean over the item, without gradient; an image of one value gives 1 everywhere.
    """
    if image.ndim != 5 or image.shape[1] != 1:
        raise ValueError(f"image: expected (B, 1, D, H, W), got {tuple(image.shape)}")
    distance = _patch_distances(image, radius, dilation)
    distance = distance - distance.amin(dim=1, keepdim=True)
    variance = distance.mean(dim=1, keepdim=True)
    mean = variance.detach().mean(dim=(2, 3, 4), keepdim=True)
    tiny = torch.finfo(image.dtype).tiny
    variance = torch.minimum(torch.maximum(variance, mean * 0.001), mean * 1000).clamp(min=tiny)
    return torch.exp(-distance / variance)


def mind_loss(descriptors_a: Tensor, descriptors_b: Tensor, weights: Tensor | None = None) -> Tensor:
    """The mean squared difference of two MIND-SSC descriptors (B, 12, D, H, W): one value per item, in [0, 1].

    weights: (B, 1, D, H, W), at least 0, of each voxel, or None for all equal; NaN where they sum to 0.
    """
    difference = ((descriptors_a - descriptors_b) ** 2).mean(dim=1, keepdim=True)
    if weights is None:
        return difference.mean(dim=(1, 2, 3, 4))
    return (difference * weights).sum(dim=(1, 2, 3, 4)) / weights.sum(dim=(1, 2, 3, 4))
