"""The joint histogram of two images under a cubic Parzen window, for `metrics.similarity`, with its gradient."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

Limits = tuple[float, float]  # the least and the greatest value of an image


class Window:
    """The cubic Parzen window of one image's voxels (B, V): the first of the four bins that each touches, and values.

    The smallest and largest value with a weight are at the centres of the second and the last but one bin, as in
    elastix: the window then ends on bins of the histogram. This range has no gradient, as in elastix. `limits` replace
    the two values.

    Attributes:
        first: int64 (B, V).
        values: the cubic B-spline at the four bins, each (B, V).
    """

    def __init__(self, image: Tensor, weights: Tensor, bins: int, limits: Limits | None) -> None:
        values, counts = image.flatten(1), weights.flatten(1) > 0
        if limits is None:
            low = values.where(counts, torch.inf).amin(dim=1, keepdim=True)
            width = values.where(counts, -torch.inf).amax(dim=1, keepdim=True) - low
        else:
            low, width = values.new_tensor([[limits[0]]]), values.new_tensor([[limits[1] - limits[0]]])
        # An image of one value has no range. Divided by infinity it falls on one bin, without gradient.
        width = width.where(width > 0, torch.inf)
        place = (values - low) / width
        self._per_value = (bins - 3) / width * ((place >= 0) & (place <= 1))
        place = place.clamp(0, 1) * (bins - 3)
        self.first = place.floor().long().clamp(0, bins - 4)  # of NaN the bin is arbitrary and the window NaN
        self._right = place - self.first
        left = 1 - self._right
        inner = [(4 - 6 * t.square() + 3 * t**3) / 6 for t in (self._right, left)]
        self.values = [left**3 / 6, *inner, self._right**3 / 6]

    def slopes(self) -> list[Tensor]:
        """The derivatives of `values` by the image, each (B, V); 0 beyond the range."""
        right, left = self._right, 1 - self._right
        inner = [(3 * t.square() - 4 * t) / 2 for t in (right, left)]
        by_place = [-left.square() / 2, inner[0], -inner[1], right.square() / 2]
        return [slope * self._per_value for slope in by_place]


class JointSums(torch.autograd.Function):
    """Sums of weights over the pairs of bins of two images (B, V), float64 (B, bins, bins); a closed-form gradient."""

    @staticmethod
    def forward(
        ctx: Any, a: Tensor, b: Tensor, weights: Tensor, bins: int, limits: tuple[Limits | None, Limits | None]
    ) -> Tensor:
        windows = [Window(v, weights, bins, limit) for v, limit in zip((a, b), limits, strict=True)]
        starts = bins - 3
        item = torch.arange(len(a), device=a.device)[:, None]
        index = ((item * starts + windows[0].first) * starts + windows[1].first).flatten()
        # One sum over the voxels for each of the 4 x 4 bins of a window, all with one index; `fold` moves each to its
        # bin. The sums are float64: in float32 that of a large background has an error of several per cent.
        empty = torch.zeros(len(a) * starts**2, device=a.device, dtype=torch.float64)
        weighted = [u * weights for u in windows[0].values]
        sums = torch.stack([
            empty.index_add(0, index, (u * v).flatten().double()) for u in weighted for v in windows[1].values
        ])  # fmt: skip
        ctx.windows, ctx.index, ctx.bins = windows, index, bins
        ctx.save_for_backward(weights)
        return F.fold(sums.view(16, len(a), -1).transpose(0, 1), (bins, bins), kernel_size=4)[:, 0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (weights,) = ctx.saved_tensors
        a, b = ctx.windows
        # The gradient of the bins at each of the 4 x 4 places of a window, (16, B * starts^2): `fold` backwards.
        unfolded = F.unfold(gradients[0][:, None], kernel_size=4).transpose(0, 1).reshape(16, -1)
        at = unfolded.index_select(1, ctx.index).to(weights.dtype).view(4, 4, *weights.shape)
        results: list[Tensor | None] = []
        for needed, own, other, of_bins in (
            (ctx.needs_input_grad[0], a, b, at), (ctx.needs_input_grad[1], b, a, at.transpose(0, 1))
        ):  # fmt: skip
            if not needed:
                results.append(None)
                continue
            summed = (of_bins * torch.stack(other.values)).sum(dim=1)
            results.append((summed * torch.stack(own.slopes())).sum(dim=0) * weights)
        by_weight = None
        if ctx.needs_input_grad[2]:
            by_weight = (at * torch.stack(a.values)[:, None] * torch.stack(b.values)).sum(dim=(0, 1))
        return *results, by_weight, None, None
