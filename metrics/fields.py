"""Displacement and velocity fields: warp, compose, invert, integrate, differentiate.

A field is a tensor (B, 3, D, H, W) in voxels, components in axis order (z, y, x). A displacement u maps the fixed point
p to the moving point p + u(p): the warped moving image is moving(p + u(p)).

References:
    Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006 (scaling and squaring).
    Chen et al., A simple fixed-point approach to invert a deformation field, Med. Phys. 35 (2008).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_PADDING = {"zeros": "zeros", "border": "border"}
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
    Returns (B, C, d, h, w). Differentiable in both arguments (`nearest`: in the image alone). A point that is NaN
    counts as outside.
    """
    points = _SamplingPoints.apply(displacement, image.shape[2:], image.dtype).expand(len(image), -1, -1, -1, -1)
    return F.grid_sample(image, points, _MODE[mode], _PADDING[padding], align_corners=False)


class _SamplingPoints(torch.autograd.Function):
    """Displacements (B, 3, d, h, w) to the points (B, d, h, w, 3) that grid_sample asks for, each written once.

    Scaled by voxel edges and not centres: an axis of one voxel has no distance between centres.
    """

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, sizes: Sequence[int], dtype: torch.dtype) -> Tensor:
        ctx.sizes, ctx.dtype = tuple(sizes), displacement.dtype
        points = displacement.new_empty((len(displacement), *displacement.shape[2:], 3))
        for axis, size in enumerate(sizes):
            n = displacement.shape[2 + axis]
            voxel = torch.arange(n, device=points.device, dtype=points.dtype).view(
                [n if a == axis else 1 for a in range(3)]
            )
            # In this order of operations a shift by whole voxels stays one.
            torch.add(voxel + 0.5, displacement[:, axis], out=points[..., 2 - axis]).div_(size / 2).sub_(1)
        return points.to(dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        back = gradients[0].to(ctx.dtype)
        columns = [back[..., 2 - axis] * (2 / size) for axis, size in enumerate(ctx.sizes)]
        return torch.stack(columns, dim=1), None, None


def lands_inside(displacement: Tensor, shape: Sequence[int]) -> Tensor:
    """Where p + u(p) lies within a moving volume of `shape` (D, H, W), between its outer voxel centres.

    displacement: (B, 3, d, h, w) in voxels. Returns (B, 1, d, h, w), 0 or 1 in its dtype, without gradient: what a
    comparison of fixed and warped image may count, since the border of a field of view is no anatomy.
    """
    points = identity_grid(displacement.shape[2:], displacement.device, displacement.dtype) + displacement.detach()
    last = points.new_tensor(tuple(shape)).view(1, 3, 1, 1, 1) - 1
    return ((points >= 0) & (points <= last)).all(dim=1, keepdim=True).to(displacement.dtype)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """The displacement of `then` after `first`: p -> p + first(p) + then(p + first(p)).

    Both (B, 3, D, H, W) in voxels. Outside the volume `then` continues with its border value.
    """
    return first + warp(then, first, padding="border")


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """The displacement of the flow of a stationary velocity field over unit time, by scaling and squaring.

    velocity: (B, 3, D, H, W) in voxels. steps: squarings; the first step is velocity / 2^steps (the paper: 7).
    Integrating -velocity gives the inverse displacement.
    """
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def invert(displacement: Tensor, iterations: int = 30) -> tuple[Tensor, Tensor]:
    """The inverse displacement v, with v(q) = -u(q + v(q)), by fixed-point iteration (Chen et al. 2008).

    displacement: (B, 3, D, H, W) in voxels; the iteration converges where u is a contraction.
    Returns v and the residual |v(q) + u(q + v(q))| in voxels, (B, 1, D, H, W): look at it before you trust v.
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
    one voxel.
    """
    per_mm = tuple(1 / float(s) for s in spacing_mm)
    result: Tensor = _Gradient.apply(image, (per_mm,) * image.shape[1], False)
    return result


def jacobian(displacement: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """The Jacobian of p + u(p) in physical units: [:, i, j] = d phi_i / d x_j, axes in order z, y, x.

    displacement: (B, 3, D, H, W) in voxels. spacing_mm: (z, y, x). Returns (B, 3, 3, D, H, W), without unit.
    Central differences inside, one-sided at the border. Along the grid's own axes: an oblique direction rotates both
    sides alike and changes neither determinant nor orthonormality.
    """
    spacing = [float(s) for s in spacing_mm]
    result: Tensor = _Gradient.apply(displacement, tuple(tuple(a / b for b in spacing) for a in spacing), True)
    return result


def jacobian_determinant(jacobian: Tensor) -> Tensor:
    """The determinant (B, D, H, W) of Jacobians (B, 3, 3, D, H, W), written out: exact for an integer identity."""
    a, b, c = jacobian[:, 0].unbind(1)
    d, e, f = jacobian[:, 1].unbind(1)
    g, h, i = jacobian[:, 2].unbind(1)
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)


def warp_soft(labels: Tensor, displacement: Tensor, ids: Sequence[int]) -> Tensor:
    """The linearly warped one-hot label of each id: (N, d, h, w) in [0, 1], differentiable in the displacement.

    labels: integer (D, H, W). displacement: (1, 3, d, h, w) in voxels. Outside the label map is background.
    """
    one_hot = torch.stack([labels == v for v in ids]).to(displacement.dtype)
    return warp(one_hot[None], displacement)[0]


def warp_labels(labels: Tensor, displacement: Tensor, ids: Sequence[int]) -> Tensor:
    """Hard warped labels: the argmax of the linearly warped one-hot, background included (it wins a tie).

    labels: integer (D, H, W). displacement: (1, 3, d, h, w) in voxels. ids: the labels to carry over; all others count
    as background. Returns (d, h, w) in labels' dtype. Works in each label's bounding box alone.
    """
    points = (identity_grid(displacement.shape[2:], displacement.device) + displacement.float())[0].flatten(1)
    covered = torch.zeros(points.shape[1], device=points.device)
    best = torch.zeros_like(covered)
    winner = torch.zeros(points.shape[1], device=points.device, dtype=labels.dtype)
    for v in ids:
        where = (labels == v).nonzero()
        if not len(where):
            continue
        low, high = where.amin(0), where.amax(0) + 1
        crop = (labels[low[0] : high[0], low[1] : high[1], low[2] : high[2]] == v).float()
        inside = ((points > low[:, None] - 1) & (points < high[:, None])).all(0).nonzero()[:, 0]
        value = _sample(crop, points[:, inside] - low[:, None])
        covered[inside] += value
        better = value > best[inside]
        best[inside[better]] = value[better]
        winner[inside[better]] = v
    # The one-hot sums to 1 everywhere, so the background holds what no label does.
    winner[best <= 1 - covered + 1e-6] = 0
    return winner.view(displacement.shape[2:])


def _sample(volume: Tensor, points: Tensor) -> Tensor:
    """Linear interpolation of a volume (D, H, W) at voxel points (3, M), zero outside."""
    sizes = torch.tensor(volume.shape, device=points.device)
    padded = F.pad(volume, (1, 1, 1, 1, 1, 1))
    located = points + 1
    base = torch.minimum(located.floor().long().clamp(min=0), sizes[:, None])
    fraction = located - base
    _, height, width = padded.shape
    flat = padded.reshape(-1)
    total = torch.zeros(points.shape[1], device=points.device, dtype=volume.dtype)
    for dz in (0, 1):
        for dy in (0, 1):
            for dx in (0, 1):
                weight = torch.ones_like(total)
                for axis, step in enumerate((dz, dy, dx)):
                    weight = weight * (fraction[axis] if step else 1 - fraction[axis])
                index = ((base[0] + dz) * height + base[1] + dy) * width + base[2] + dx
                total = total + weight * flat[index]
    return total
