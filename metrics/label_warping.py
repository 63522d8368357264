"""Label maps under a displacement: soft labels for losses, hard labels for the tables.

The rule is linear interpolation of the one-hot map of each label. Each label is computed in its own box alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metrics._trilinear import Cells
from metrics.boxes import Box, bounding_box, label_boxes
from metrics.fields import identity_grid
from metrics.soft_labels import SoftLabels

_TIE = 1e-6  # soft labels that differ less are equal but for rounding


def warp_soft(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], boxes: Sequence[Box | None] | None = None
) -> Tensor:
    """Warp the one-hot map of each label linearly, differentiable in the displacement.

    Outside the label map is background, and so is a point that is not finite. A shift by whole voxels is exact.

    Args:
        labels: integer moving map (D, H, W).
        displacement: (1, 3, d, h, w), voxels.
        ids: N label values, positive.
        boxes: `metrics.boxes.label_boxes(labels, ids)`; None computes them.

    Returns:
        (N, d, h, w), in [0, 1], in the displacement's dtype; 0 for a label that is absent.

    Raises:
        ValueError: an id is below 1.
    """
    result: Tensor = _WarpSoft.apply(displacement, labels, tuple(ids), boxes)
    return result


class _WarpSoft(torch.autograd.Function):
    """Computes each label in its own box: in the rest of the grid label and gradient are 0."""

    @staticmethod
    def forward(
        ctx: Any, displacement: Tensor, labels: Tensor, ids: Sequence[int], boxes: Sequence[Box | None] | None
    ) -> Tensor:
        result = displacement.new_zeros((len(ids), *displacement.shape[2:]))
        ctx.parts, ctx.shape = [], displacement.shape
        for k, where, value, slope in _soft_parts(labels, displacement, ids, boxes):
            result[k, *where] = value
            if ctx.needs_input_grad[0]:
                ctx.parts.append((k, where, slope))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        back = gradients[0].new_zeros(ctx.shape)
        for k, where, slope in ctx.parts:
            back[0, :, *where] += slope * gradients[0][k, *where]
        return back, None, None, None


def _soft_parts(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], boxes: Sequence[Box | None] | None
) -> Iterator[tuple[int, Box, Tensor, Tensor]]:
    """Warp each label that reaches the fixed grid, in the fixed box outside of which it is 0.

    Yields its index in `ids`, the box, its values there, and their derivative (3, ...) by the displacement.
    """
    everywhere = tuple(slice(0, n) for n in displacement.shape[2:])
    wide = _extremes(displacement)
    for k, box in enumerate(label_boxes(labels, ids) if boxes is None else boxes):
        where = box and _landing(box, everywhere, wide)
        # The extremes within that box are tighter than those of the whole grid.
        where = where and box and _landing(box, where, _extremes(displacement[..., *where]))
        if not box or not where:
            continue
        part = displacement[..., *where]
        first = displacement.new_tensor([s.start for s in where]).view(1, 3, 1, 1, 1)
        points = identity_grid(part.shape[2:], part.device, part.dtype) + first + part
        value, slope = _sample(labels[box] == ids[k], box, points.flatten(2))
        yield k, where, value.view(part.shape[2:]), slope.view(part.shape[1:])


def interpolate_mask(mask: Tensor, box: Box, points: Tensor) -> Tensor:
    """Interpolate a mask linearly at points, without gradient.

    Args:
        mask: bool (d, h, w), the part of the mask in `box`; outside of the box the mask is False.
        box: of the mask, in voxels.
        points: (3, D, H, W), continuous voxel indices z, y, x. A point that is not finite has the value 0.

    Returns:
        (D, H, W), in [0, 1], in the points' dtype.
    """
    return _sample(mask, box, points.flatten(1)[None])[0].view(points.shape[1:])


def _sample(mask: Tensor, box: Box, points: Tensor) -> tuple[Tensor, Tensor]:
    """Value (1, P) and slope (1, 3, P) of the mask in `box` at points (1, 3, P), continuous voxel indices z, y, x."""
    origin = points.new_tensor([s.start for s in box])
    cells = Cells(mask[None], origin[None], torch.ones_like(origin))
    return cells.sample(cells.voxels(points.nan_to_num(nan=-torch.inf)))


def _extremes(displacement: Tensor) -> list[tuple[float, float]]:
    """The least and greatest displacement along each axis."""
    low, high = (f(dim=(0, 2, 3, 4)).tolist() for f in (displacement.amin, displacement.amax))
    return list(zip(low, high, strict=True))


def _landing(box: Box, where: Sequence[slice], extremes: Sequence[tuple[float, float]]) -> Box | None:
    """The part of `where` that displacements within `extremes` can map into a moving label's box; None if it is empty.

    The whole of `where` if a displacement is not finite.
    """
    result = []
    for target, part, (low, high) in zip(box, where, extremes, strict=True):
        start, stop = part.start, part.stop
        if math.isfinite(low) and math.isfinite(high):
            start = max(start, math.floor(target.start - 1 - high))
            stop = min(stop, math.ceil(target.stop - low) + 1)
        if start >= stop:
            return None
        result.append(slice(start, stop))
    return result[0], result[1], result[2]


def warp_labels(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], boxes: Sequence[Box | None] | None = None
) -> Tensor:
    """Warp a label map: the argmax over the linearly warped one-hot maps and the background, which wins a tie.

    Args:
        labels: integer moving map (D, H, W).
        displacement: (1, 3, d, h, w), voxels. A point that is not finite becomes background.
        ids: N label values, positive. All other labels count as background.
        boxes: `metrics.boxes.label_boxes(labels, ids)`; None computes them.

    Returns:
        (d, h, w), in the labels' dtype.

    Raises:
        ValueError: an id is below 1.
    """
    return warp_labels_and_crops(labels, displacement, ids, (), boxes)[0]


@torch.no_grad()
def warp_labels_and_crops(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], soft_ids: Sequence[int],
    boxes: Sequence[Box | None] | None = None,
) -> tuple[Tensor, SoftLabels]:  # fmt: skip
    """Compute `warp_labels` of `ids` and `warp_crops` of `soft_ids` in one pass, without gradient.

    Args:
        labels: integer moving map (D, H, W).
        displacement: (1, 3, d, h, w), voxels.
        ids: label values of the hard map, positive.
        soft_ids: N label values among `ids`.
        boxes: `metrics.boxes.label_boxes(labels, ids)`; None computes them.

    Returns:
        The hard map (d, h, w), in the labels' dtype, and the N soft labels, each in the smallest box that holds it; a
        soft id that is not in `ids` has an empty label.

    Raises:
        ValueError: an id is below 1.
    """
    found: dict[int, tuple[Tensor, Box]] = {}
    largest = LargestLabel(displacement.shape[2:], displacement.dtype, displacement.device)
    for k, where, value, _ in _soft_parts(labels, displacement, ids, boxes):
        largest.add(ids[k], where, value)
        if ids[k] in soft_ids:
            found |= _tight(ids[k], where, value)
    return largest.labels().to(labels.dtype), _soft_labels(found, displacement, soft_ids)


@torch.no_grad()
def warp_crops(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], boxes: Sequence[Box | None] | None = None
) -> SoftLabels:
    """Compute `warp_soft` as crops, without gradient.

    Args:
        labels: integer moving map (D, H, W).
        displacement: (1, 3, d, h, w), voxels.
        ids: N label values, positive.
        boxes: `metrics.boxes.label_boxes(labels, ids)`; None computes them.

    Returns:
        The N soft labels, each in the smallest box that holds it.

    Raises:
        ValueError: an id is below 1.
    """
    found: dict[int, tuple[Tensor, Box]] = {}
    for k, where, value, _ in _soft_parts(labels, displacement, ids, boxes):
        found |= _tight(ids[k], where, value)
    return _soft_labels(found, displacement, ids)


def _tight(label: int, where: Box, value: Tensor) -> dict[int, tuple[Tensor, Box]]:
    """A soft label by its id: its values in the smallest box, and that box; nothing for an empty label."""
    inner = bounding_box(value)
    if inner is None:
        return {}
    z, y, x = (slice(w.start + i.start, w.start + i.stop) for w, i in zip(where, inner, strict=True))
    return {label: (value[inner].clone(), (z, y, x))}


def _soft_labels(found: dict[int, tuple[Tensor, Box]], displacement: Tensor, ids: Sequence[int]) -> SoftLabels:
    nothing = displacement.new_zeros((0, 0, 0)), None
    parts = [found.get(v, nothing) for v in ids]
    depth, height, width = displacement.shape[2:]
    return SoftLabels([crop for crop, _ in parts], [box for _, box in parts], (depth, height, width))


class LargestLabel:
    """The hard map of soft labels that are added one after the other: the argmax over them and the background.

    The background wins a tie with a label. Of two labels with a tie, the one that was added first wins.
    """

    def __init__(self, shape: Sequence[int], dtype: torch.dtype, device: torch.device | str = "cpu") -> None:
        """Start with background everywhere.

        Args:
            shape: (D, H, W) of the map.
            dtype: of the soft labels.
            device: of the soft labels.
        """
        self._covered = torch.zeros(tuple(shape), dtype=dtype, device=device)
        self._best = torch.zeros_like(self._covered)
        self._winner = torch.zeros_like(self._covered, dtype=torch.int32)

    def add(self, label: int, where: Box, value: Tensor) -> None:
        """Add one label.

        Args:
            label: its value in the map.
            where: the box outside of which the soft label is 0.
            value: the soft label in this box, in [0, 1].
        """
        self._covered[where] += value
        better = value > self._best[where] + _TIE
        self._best[where] = torch.maximum(self._best[where], value)
        self._winner[where] = torch.where(better, label, self._winner[where])

    def labels(self) -> Tensor:
        """The hard map, int32 (D, H, W)."""
        # The one-hot sums to 1 everywhere, so the background holds what no label does.
        return self._winner.where(self._best > 1 - self._covered + _TIE, 0)
