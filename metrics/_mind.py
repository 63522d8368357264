"""MIND-SSC for `metrics.similarity`, computed in slabs so that the twelve channels stay in the processor's cache.

A slab is a run of z-slices, or of rows in a run of z-slices. The twelve channels of a whole scan do not fit into the
cache, and each operation on them waits for memory. Those of a slab fit; computing them again for the gradient takes
less time than storing them. There are B items; the image is padded by radius + dilation on each side, (B, D + 2 reach,
H + 2 reach, W + 2 reach).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metrics.boxes import bounding_box

# Voxels of a slab, over all items. Measured: larger slabs leave the cache, smaller ones repeat more at their edges.
SLAB = 2**16
# A slab of whole z-slices has at least this many; where fewer fit, most of the work would be at a slab's edges.
FEWEST_SLICES = 4
# z-slices of a slab that is cut along y too.
CUT_SLICES = 16
Slab = tuple[slice, slice]
_AXIS_PAIRS = ((0, 1), (0, 2), (1, 2))


@dataclass(frozen=True)
class _Pair:
    """Two pairs of neighbours with one difference vector: D of (a, b) at x depends on x + a and b - a only.

    So one box filter serves both. `low` is its first voxel (from the first output voxel), `extra` how many voxels an
    axis has more than the output, `step` the offset between the patches, `starts` where the output of either pair
    begins.
    """

    low: tuple[int, ...]
    extra: tuple[int, ...]
    step: tuple[int, ...]
    starts: tuple[tuple[int, ...], ...]


def _pairs(dilation: int) -> list[_Pair]:
    """The six box filters for the twelve pairs of neighbours that are sqrt(2) dilations apart."""
    result = []
    for i, j in _AXIS_PAIRS:
        for sign in (1, -1):
            # a = -dilation along i, b = sign * dilation along j; a' = -b and b' = -a have the same difference.
            a, b = [0, 0, 0], [0, 0, 0]
            a[i], b[j] = -dilation, sign * dilation
            starts = (a, [-v for v in b])
            low = [min(s[k] for s in starts) for k in range(3)]
            extra = [max(s[k] for s in starts) - low[k] for k in range(3)]
            relative = tuple(tuple(s[k] - low[k] for k in range(3)) for s in starts)
            result.append(_Pair(tuple(low), tuple(extra), tuple(v - u for u, v in zip(a, b, strict=True)), relative))
    return result


def _box(volume: Tensor, start: Sequence[int], size: Sequence[int]) -> Tensor:
    """A view on the last three axes."""
    for k in range(3):
        volume = volume.narrow(volume.ndim - 3 + k, start[k], size[k])
    return volume


def _box_sum(volume: Tensor, radius: int) -> Tensor:
    """Sums over cubes of edge 2 radius + 1; every axis gets shorter by 2 radius."""
    for axis in (-3, -2, -1):
        n = volume.shape[axis] - 2 * radius
        total = volume.narrow(axis, 0, n)
        for start in range(1, 2 * radius + 1):
            part = volume.narrow(axis, start, n)
            total = total + part if start == 1 else total.add_(part)
        volume = total
    return volume


class Distances:
    """The patch distances of images padded by radius + dilation, one slab at a time."""

    def __init__(self, padded: Tensor, radius: int, dilation: int) -> None:
        self.padded, self.radius, self.dilation = padded, radius, dilation
        self.reach = radius + dilation
        self.size = [n - 2 * self.reach for n in padded.shape[1:]]
        self.pairs = _pairs(dilation)

    def size_of(self, slab: Slab) -> list[int]:
        """The voxels of a slab along z, y and x."""
        return [*(part.stop - part.start for part in slab), self.size[2]]

    def _views(self, volume: Tensor, pair: _Pair, slab: Slab) -> tuple[Tensor, Tensor]:
        """The centres of the two patches, wide enough for the box filter of one pair in one slab."""
        size = self.size_of(slab)
        wide = [n + e + 2 * self.radius for n, e in zip(size, pair.extra, strict=True)]
        first = [self.dilation + v for v in pair.low]
        for axis, part in enumerate(slab):
            first[axis] += part.start
        return _box(volume, first, wide), _box(volume, [f + s for f, s in zip(first, pair.step, strict=True)], wide)

    def normalised(self, slab: Slab) -> tuple[Tensor, Tensor]:
        """D - min D, (B, 12, d, h, W), and its mean V, (B, d, h, W), before clipping."""
        size = self.size_of(slab)
        distance = self.padded.new_empty((len(self.padded), 12, *size))
        for k, pair in enumerate(self.pairs):
            patch, other = self._views(self.padded, pair, slab)
            sums = _box_sum((patch - other).square_(), self.radius)
            for part, start in enumerate(pair.starts):
                distance[:, 2 * k + part] = _box(sums, start, size)
        distance /= (2 * self.radius + 1) ** 3
        distance -= distance.amin(dim=1, keepdim=True)
        return distance, distance.mean(dim=1)


class Descriptor(Distances):
    """MIND-SSC of images padded by radius + dilation, one slab at a time, and its gradient."""

    def __init__(self, padded: Tensor, radius: int, dilation: int) -> None:
        super().__init__(padded, radius, dilation)
        variances = [self.normalised(slab)[1].sum(dim=(1, 2, 3)) for slab in self.slabs()]
        mean = (torch.stack(variances).sum(dim=0) / (self.size[0] * self.size[1] * self.size[2])).view(-1, 1, 1, 1)
        self.low = (mean * 0.001).clamp(min=torch.finfo(padded.dtype).tiny)
        self.high = mean * 1000

    def slabs(self) -> Iterator[Slab]:
        """Parts of the output of about `SLAB` voxels each."""
        depth, height, width = self.size
        slices, rows = max(1, SLAB // max(1, len(self.padded) * height * width)), height
        if slices < min(FEWEST_SLICES, depth):
            slices = min(CUT_SLICES, depth)
            rows = max(1, SLAB // (len(self.padded) * slices * width))
        for z in range(0, depth, slices):
            for y in range(0, height, rows):
                yield slice(z, min(z + slices, depth)), slice(y, min(y + rows, height))

    def describe(self, slab: Slab) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The descriptor (B, 12, d, h, W), D - min D, V after clipping, and where clipping did not change V."""
        distance, variance = self.normalised(slab)
        guarded = torch.minimum(torch.maximum(variance, self.low), self.high.clamp(min=self.low))
        return (distance / -guarded.unsqueeze(1)).exp_(), distance, guarded, guarded == variance

    def add_gradient(self, back: Tensor, slab: Slab, out: Tensor, described: Sequence[Tensor]) -> None:
        """Adds the gradient of the padded image to `out`. `back`, that of the descriptor, is overwritten."""
        descriptor, distance, variance, free = described
        back *= descriptor
        back /= -variance.unsqueeze(1)  # with respect to D - min D, for constant V
        by_variance = (back * distance).sum(dim=1).mul_(free).div_(variance).neg_()
        back += by_variance.unsqueeze(1) / 12
        # The least D is subtracted from all twelve; several that are least share its gradient.
        least = (distance == 0).to(back.dtype)
        back -= least * (back.sum(dim=1) / least.sum(dim=1)).unsqueeze(1)
        back *= 2 / (2 * self.radius + 1) ** 3
        size = self.size_of(slab)
        for k, pair in enumerate(self.pairs):
            wide = [n + e + 4 * self.radius for n, e in zip(size, pair.extra, strict=True)]
            sums = back.new_zeros((len(back), *wide))
            for part, start in enumerate(pair.starts):
                _box(sums, [s + 2 * self.radius for s in start], size).add_(back[:, 2 * k + part])
            patch, other = self._views(self.padded, pair, slab)
            slope = _box_sum(sums, self.radius).mul_(patch - other)
            patch_out, other_out = self._views(out, pair, slab)
            patch_out += slope
            other_out -= slope


def descriptors_at(padded: Tensor, chosen: Tensor, radius: int, dilation: int) -> Tensor:
    """Descriptors (P, 12) at the voxels of a mask (D, H, W), in the mask's order, of one padded image (1, ...).

    Only the box that the mask fills in each slab is computed, and each patch distance once. The variance is clipped by
    its mean over the chosen voxels.
    """
    reach = radius + dilation
    distances, variances = [padded.new_empty((12, 0))], [padded.new_empty(0)]
    depth, height, width = chosen.shape
    step = max(1, SLAB // max(1, height * width))
    for first in range(0, depth, step):
        part = chosen[first : first + step]
        box = bounding_box(part)
        if box is None:
            continue
        z, y, x = (slice(b.start + o, b.stop + o + 2 * reach) for b, o in zip(box, (first, 0, 0), strict=True))
        of_box = Distances(padded[:, z, y, x], radius, dilation)
        distance, variance = of_box.normalised((slice(0, of_box.size[0]), slice(0, of_box.size[1])))
        distances.append(distance[0][:, part[box]])
        variances.append(variance[0][part[box]])
    distance, variance = torch.cat(distances, dim=1), torch.cat(variances)
    mean = variance.mean()
    low = (mean * 0.001).clamp(min=torch.finfo(padded.dtype).tiny)
    variance = torch.minimum(torch.maximum(variance, low), (mean * 1000).clamp(min=low))
    return (distance / -variance).exp_().T.contiguous()


class MindSSC(torch.autograd.Function):
    """Descriptors (B, 12, D, H, W) of padded images."""

    @staticmethod
    def forward(ctx: Any, padded: Tensor, radius: int, dilation: int) -> Tensor:
        ctx.descriptor = Descriptor(padded, radius, dilation)
        result = padded.new_empty((len(padded), 12, *ctx.descriptor.size))
        for slab in ctx.descriptor.slabs():
            result[:, :, *slab] = ctx.descriptor.describe(slab)[0]
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        out = torch.zeros_like(ctx.descriptor.padded)
        for slab in ctx.descriptor.slabs():
            described = ctx.descriptor.describe(slab)
            ctx.descriptor.add_gradient(gradients[0][:, :, *slab].clone(), slab, out, described)
        return out, None, None


class MindLoss(torch.autograd.Function):
    """The mean squared difference (B,) of two padded images' descriptors, with weights (B, D, H, W) that sum to 1.

    The forward pass computes the gradients too, while a slab's descriptors are in memory.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, weights: Tensor, radius: int, dilation: int) -> Tensor:
        of_a, of_b = Descriptor(a, radius, dilation), Descriptor(b, radius, dilation)
        outs = [torch.zeros_like(v) if need else None for v, need in zip((a, b), ctx.needs_input_grad, strict=False)]
        total = a.new_zeros(len(a))
        for slab in of_a.slabs():
            described = of_a.describe(slab), of_b.describe(slab)
            difference = described[0][0] - described[1][0]
            share = weights[:, None, *slab] / 12
            total += (difference.square() * share).sum(dim=(1, 2, 3, 4))
            if not any(ctx.needs_input_grad):
                continue
            difference *= 2 * share
            for descriptor, parts, out, sign in zip((of_a, of_b), described, outs, (1, -1), strict=True):
                if out is not None:
                    descriptor.add_gradient(sign * difference, slab, out, parts)
        ctx.outs = outs
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scale = gradients[0].view(-1, 1, 1, 1)
        return *(None if out is None else out * scale for out in ctx.outs), None, None, None
