"""Vertebrae cut out to boxes of one size for `metrics.rigid`, so that all of a case are one batch.

Positions are in mm in axis order (z, y, x). K vertebrae are the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from metrics.boxes import Box
from metrics.fields import identity_grid
from metrics.soft_labels import SoftLabels

# Largest motion of a transform, in voxels, before the voxels that it can change are selected again.
REACH = 1


def cut(
    volume: Tensor | SoftLabels, boxes: Sequence[Box], keys: Sequence[int], dtype: torch.dtype | None = None
) -> tuple[Tensor, Tensor]:
    """Cut K boxes of one size out of a volume, each around its own box and inside the grid, without padding.

    volume: a label map (D, H, W), where box k takes the label keys[k]; soft labels (N, D, H, W), where it takes the
    channel keys[k]; or a field (1, 3, D, H, W). Returns (K, C, d, h, w) and the first voxel of each, (K, 3).
    """
    shape, dtype = volume.shape[-3:], dtype or volume.dtype
    size = [max(b[a].stop - b[a].start for b in boxes) for a in range(3)]
    first = [[min(b[a].start, shape[a] - size[a]) for a in range(3)] for b in boxes]
    where = [tuple(slice(s, s + n) for s, n in zip(start, size, strict=True)) for start in first]
    if isinstance(volume, SoftLabels):
        crops = torch.stack([volume.crop(key, w)[None] for w, key in zip(where, keys, strict=True)]).to(dtype)
    elif volume.dim() == 3:
        crops = torch.stack([volume[None, *w] == key for w, key in zip(where, keys, strict=True)]).to(dtype)
    else:
        channels = [slice(None) if volume.dim() == 5 else slice(key, key + 1) for key in keys]
        crops = _Cut.apply(volume.flatten(0, -4), list(zip(channels, where, strict=True))).to(dtype)
    return crops, torch.tensor(first, dtype=dtype, device=volume.device)


class _Cut(torch.autograd.Function):
    """Crops (K, C, d, h, w) of a volume (N, D, H, W). Autograd's own backward pass makes a volume for each."""

    @staticmethod
    def forward(ctx: Any, volume: Tensor, where: Sequence[tuple[slice, Sequence[slice]]]) -> Tensor:
        ctx.where, ctx.shape = where, volume.shape
        return torch.stack([volume[channel, *box] for channel, box in where])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        back = gradients[0].new_zeros(ctx.shape)
        for (channel, box), part in zip(ctx.where, gradients[0], strict=True):
            back[channel, *box] += part
        return back, None


def covering(
    box: Box,
    target: Box,
    rotation: Sequence[Sequence[float]],
    translation: Sequence[float],
    spacing_mm: Sequence[float],
    shape: Sequence[int],
) -> Box:
    """The fixed box that holds `target` and all that the transform maps into the moving `box`, plus `REACH`."""
    slices = []
    for axis in range(3):
        centre = half = 0.0
        # One axis of x = R^T (y - t) over the box of y is an interval about the image of its middle.
        for j in range(3):
            middle = (box[j].start + box[j].stop - 1) / 2 * spacing_mm[j] - translation[j]
            centre += rotation[j][axis] * middle
            half += abs(rotation[j][axis]) * (box[j].stop - box[j].start + 1) / 2 * spacing_mm[j]
        low = min(target[axis].start, (centre - half) / spacing_mm[axis]) - REACH
        high = max(target[axis].stop - 1, (centre + half) / spacing_mm[axis]) + REACH
        slices.append(slice(max(math.floor(low), 0), min(math.ceil(high) + 1, shape[axis])))
    return slices[0], slices[1], slices[2]


def positions(origin: Tensor, size: Sequence[int], spacing: Tensor, stride: int = 1) -> Tensor:
    """Positions (K, 3, P) of every `stride`-th voxel of boxes of `size` whose first voxels are `origin` (K, 3)."""
    counts = [-(-n // stride) for n in size]
    grid = identity_grid(counts, spacing.device, spacing.dtype).flatten(2) * stride
    return (grid + origin.unsqueeze(-1)) * spacing.unsqueeze(-1)


def affine(step: Tensor, middle: Tensor, size: Sequence[int], slab: slice = slice(None)) -> Tensor:
    """An affine map at all voxels of boxes of `size`, or in a slab of their z-slices: (K, 3, d, h, w).

    step: (K, 3, 3), whose columns are the change for a voxel along z, y and x. middle: (K, 3), the value in the middle
    of the box.
    """
    along = []
    for axis, n in enumerate(size):
        place = torch.arange(n, device=step.device, dtype=step.dtype) - (n - 1) / 2
        place = place[slab] if axis == 0 else place
        along.append(step[:, :, axis, None, None, None] * place.view([-1 if a == axis else 1 for a in range(3)]))
    z, y, x = along
    return z + middle[..., None, None, None] + y + x


def transform(
    moving: Tensor,
    moving_origin: Tensor,
    rotation: Tensor,
    translation: Tensor,
    origin: Tensor,
    size: Sequence[int],
    spacing: Tensor,
) -> Tensor:
    """Moving crops (K, 1, ...) with first voxels `moving_origin`, resampled on boxes of `size` from `origin` on."""
    # With a margin of zeros an axis of one voxel has an outside too.
    padded = F.pad(moving, (1,) * 6)
    step = rotation * spacing / spacing.unsqueeze(-1)
    middle = (torch.tensor(tuple(size), device=step.device, dtype=step.dtype) - 1) / 2
    image = ((rotation @ ((origin + middle) * spacing).unsqueeze(-1)).squeeze(-1) + translation) / spacing
    # grid_sample's coordinates: from the middle of the box, in units of half its edge.
    half = torch.tensor(tuple(padded.shape[2:]), device=step.device, dtype=step.dtype) / 2
    centre = (image - moving_origin + 1 - (half - 0.5)) / half
    z, y, x = affine(step / half.unsqueeze(-1), centre, size).unbind(1)
    return F.grid_sample(padded, torch.stack([x, y, z], dim=-1).to(padded.dtype), align_corners=False)
