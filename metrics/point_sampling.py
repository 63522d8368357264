"""Linear interpolation at single points of a volume that is known at some of its voxels."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_CORNERS = tuple(product((0, 1), repeat=3))


class KnownVoxels:
    """The channels of a volume at some of its voxels, for interpolation between them.

    Attributes:
        shape: (D, H, W) of the volume.
        rows: (P, C), the channels of each known voxel.
    """

    def __init__(self, rows: Tensor, known: Tensor) -> None:
        """Store the channels.

        Args:
            rows: (P, C), a row for each known voxel in the order of `known.nonzero()`.
            known: bool (D, H, W), with P voxels that are True.

        Raises:
            ValueError: the number of rows is another than that of the known voxels.
        """
        place = known.flatten().cumsum(0, dtype=torch.int32)
        if len(rows) != int(place[-1]):
            raise ValueError(f"rows: expected one for each of {int(place[-1])} known voxels, got {len(rows)}")
        self.shape: Sequence[int] = tuple(known.shape)
        self.rows = rows
        self._row_of = (place - 1).clamp(min=0)
        cells = known
        for axis in range(3):  # a cell is known if its eight corners are; the last one of an axis is half outside
            last = cells.narrow(axis, cells.shape[axis] - 1, 1)
            cells = cells & torch.cat([cells.narrow(axis, 1, cells.shape[axis] - 1), last], dim=axis)
        self._cells = cells.flatten()

    def at(self, points: Tensor) -> tuple[Tensor, Tensor]:
        """Interpolate linearly at points.

        Args:
            points: (3, N), continuous voxel indices z, y, x.

        Returns:
            The channels (N, C), differentiable in the points, and bool (N,): whether the point lies in the volume and
            all eight voxels around it are known. The channels of another point are arbitrary, with gradient 0.
        """
        if not len(self.rows):
            return points.new_zeros((points.shape[1], *self.rows.shape[1:])), points.new_zeros(points.shape[1]) > 0
        last = points.new_tensor([[n - 1] for n in self.shape])
        at = points.detach()
        inside = ((at >= 0) & (at <= last)).all(dim=0)
        low = at.clamp(min=0).minimum(last).floor().minimum((last - 1).clamp(min=0))
        # Along an axis of one voxel both corners are that voxel.
        strides = [self.shape[1] * self.shape[2], self.shape[2], 1]
        strides = [s if n > 1 else 0 for s, n in zip(strides, self.shape, strict=True)]
        z, y, x = low.long()
        first = (z * self.shape[1] + y) * self.shape[2] + x
        known = inside & self._cells.index_select(0, first)
        # Two known neighbours along x have consecutive rows.
        offsets = torch.tensor([a * strides[0] + b * strides[1] for a, b, c in _CORNERS if not c])
        row = self._row_of.index_select(0, (first + offsets.to(first.device)[:, None]).flatten()).view(4, 1, -1)
        row = torch.cat([row, (row + strides[2]).clamp(max=len(self.rows) - 1)], dim=1)
        corners = self.rows.index_select(0, row.flatten()).view(8, len(first), self.rows.shape[1])
        values: Tensor = _Interpolate.apply(points, corners, low, known)
        return values, known


class _Interpolate(torch.autograd.Function):
    """The trilinear value (N, C) of eight corners (8, N, C); its gradient acts on the points (3, N)."""

    @staticmethod
    def forward(ctx: Any, points: Tensor, corners: Tensor, low: Tensor, known: Tensor) -> Tensor:
        place = (points - low).where(known, 0.0)
        ctx.save_for_backward(corners, place, known)
        sides = [(1 - p, p) for p in place]
        value = torch.zeros_like(corners[0])
        for corner, (a, b, c) in zip(corners, _CORNERS, strict=True):
            value.addcmul_(corner, (sides[0][a] * sides[1][b] * sides[2][c])[:, None])
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        corners, place, known = ctx.saved_tensors
        # The channels are summed first: what is left is the derivative of one trilinear function of each point.
        z, y, x = place
        part = torch.linalg.vecdot(corners, gradients[0][None]).view(2, 2, 2, -1)
        along_x = part[:, :, 1] - part[:, :, 0]
        at_x = torch.lerp(part[:, :, 0], part[:, :, 1], x)
        along_y, at_y = at_x[:, 1] - at_x[:, 0], torch.lerp(at_x[:, 0], at_x[:, 1], y)
        slope_x = torch.lerp(along_x[:, 0], along_x[:, 1], y)
        slope = [at_y[1] - at_y[0], torch.lerp(along_y[0], along_y[1], z), torch.lerp(slope_x[0], slope_x[1], z)]
        return torch.stack(slope) * known, None, None, None
