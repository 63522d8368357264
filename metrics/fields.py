"""Displacement and velocity fields: warp, compose, invert, integrate, differentiate.

A field is a tensor (B, 3, D, H, W) in voxels, components in axis order (z, y, x). A displacement u maps the fixed point
p to the moving point p + u(p): the warped moving image is moving(p + u(p)). Labels are warped in
`metrics.label_warping`.

References:
    [1] Arsigny et al., A log-Euclidean framework for statistics on diffeomorphisms, MICCAI 2006 (scaling and squaring).
    [2] Chen et al., A simple fixed-point approach to invert a deformation field, Medical Physics 35(1), 2008.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

_BORDER = {"zeros": False, "border": True}
_MODE = {"linear": "bilinear", "nearest": "nearest"}


def identity_grid(
    shape: Sequence[int], device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """Return the voxel coordinates of a volume.

    Args:
        shape: (D, H, W).
        device: of the result.
        dtype: of the result, floating point.

    Returns:
        (1, 3, D, H, W), voxels, components (z, y, x), from 0 on.
    """
    axes = [torch.arange(n, device=device, dtype=dtype) for n in shape]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))[None]


def warp(image: Tensor, displacement: Tensor, mode: str = "linear", padding: str = "zeros") -> Tensor:
    """Warp an image: return image(p + u(p)) at every voxel p.

    Differentiable in both arguments (`nearest`: in the image alone). A float32 position has a rounding error of 1e-7 of
    an axis. A point that is not finite counts as outside the image and has gradient 0; a NaN gives 0 with `border` too.
    A NaN in the image reaches every point that lies less than a voxel from it, or exactly one voxel before it.

    Args:
        image: (B, C, D, H, W).
        displacement: (B, 3, d, h, w), voxels, or (1, 3, d, h, w) for the whole batch.
        mode: interpolation, `linear` or `nearest`.
        padding: the value outside the image, `zeros` or `border` (that of the nearest border voxel).

    Returns:
        (B, C, d, h, w), in the image's dtype and unit.
    """
    points = _SamplingPoints.apply(displacement, image.shape[2:], image.dtype, _BORDER[padding])
    alone = len(image) == len(points) == 1 and image.device.type == "cpu"
    parts = _slabs(points.shape[1], image.requires_grad) if alone else 1
    if parts > 1:
        points, image = points.squeeze(0).unflatten(0, (parts, -1)), image.expand(parts, -1, -1, -1, -1)
    # `_SamplingPoints` clamps the points for `border`: faster than grid_sample's border mode, and the same on CUDA.
    points = points.expand(len(image), -1, -1, -1, -1)
    result = F.grid_sample(image, points, _MODE[mode], "zeros", align_corners=False)
    return result if parts == 1 else result.transpose(0, 1).flatten(1, 2)[None]


def _slabs(depth: int, with_gradient: bool) -> int:
    """The number of slabs of equal depth: on a CPU grid_sample uses one thread for each item of a batch.

    In the backward pass each slab makes a gradient of the whole image, so fewer slabs are used there.
    """
    most = min(torch.get_num_threads(), 4 if with_gradient else depth)
    return max((n for n in range(1, most + 1) if depth % n == 0), default=1)


class _SamplingPoints(torch.autograd.Function):
    """Displacements (B, 3, d, h, w) to the points (B, d, h, w, 3) that grid_sample takes, without a temporary volume.

    Points are scaled to the image's outer edges, since the outer voxel centres coincide along an axis of one voxel.
    """

    @staticmethod
    def forward(ctx: Any, displacement: Tensor, sizes: Sequence[int], dtype: torch.dtype, border: bool) -> Tensor:
        ctx.sizes, ctx.border = tuple(sizes), border
        points = torch.empty(displacement.shape, device=displacement.device, dtype=displacement.dtype)
        for axis, size in enumerate(sizes):
            n = displacement.shape[2 + axis]
            voxel = torch.arange(n, device=points.device, dtype=points.dtype)
            voxel = voxel.view([n if a == axis else 1 for a in range(3)])
            # This order of operations has the least rounding error for a shift by whole voxels.
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
            # Beyond the border the value is constant.
            for axis, size in enumerate(ctx.sizes):
                columns[axis] *= points[:, 2 - axis].abs() < 1 - 1 / size
        return torch.stack(columns, dim=1), None, None, None


def lands_inside(displacement: Tensor, shape: Sequence[int]) -> Tensor:
    """Mark the voxels p whose image p + u(p) lies in the moving volume, between its outer voxel centres.

    Used as a weight when a fixed and a warped image are compared: the border of a field of view is no anatomy.

    Args:
        displacement: (B, 3, d, h, w), voxels.
        shape: (D, H, W) of the moving volume.

    Returns:
        (B, 1, d, h, w), 0 or 1, in the displacement's dtype, without unit and gradient; 0 where u is not finite.
    """
    points = identity_grid(displacement.shape[2:], displacement.device, displacement.dtype) + displacement.detach()
    last = points.new_tensor(tuple(shape)).view(1, 3, 1, 1, 1) - 1
    return ((points >= 0) & (points <= last)).all(dim=1, keepdim=True).to(displacement.dtype)


def compose(first: Tensor, then: Tensor) -> Tensor:
    """Compose two displacements: p -> p + first(p) + then(p + first(p)).

    Args:
        first: (B, 3, D, H, W), voxels, applied first.
        then: (B, 3, d, h, w), voxels, applied second; continued by its border value.

    Returns:
        (B, 3, D, H, W), voxels, on the grid of `first`; NaN where `first` is NaN and within a voxel of a NaN in `then`.
    """
    return first + warp(then, first, padding="border")


def integrate(velocity: Tensor, steps: int = 7) -> Tensor:
    """Integrate a stationary velocity field over unit time by scaling and squaring. Source: [1].

    Integrating -velocity gives the inverse displacement. A voxel that is not finite, and every voxel whose path comes
    within a voxel of it, is not finite in the result.

    Args:
        velocity: (B, 3, D, H, W), voxels.
        steps: number of squarings (the paper: 7); the first displacement is velocity / 2^steps.

    Returns:
        The displacement, (B, 3, D, H, W), voxels.
    """
    displacement = velocity / 2**steps
    for _ in range(steps):
        displacement = compose(displacement, displacement)
    return displacement


def invert(displacement: Tensor, iterations: int = 30) -> tuple[Tensor, Tensor]:
    """Invert a displacement: find v with v(q) = -u(q + v(q)) by fixed-point iteration. Source: [2].

    The iteration converges where u is a contraction. The residual says where it did.

    Args:
        displacement: u, (B, 3, D, H, W), voxels.
        iterations: their fixed number.

    Returns:
        v, (B, 3, D, H, W), voxels, and the residual |v(q) + u(q + v(q))|, (B, 1, D, H, W), voxels, at least 0. Where
        the iteration meets a value that is not finite, the residual is not finite, but v may be.
    """
    inverse = -displacement
    for _ in range(iterations):
        inverse = -warp(displacement, inverse, padding="border")
    residual = (inverse + warp(displacement, inverse, padding="border")).norm(dim=1, keepdim=True)
    return inverse, residual


class _Gradient(torch.autograd.Function):
    """factors_ij * d u_i / d x_j (B, C, 3, D, H, W), plus the identity on request, written into one tensor.

    Autograd's own backward pass of the slices would make a volume of zeros for each of them.
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
                _add_adjoint_difference(gradients[0][:, i, j], 1 + j, factor, back[:, i])
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


def _add_adjoint_difference(back: Tensor, axis: int, factor: float, out: Tensor) -> None:
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
    """Differentiate an image: central differences inside, one-sided at the border.

    Args:
        image: (B, C, D, H, W).
        spacing_mm: (z, y, x).

    Returns:
        (B, C, 3, D, H, W), the image's unit per mm, axes in order (z, y, x); 0 along an axis of one voxel; not finite
        beside a value that is not.
    """
    per_mm = tuple(1 / float(s) for s in spacing_mm)
    result: Tensor = _Gradient.apply(image, (per_mm,) * image.shape[1], False)
    return result


def jacobian(displacement: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Compute the Jacobian of phi(p) = p + u(p) in physical units: [:, i, j] = d phi_i / d x_j.

    Central differences inside, one-sided at the border; u counts as constant along an axis of one voxel. Both axes are
    the grid's: an oblique direction rotates both sides alike and changes neither determinant nor orthonormality. A
    voxel that is not finite makes its six neighbours not finite; the voxel itself changes only at the border.

    Args:
        displacement: u, (B, 3, D, H, W), voxels.
        spacing_mm: (z, y, x).

    Returns:
        (B, 3, 3, D, H, W), without unit, axes in order (z, y, x).
    """
    spacing = [float(s) for s in spacing_mm]
    result: Tensor = _Gradient.apply(displacement, tuple(tuple(a / b for b in spacing) for a in spacing), True)
    return result


def jacobian_determinant(jacobian: Tensor) -> Tensor:
    """Compute |J| at every voxel.

    Args:
        jacobian: (B, 3, 3, D, H, W), without unit.

    Returns:
        (B, D, H, W), without unit; exactly 1 for the identity.
    """
    # Selecting row by row would cost a volume of zeros for each row in the backward pass.
    (a, b, c), (d, e, f), (g, h, i) = (row.unbind(1) for row in jacobian.unbind(1))
    return a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
