"""Linear interpolation of hard labels and its derivative, for `metrics.label_warping` and `metrics.rigid`.

The eight corners of a cell of a hard label have one of 256 patterns, and its interpolant is one of 256 polynomials. A
point therefore reads one byte and a row of a small table instead of eight voxels. K labels are a batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

_CORNERS = tuple(product((0, 1), repeat=3))
Slopes = tuple[Tensor, Tensor, Tensor]


@cache
def _polynomials(dtype: torch.dtype, device: torch.device) -> Tensor:
    """Coefficients (8, 256) of the trilinear interpolant, of 1, x, y, xy, z, xz, yz, xyz, for each set of corners."""
    bits = (torch.arange(256)[None] >> torch.arange(8)[:, None]) & 1
    # A coefficient is the alternating sum over the corners between the origin and its own corner.
    signs = torch.tensor(
        [
            [(-1) ** (sum(s) - sum(t)) if all(b <= a for a, b in zip(s, t, strict=True)) else 0 for t in _CORNERS]
            for s in _CORNERS
        ]
    )
    return (signs @ bits).to(device, dtype)


@dataclass(frozen=True)
class Mixed:
    """What `Cells.mixed` finds among points (R, 3, P): M of them lie in a cell with corners inside and outside.

    Attributes:
        full: bool (R, P), whether all corners of a point's cell are inside: its value is 1, and 0 for other points.
        points: (M,), indices of the mixed points into (R, P), flat, ascending.
        rows: (M,), their rows.
        components: indices of their three coordinates into (R, 3, P), flat, (M,) each.
        value: (M,).
        slopes: the gradient per voxel along z, y and x, (M,) each.
    """

    full: Tensor
    points: Tensor
    rows: Tensor
    components: Sequence[Tensor]
    value: Tensor
    slopes: Slopes


class Cells:
    """Hard labels (K, d, h, w), 0 or 1, for interpolation: first voxels `origin` (K, 3), `spacing` (3,) in mm."""

    def __init__(self, labels: Tensor, origin: Tensor, spacing: Tensor) -> None:
        padded = F.pad(labels.to(torch.uint8), (2,) * 6)
        size = [n - 1 for n in padded.shape[1:]]
        codes = torch.zeros((len(padded), *size), dtype=torch.uint8, device=labels.device)
        for bit, corner in enumerate(_CORNERS):
            part = padded
            for axis, (start, n) in enumerate(zip(corner, size, strict=True)):
                part = part.narrow(1 + axis, start, n)
            codes |= part << bit
        self.codes, self.size, self.spacing = codes, size, spacing
        self.offset, self.per_mm = (2 - origin).unsqueeze(-1), (1 / spacing).unsqueeze(-1)
        self.polynomials = _polynomials(spacing.dtype, spacing.device)

    def voxels(self, points: Tensor, shift: Tensor | float = 0.0, which: Tensor | None = None) -> Tensor:
        """Points (R, 3, P), moved by `shift` (R, 3, 1), both in mm, as voxels of the padded crop.

        which: the label of each row, (R,); None: row r has label r modulo K.
        """
        offset = shift * self.per_mm + self.offset[self._rows(points, which)]
        return torch.addcmul(offset, points, self.per_mm)

    def _rows(self, points: Tensor, which: Tensor | None) -> Tensor:
        return torch.arange(len(points), device=points.device) % len(self.codes) if which is None else which

    def _inside(self, voxels: Tensor) -> Tensor:
        """Points outside are moved to the outermost cell, which is background."""
        last = torch.tensor(self.size, device=voxels.device, dtype=voxels.dtype).unsqueeze(-1)
        return voxels.clamp(min=0).clamp_(max=last - 0.5)

    def _index(self, corner: Tensor, which: Tensor | None) -> Tensor:
        """The flat index (R, P) of the cell whose first corner is `corner` (R, 3, P), whole numbers."""
        z, y, x = corner.int().unbind(1)
        first = self._rows(corner, which).int().unsqueeze(-1) * math.prod(self.size)
        return torch.add(x, y, alpha=self.size[2]).add_(z, alpha=self.size[1] * self.size[2]).add_(first)

    def sample(self, voxels: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Trilinear value (R, P) and its exact gradient (R, 3, P) per voxel, 0 outside."""
        if voxels.device.type != "cpu":
            # A GPU computes all points in the time in which it finds the mixed ones.
            place = self._inside(voxels)
            corner = place.floor()
            place -= corner
            index = self._index(corner, which)
            value, slopes = self._interpolant(self._codes(index).int(), place.unbind(1))
            return value, torch.stack(slopes, dim=1)
        mixed = self.mixed(voxels, which)
        value, slope = mixed.full.to(voxels.dtype), voxels.new_zeros(voxels.shape)
        value.view(-1)[mixed.points] = mixed.value
        for component, along in zip(mixed.components, mixed.slopes, strict=True):
            slope.view(-1)[component] = along
        return value, slope

    def mixed(self, voxels: Tensor, which: Tensor | None = None) -> Mixed:
        """Value and gradient of the points whose cell has corners inside and outside; few points of a box have them."""
        place = self._inside(voxels).contiguous()
        corner = place.floor()
        code = self._codes(self._index(corner, which))
        full = code == 255
        points = ((code != 0) & ~full).view(-1).nonzero()[:, 0]
        rows = points // voxels.shape[2]
        # The first component of a point (r, p) of (R, 3, P) is at 3 P r + p.
        first = points + rows * (2 * voxels.shape[2])
        components = [first + a * voxels.shape[2] for a in range(3)]
        place -= corner
        parts = [place.view(-1).index_select(0, c) for c in components]
        value, slopes = self._interpolant(code.view(-1).index_select(0, points).int(), parts)
        return Mixed(full, points, rows, components, value, slopes)

    def _codes(self, index: Tensor) -> Tensor:
        """The corners of the cells with a flat index, uint8 in the index's shape."""
        return self.codes.flatten().index_select(0, index.flatten()).view(index.shape)

    def _interpolant(self, code: Tensor, place: Sequence[Tensor]) -> tuple[Tensor, Slopes]:
        """Value and slopes of cells by their corners, int32, at places in them, z, y, x in [0, 1), all of one shape."""
        at_z, at_y, at_x = place
        one, x, y, xy, z, xz, yz, xyz = self.polynomials.index_select(1, code.flatten()).view(8, *code.shape)
        one, y, z, yz = (torch.addcmul(a, b, at_x) for a, b in ((one, x), (y, xy), (z, xz), (yz, xyz)))
        along_x = torch.addcmul(torch.addcmul(x, xy, at_y), torch.addcmul(xz, xyz, at_y), at_z)
        along_y = torch.addcmul(y, yz, at_z)
        along_z = torch.addcmul(z, yz, at_y)
        return torch.addcmul(torch.addcmul(one, y, at_y), along_z, at_z), (along_z, along_y, along_x)

    def state(self, voxels: Tensor, which: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """For each point, (R, P): whether a motion of a voxel may change its value, and whether it stays 1."""
        index = self._index(self._inside(voxels).floor_(), which)
        states = self._states.index_select(0, index.flatten()).view(index.shape)
        return (states & 1).bool(), states == 2

    @cached_property
    def _states(self) -> Tensor:
        """For each cell 1 if its own or a neighbour's corners differ, plus 2 if all of its corners are 1; flat."""
        mixed = ((self.codes != 0) & (self.codes != 255)).to(torch.uint8)
        for axis in (1, 2, 3):
            n = mixed.shape[axis]
            wide = mixed.clone()
            wide.narrow(axis, 1, n - 1).bitwise_or_(mixed.narrow(axis, 0, n - 1))
            wide.narrow(axis, 0, n - 1).bitwise_or_(mixed.narrow(axis, 1, n - 1))
            mixed = wide
        return (mixed + 2 * (self.codes == 255)).flatten()
