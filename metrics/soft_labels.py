"""Soft labels stored as crops, since a vertebra fills about a hundredth of a scan.

Where a function takes `Tensor | SoftLabels`, both have the same result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from metrics.boxes import Box


@dataclass(frozen=True)
class SoftLabels:
    """N soft labels on one grid, without gradient.

    Attributes:
        crops: N tensors (d, h, w), in [0, 1], one dtype and device; of size 0 for an empty label.
        boxes: the box of each crop, in voxels, outside of which the label is 0; None for an empty label.
        grid_shape: (D, H, W).
    """

    crops: Sequence[Tensor]
    boxes: Sequence[Box | None]
    grid_shape: tuple[int, int, int]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """The shape (N, D, H, W) of `whole`."""
        return (len(self.crops), *self.grid_shape)

    @property
    def dtype(self) -> torch.dtype:
        """Of the crops; float32 where there is none."""
        return self.crops[0].dtype if self.crops else torch.float32

    @property
    def device(self) -> torch.device:
        """Of the crops; the CPU where there is none."""
        return self.crops[0].device if self.crops else torch.device("cpu")

    def crop(self, label: int, box: Sequence[slice]) -> Tensor:
        """Return a label in another box.

        Args:
            label: its place among the N.
            box: in voxels, inside the grid.

        Returns:
            (d, h, w), of the box's size; 0 outside the label's own box.
        """
        values, own = self.crops[label], self.boxes[label]
        result = values.new_zeros([s.stop - s.start for s in box])
        if own is None:
            return result
        common = [slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(own, box, strict=True)]
        if all(s.start < s.stop for s in common):
            to, of = (
                tuple(slice(s.start - b.start, s.stop - b.start) for s, b in zip(common, frame, strict=True))
                for frame in (box, own)
            )
            result[to] = values[of]
        return result

    def whole(self) -> Tensor:
        """Return the labels on the whole grid, (N, D, H, W)."""
        everywhere = [slice(0, n) for n in self.grid_shape]
        if not self.crops:
            return torch.zeros((0, *self.grid_shape))
        return torch.stack([self.crop(k, everywhere) for k in range(len(self.crops))])

    def sums(self, dtype: torch.dtype | None = None) -> Tensor:
        """Sum each label over the grid, (N,).

        Args:
            dtype: of the sums; None: that of the labels.
        """
        return torch.stack([c.sum(dtype=dtype) for c in self.crops]) if self.crops else torch.zeros(0, dtype=dtype)
