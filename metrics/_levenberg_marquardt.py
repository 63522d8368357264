"""Eq. 2 solved by Levenberg-Marquardt for `metrics.rigid`, for all vertebrae of a case at once.

Points are (K, 3, P), in mm in axis order (z, y, x) unless their name says voxels. K vertebrae are the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from metrics._crops import affine
from metrics._trilinear import Cells

# The solver stops where a step reduces the sum by less than this share, or is shorter than this share of a voxel.
GAIN, STEP = 1e-5, 1e-3
# Coordinate of padding points, mm. It is outside every label, so that value, gradient and target are 0.
PADDING_MM = 1e6
# Points that are computed together. Measured: smaller slabs wait for the interpreter, larger ones leave the cache.
SLAB = 2**18


def rotation_matrix(vector: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) of rotation vectors (..., 3), radians."""
    rows = vector.unsqueeze(-2).expand(*vector.shape, 3)
    return torch.linalg.matrix_exp(torch.linalg.cross(torch.eye(3).to(vector).expand_as(rows), rows))


def centroid(points: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean (K, C) of points (K, C, P) with weights (K, P)."""
    return (points @ weights.unsqueeze(-1)).squeeze(-1) / weights.sum(dim=-1, keepdim=True)


class _SumOfSquares:
    """Eq. 2 over the points of R vertebrae, and its derivatives by their transforms."""

    def __init__(self, cells: Cells, which: Tensor, arms: Tensor, target: Tensor, radius: Tensor) -> None:
        """arms: (R, 3, P), from the centroid, the centre of rotation. which: (R,), the label of each row in `cells`."""
        self.cells, self.which, self.arms, self.target, self.radius = cells, which, arms, target, radius
        unit = torch.cat([(1 / radius).expand(-1, 3), arms.new_ones(len(arms), 4)], dim=1)
        self.scale = unit.unsqueeze(-1) * unit.unsqueeze(-2)
        # On a CPU rows are computed in slabs that stay in its cache.
        self.slab = max(1, SLAB // arms.shape[2]) if arms.device.type == "cpu" else len(arms)
        self.derivatives = arms.new_empty((min(self.slab, len(arms)), 7, arms.shape[2]))

    def subset(self, rows: Tensor) -> _SumOfSquares:
        """The sum of some of the vertebrae, by row."""
        return _SumOfSquares(self.cells, self.which[rows], self.arms[rows], self.target[rows], self.radius[rows])

    def linearised(self, rotation: Tensor, image: Tensor) -> Tensor:
        """The matrix (R, 7, 7) of all products of the six derivatives and the error.

        A rotation is measured in mm at the radius, so that one damping and one tolerance serve all six parameters.
        """
        result = torch.empty_like(self.scale)
        for first in range(0, len(result), self.slab):
            rows = slice(first, first + self.slab)
            derivatives = self._derivatives(rows, rotation[rows], image[rows])
            torch.mul(derivatives @ derivatives.mT, self.scale[rows], out=result[rows])
        return result

    def _derivatives(self, rows: slice, rotation: Tensor, image: Tensor) -> Tensor:
        """The six derivatives and the error of some rows at each point, (r, 7, P)."""
        turned, target, which = rotation @ self.arms[rows], self.target[rows], self.which[rows]
        derivatives = self.derivatives[: len(which)]
        voxels = self.cells.voxels(turned, image.unsqueeze(-1), which)
        if voxels.device.type != "cpu":
            value, slope = self.cells.sample(voxels, which)
            slope = torch.mul(slope, self.cells.per_mm, out=derivatives[:, 3:6])
            _cross(turned.unbind(1), slope.unbind(1), derivatives.unbind(1))
            torch.sub(value, target, out=derivatives[:, 6])
            return derivatives
        found = self.cells.mixed(voxels, which)
        derivatives.zero_()
        torch.sub(found.full.to(target.dtype), target, out=derivatives[:, 6])
        # The first component of a point (r, p) of (R, 7, P) is at 7 P r + p.
        at = found.points + found.rows * (6 * target.shape[1])
        parts = [torch.empty_like(found.value) for _ in range(7)]
        for slope, per_mm, part in zip(found.slopes, self.cells.per_mm, parts[3:6], strict=True):
            torch.mul(slope, per_mm, out=part)
        _cross([turned.view(-1).index_select(0, c) for c in found.components], parts[3:6], parts)
        torch.sub(found.value, target.reshape(-1).index_select(0, found.points), out=parts[6])
        for k, part in enumerate(parts):
            derivatives.view(-1).index_copy_(0, at + k * target.shape[1], part)
        return derivatives


def _cross(a: Sequence[Tensor], b: Sequence[Tensor], out: Sequence[Tensor]) -> None:
    """Write the vector product of a and b, three components each, into the first three of `out`."""
    for k, i, j in ((0, 1, 2), (1, 2, 0), (2, 0, 1)):
        torch.mul(a[i], b[j], out=out[k]).addcmul_(a[j], b[i], value=-1)


def minimise(
    cells: Cells,
    points: Tensor,
    target: Tensor,
    centre: Tensor,
    radius: Tensor,
    rotation: Tensor,
    translation: Tensor,
    iterations: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Levenberg-Marquardt on rotation about the label's centroid and translation.

    points: (K, 3, P). target: (K, P), the warped label there. centre: (K, 3), and radius: (K, 1), of the label. Returns
    rotation, translation, the sum of squared differences (K,) over these points, and whether it converged: the last
    step was shorter than `STEP`, or reduced the sum by less than `GAIN`.
    """
    which = torch.arange(len(points), device=points.device)
    active = _SumOfSquares(cells, which % len(cells.codes), points - centre.unsqueeze(-1), target, radius)
    image = (rotation @ centre.unsqueeze(-1)).squeeze(-1) + translation
    state = active.linearised(rotation, image)
    damping = torch.full_like(radius, 1e-3)
    done = ~state.isfinite().flatten(1).all(dim=1)
    results = rotation.clone(), image.clone(), state[:, 6, 6].clone(), done.clone()
    for _ in range(iterations):
        left = (~done).nonzero()[:, 0]
        if not len(left):
            break
        if len(left) < len(done):
            # Vertebrae take from three to ten steps; those that have converged are left out.
            active, which = active.subset(left), which[left]
            rotation, image, state, damping, done = (v[left] for v in (rotation, image, state, damping, done))
        curvature, slope, cost = state[:, :6, :6], state[:, :6, 6:], state[:, 6, 6]
        diagonal = curvature.diagonal(dim1=-2, dim2=-1)
        floor = diagonal.amax(dim=-1, keepdim=True) * 1e-3 + 1e-6
        system = curvature + torch.diag_embed(damping * diagonal.maximum(floor))
        # NaN must not reach the index of a cell.
        step = -torch.linalg.solve_ex(system, slope)[0].squeeze(-1).nan_to_num(0.0, 0.0, 0.0)
        turn = rotation_matrix(step[:, :3] / active.radius)
        proposed = active.linearised(turn @ rotation, image + step[:, 3:])
        gained = cost - proposed[:, 6, 6]
        better = gained > 0
        done = (step.abs().amax(dim=-1) < STEP * cells.spacing.min()) | (better & (gained < GAIN * cost))
        rotation = (turn @ rotation).where(better[:, None, None], rotation)
        image = (image + step[:, 3:]).where(better[:, None], image)
        state = proposed.where(better[:, None, None], state)
        damping = torch.where(better.unsqueeze(-1), damping / 5, damping * 4).clamp(1e-6, 1e6)
        for result, part in zip(results, (rotation, image, state[:, 6, 6], done), strict=True):
            result[which] = part
    rotation, image, cost, done = results
    return rotation, image - (rotation @ centre.unsqueeze(-1)).squeeze(-1), cost, done


def informative(
    cells: Cells, values: Tensor, origin: Tensor, rotation: Tensor, translation: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The voxels whose term of eq. 2 can change while the transform moves by less than a voxel.

    values: (K, 1, d, h, w), the warped label on boxes from `origin` (K, 3) on. Returns points (K, 3, P) and values (K,
    P), where shorter rows are filled with padding points (P >= 1), and the sum over all other voxels, (K,).
    """
    size, spacing = values.shape[2:], cells.spacing
    step = (rotation * spacing) / spacing.unsqueeze(-1)
    middle = (origin + (torch.tensor(size, device=values.device, dtype=values.dtype) - 1) / 2) * spacing
    image = cells.voxels(rotation @ middle.unsqueeze(-1), translation.unsqueeze(-1)).squeeze(-1)
    mixed, full = (
        torch.empty((len(values), math.prod(size)), dtype=torch.bool, device=values.device) for _ in range(2)
    )
    slices = max(1, SLAB // (size[1] * size[2])) if values.device.type == "cpu" else size[0]
    for k in range(len(values)):
        for first in range(0, size[0], slices):
            slab = slice(first, min(first + slices, size[0]))
            voxels = affine(step[k : k + 1], image[k : k + 1], size, slab).flatten(2)
            part = slice(slab.start * size[1] * size[2], slab.stop * size[1] * size[2])
            mixed[k, part], full[k, part] = cells.state(voxels, which=torch.tensor([k], device=values.device))
    flat = values.flatten(1)
    # A voxel with NaN is selected, so that the residual becomes NaN.
    mixed |= ((flat <= 0) | (flat >= 1 - 1e-5)).logical_not_()
    constant = (flat - full.to(flat.dtype)).masked_fill_(mixed, 0.0).square_().sum(dim=-1)
    selected = [row.nonzero()[:, 0] for row in mixed]
    index = torch.nn.utils.rnn.pad_sequence(selected, batch_first=True)
    if not index.shape[1]:
        index = index.new_zeros(len(index), 1)
    beyond = torch.arange(index.shape[1], device=index.device) >= torch.tensor([[len(s)] for s in selected]).to(index)
    indices = torch.stack([index // (size[1] * size[2]), index // size[2] % size[1], index % size[2]], dim=1)
    points = (indices + origin.unsqueeze(-1)) * spacing.unsqueeze(-1)
    points = points.masked_fill(beyond.unsqueeze(1), PADDING_MM)
    return points, flat.gather(1, index).masked_fill(beyond, 0.0), constant


def largest_motion(points: Tensor, before: Sequence[Tensor], after: Sequence[Tensor], spacing: Tensor) -> Tensor:
    """The largest distance (K,), in voxels along one axis, between the images of points under two transforms."""
    rotation, translation = (b - a for a, b in zip(before, after, strict=True))
    moved = rotation @ points + translation.unsqueeze(-1)
    return (moved / spacing.unsqueeze(-1)).abs().masked_fill(points == PADDING_MM, 0.0).amax(dim=(1, 2))
