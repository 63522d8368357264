"""Displacement and velocity fields: warp, compose, invert, integrate, differentiate.

A field is a tensor (B, 3, D, H, W) in voxels, components in axis order (z, y, x). A displacement u maps the fixed point
p to the moving point p + u(p): the warped moving image is moving(p + u(p)).

References:
    Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006 (scaling and squaring).
    Chen et al., A simple fixed-point approach to invert a deformation field, Med. Phys. 35 (2008).
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from metrics._trilinear import Cells
from metrics.boxes import Box, label_boxes

_BORDER = {"zeros": False, "border": True}
_MODE = {"linear": "bilinear", "nearest": "nearest"}


def identity_grid(
    shape: Sequence[int], device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Voxel coordinates (1, 3, D, H, W) of a volume of `shape` (D, H, W), components (z, y, x)."""
    axes = [torch.arange(n, device=device, dtype=dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def warp(image: Tensor, displacement: Tensor, mode: str = "linear", padding: str = "zeros") -> Tensor:
    """image(p + u(p)) at every voxel p.

    image: (B, C, D, H, W). displacement: (B, 3, d, h, w) in voxels, or (1, 3, d, h, w) for all of the batch.
    mode: `linear` or `nearest`. padding: what lies outside the image, `zeros` or the `border` value.
    Returns (B, C, d, h, w) in the image's dtype and unit, a shift by whole voxels but for rounding: a position is off
    by 1e-7 of an axis in float32. Differentiable in both arguments (`nearest`: in the image alone). A point that is not
    finite counts as outside, and as zero gradient; a NaN is 0 with `border` too. A NaN in the image reaches every point
    that lies less than a voxel from it, or exactly one before it.
    """
    points = _SamplingPoints.apply(displacement, image.shape[2:], image.dtype, _BORDER[padding])
    alone = len(image) == len(points) == 1 and image.device.type == "cpu"
    parts = _slabs(points.shape[1], image.requires_grad) if alone else 1
    if parts > 1:
        points, image = points.squeeze(0).unflatten(0, (parts, -1)), image.expand(parts, -1, -1, -1, -1)
    # The border is held by the points themselves, which is faster than grid_sample's own way and the same on CUDA.
    points = points.expand(len(image), -1, -1, -1, -1)
    result = F.grid_sample(image, points, _MODE[mode], "zeros", align_corners=False)
    return result if parts == 1 else result.transpose(0, 1).flatten(1, 2)[None]


def _slabs(depth: int, with_gradient: bool) -> int:
    """Into how many slabs of equal depth to cut: on a CPU grid_sample gives each item of a batch one thread, no more.

    On the way back each slab has a gradient of the whole image, so few of them there.
    """
    most = min(torch.get_num_threads(), 4 if with_gradient else depth)
    return max((n for n in range(1, most + 1) if depth % n == 0), default=1)


class _SamplingPoints(torch.autograd.Function):
    """Displacements (B, 3, d, h, w) to the points (B, d, h, w, 3) that grid_sample asks for, each written once.

    Scaled by voxel edges and not centres: an axis of one voxel has no distance between centres.
    """

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, sizes: Sequence[int], dtype: torch.dtype, border: bool) -> Tensor:
        ctx.sizes, ctx.border = tuple(sizes), border
        points = torch.empty(displacement.shape, device=displacement.device, dtype=displacement.dtype)
        for axis, size in enumerate(sizes):
            n = displacement.shape[2 + axis]
            voxel = torch.arange(n, device=points.device, dtype=points.dtype)
            voxel = voxel.view([n if a == axis else 1 for a in range(3)])
            # In this order of operations a shift by whole voxels loses least.
            column = torch.add(voxel + 0.5, displacement[:, axis], out=points[:, 2 - axis]).div_(size / 2).sub_(1)
            if border:
                column.clamp_(1 / size - 1, 1 - 1 / size)
        ctx.save_for_backward(points if border else points[:0])
        return points.permute(0, 2, 3, 4, 1).to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        (points,) = ctx.saved_tensors
        columns = [gradients[0][..., 2 - a].to(points.dtype) * (2 / size) for a, size in enumerate(ctx.sizes)]
        if ctx.border:
            # Beyond the border nothing depends on how far.
            for axis, size in enumerate(ctx.sizes):
                columns[axis] *= points[:, 2 - axis].abs() < 1 - 1 / size
        return torch.stack(columns, dim=1), None, None, None


def lands_inside(displacement: Tensor, shape: Sequence[int]) -> Tensor:
    """Where p + u(p) lies within a moving volume of `shape` (D, H, W), between its outer voxel centres.

    displacement: (B, 3, d, h, w) in voxels. Returns (B, 1, d, h, w), 0 or 1 in its dtype, without gradient: what a
    comparison of fixed and warped image may count, since the border of a field of view is no anatomy. 0 where u is not
    finite.
    """
    points = identity_grid(displacement.shape[2:], displacement.device, displacement.dtype) + displacement.detach()
    last = points.new_tensor(tuple(shape)).view(1, 3, 1, 1, 1) - 1
    return ((points >= 0) & (points <= last)).all(dim=1, keepdim=True).to(displacement.dtype)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The displacement of `then` after `first`: p -> p + first(p) + then(p + first(p)).

    Both (B, 3, D, H, W) in voxels; `then` may have another grid, whose shape the result has not. Outside of it `then`
    continues with its border value. NaN where `first` is NaN, and within a voxel of where `then` is.
    """
    return first + warp(then, first, padding="border")


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """The displacement of the flow of a stationary velocity field over unit time, by scaling and squaring.

    velocity: (B, 3, D, H, W) in voxels. steps: squarings; the first step is velocity / 2^steps (the paper: 7).
    Integrating -velocity gives the inverse displacement. A value that is not finite makes its voxel and those whose
    path comes within a voxel of it so.
    """
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def invert(displacement: Tensor, iterations: int = 30) -> tuple[Tensor, Tensor]:
    """The inverse displacement v, with v(q) = -u(q + v(q)), by fixed-point iteration (Chen et al. 2008).

    displacement: (B, 3, D, H, W) in voxels; the iteration converges where u is a contraction.
    Returns v and the residual |v(q) + u(q + v(q))| in voxels, (B, 1, D, H, W): look at it before you trust v. Where the
    way leads to a value that is not finite, the residual is not finite; v itself may be.
    """
    inverse = -displacement
    for _ in range(iterations):
        inverse = -warp(displacement, inverse, padding="border")
    residual = (inverse + warp(displacement, inverse, padding="border")).norm(dim=1, keepdim=True)
    return inverse, residual


class _Gradient(torch.autograd.Function):
    """factors_ij * d u_i / d x_j (B, C, 3, D, H, W), plus the identity if asked for, written into one tensor.

    Autograd's own way through the slices would make a volume of zeros for each of them.
    """

    @staticmethod
    def forward(ctx: Any, field: Tensor, factors: Sequence[Sequence[float]], identity: bool) -> Tensor:
        ctx.factors = factors
        result = field.new_empty((*field.shape[:2], 3, *field.shape[2:]))
        for i, row in enumerate(factors):
            for j, factor in enumerate(row):
                _difference(field[:, i], 1 + j, result[:, i, j])
                if factor != 1:
                    result[:, i, j].mul_(factor)
                if identity and i == j:
                    result[:, i, j].add_(1)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        back = torch.zeros_like(gradients[0][:, :, 0])
        for i, row in enumerate(ctx.factors):
            for j, factor in enumerate(row):
                _spread_difference(gradients[0][:, i, j], 1 + j, factor, back[:, i])
        return back, None, None


def _difference(field: Tensor, axis: int, out: Tensor) -> None:
    """Central difference along `axis`, one-sided at both ends; zero along an axis of one voxel."""
    n = field.shape[axis]
    if n == 1:
        out.zero_()
        return
    for to, ahead, behind in ((0, 1, 0), (n - 1, n - 1, n - 2)):
        torch.sub(field.select(axis, ahead), field.select(axis, behind), out=out.select(axis, to))
    if n > 2:
        inner = out.narrow(axis, 1, n - 2)
        torch.sub(field.narrow(axis, 2, n - 2), field.narrow(axis, 0, n - 2), out=inner).mul_(0.5)


def _spread_difference(back: Tensor, axis: int, factor: float, out: Tensor) -> None:
    """The adjoint of `_difference` times `factor`, added to `out`."""
    n = back.shape[axis]
    if n == 1:
        return
    for of, ahead, behind in ((0, 1, 0), (n - 1, n - 1, n - 2)):
        out.select(axis, ahead).add_(back.select(axis, of), alpha=factor)
        out.select(axis, behind).sub_(back.select(axis, of), alpha=factor)
    inner = back.narrow(axis, 1, n - 2)
    out.narrow(axis, 2, n - 2).add_(inner, alpha=factor / 2)
    out.narrow(axis, 0, n - 2).sub_(inner, alpha=factor / 2)


def gradient(image: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """d image / d x, per millimetre: central differences inside, one-sided at the border.

    image: (B, C, D, H, W). spacing_mm: (z, y, x). Returns (B, C, 3, D, H, W), axes in order z, y, x; 0 along an axis of
    one voxel; not finite next to what is not.
    """
    per_mm = tuple(1 / float(s) for s in spacing_mm)
    result: Tensor = _Gradient.apply(image, (per_mm,) * image.shape[1], False)
    return result


def jacobian(displacement: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """The Jacobian of p + u(p) in physical units: [:, i, j] = d phi_i / d x_j, axes in order z, y, x.

    displacement: (B, 3, D, H, W) in voxels. spacing_mm: (z, y, x). Returns (B, 3, 3, D, H, W), without unit.
    Central differences inside, one-sided at the border; along an axis of one voxel u counts as constant. Along the
    grid's own axes: an oblique direction rotates both sides alike and changes neither determinant nor orthonormality.
    A value that is not finite makes its six neighbours so, and itself only at the border.
    """
    spacing = [float(s) for s in spacing_mm]
    result: Tensor = _Gradient.apply(displacement, tuple(tuple(a / b for b in spacing) for a in spacing), True)
    return result


def jacobian_determinant(jacobian: Tensor) -> Tensor:
    """The determinant (B, D, H, W), without unit, of Jacobians (B, 3, 3, D, H, W); exactly 1 for the identity."""
    # Selecting row by row would cost a volume of zeros per row on the way back.
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(1) for row in jacobian.unbind(1))
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def warp_soft(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], boxes: Sequence[Box | None] | None = None
) -> Tensor:
    """The linearly warped one-hot label of each id: (N, d, h, w) in [0, 1], differentiable in the displacement.

    labels: integer (D, H, W). displacement: (1, 3, d, h, w) in voxels. ids: N label values, positive; one that is
    absent gives zeros. boxes: `label_boxes` of these, if known. Outside the label map is background, and so is a point
    that is not finite. A shift by whole voxels is exact. In displacement's dtype.
    """
    result: Tensor = _WarpSoft.apply(displacement, labels, tuple(ids), boxes)
    return result


class _WarpSoft(torch.autograd.Function):
    """In each label's own box: the rest of the grid is zeros, in the label and in the gradient."""

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
    """Of each label in reach its number, the fixed box outside of which it is 0, its value there, and the derivative
    (3, ...) by the displacement."""
    everywhere = tuple(slice(0, n) for n in displacement.shape[2:])
    wide = _extremes(displacement)
    for k, box in enumerate(label_boxes(labels, ids) if boxes is None else boxes):
        where = box and _landing(box, everywhere, wide)
        # Once more with the extremes of that box alone, which are tighter.
        where = where and box and _landing(box, where, _extremes(displacement[..., *where]))
        if not box or not where:
            continue
        origin = displacement.new_tensor([s.start for s in box])
        cells = Cells((labels[box] == ids[k])[None], origin[None], torch.ones_like(origin))
        part = displacement[..., *where]
        first = displacement.new_tensor([s.start for s in where]).view(1, 3, 1, 1, 1)
        points = identity_grid(part.shape[2:], part.device, part.dtype) + first + part
        value, slope = cells.sample(cells.voxels(points.flatten(2).nan_to_num(nan=-torch.inf)))
        yield k, where, value.view(part.shape[2:]), slope.view(part.shape[1:])


def _extremes(displacement: Tensor) -> list[tuple[float, float]]:
    """The least and greatest displacement along each axis."""
    low, high = (f(dim=(0, 2, 3, 4)).tolist() for f in (displacement.amin, displacement.amax))
    return list(zip(low, high, strict=True))


def _landing(box: Box, where: Sequence[slice], extremes: Sequence[tuple[float, float]]) -> Box | None:
    """The part of `where` that displacements within `extremes` can take into a moving label's box; None if there is
    none, all of it where a displacement is not finite."""
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
    """Hard warped labels: the argmax of the linearly warped one-hot, background included (it wins a tie).

    labels: integer (D, H, W). displacement: (1, 3, d, h, w) in voxels. ids: the labels to carry over; all others count
    as background, and so does a point that is not finite. boxes: `label_boxes` of these, if known.
    Returns (d, h, w) in labels' dtype.
    """
    return warp_labels_and_soft(labels, displacement, ids, (), boxes)[0]


@torch.no_grad()
def warp_labels_and_soft(
    labels: Tensor, displacement: Tensor, ids: Sequence[int], soft_ids: Sequence[int],
    boxes: Sequence[Box | None] | None = None,
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """`warp_labels` of `ids`, and `warp_soft` of `soft_ids` among them without gradient, for the price of one.

    Arguments as there; boxes: of ids. Returns (d, h, w) in labels' dtype and (N, d, h, w) in [0, 1], without unit; a
    soft id that is not in ids is 0 everywhere.
    """
    soft = displacement.new_zeros((len(soft_ids), *displacement.shape[2:]))
    rows = {v: k for k, v in enumerate(soft_ids)}
    covered = displacement.new_zeros(displacement.shape[2:])
    best = torch.zeros_like(covered)
    winner = torch.zeros_like(covered, dtype=torch.int32)
    for k, where, value, _ in _soft_parts(labels, displacement, ids, boxes):
        if ids[k] in rows:
            soft[rows[ids[k]], *where] = value
        covered[where] += value
        better = value > best[where]
        best[where] = torch.maximum(best[where], value)
        winner[where] = torch.where(better, ids[k], winner[where])
    # The one-hot sums to 1 everywhere, so the background holds what no label does.
    winner[best <= 1 - covered + 1e-6] = 0
    return winner.to(labels.dtype), soft
