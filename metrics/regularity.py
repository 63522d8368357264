"""How far a displacement is from rigid, smooth, free of folds and inverse consistent.

Except for `inverse_consistency`, the input is the Jacobian J of phi = identity + u in physical units
(`metrics.fields.jacobian`), or u itself.

References:
    [1] Jian et al., Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine, MICCAI 2022,
        equations (5) to (7). https://arxiv.org/abs/2205.07568
    [2] Staring, Klein, Pluim, A rigidity penalty term for nonrigid registration, Medical Physics 34(11), 2007.
    [3] Hering et al., Learn2Reg: comprehensive multi-task medical image registration challenge, IEEE TMI 42(3), 2023.
        https://github.com/MDL-UzL/L2R (evaluation: SD of log(|J| + 3))
    [4] Balakrishnan et al., VoxelMorph: a learning framework for deformable image registration, IEEE TMI 38(8), 2019.
    [5] Christensen, Johnson, Consistent image registration, IEEE TMI 20(7), 2001.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from metrics.boxes import Box, bounding_box, covering_box
from metrics.fields import compose, jacobian_determinant, lands_inside
from metrics.soft_labels import SoftLabels

Convention = Literal["plain", "l2r"]
_SHIFT = {"plain": 0.0, "l2r": 3.0}
_SMALLEST, _LARGEST = 1e-9, 1e9


def properness_map(determinant: Tensor) -> Tensor:
    """Compute (|J| - 1)^2 at every voxel: the summand of eq. 6. Source: [1], eq. 6; [2], "properness".

    Args:
        determinant: |J|, (...,), without unit.

    Returns:
        (...,), at least 0, without unit; 0 where volume is preserved.
    """
    return (determinant - 1).square()


def orthonormality_map(jacobian: Tensor) -> Tensor:
    """Compute ||J^T J - I||^2 (Frobenius) at every voxel: the summand of eq. 7.

    A uniform scale s gives 3 (s^2 - 1)^2. Source: [1], eq. 7; [2], "orthonormality".

    Args:
        jacobian: J, (B, 3, 3, D, H, W), without unit.

    Returns:
        (B, D, H, W), at least 0, without unit; 0 for a rotation or reflection.
    """
    a, b, c = jacobian.unbind(dim=2)
    # J^T J is symmetric: its six different entries need a third less work and memory than a batched matrix product.
    diagonal = [((v * v).sum(dim=1) - 1).square() for v in (a, b, c)]
    off_diagonal = [(v * w).sum(dim=1).square() for v, w in ((a, b), (a, c), (b, c))]
    return diagonal[0] + diagonal[1] + diagonal[2] + 2 * (off_diagonal[0] + off_diagonal[1] + off_diagonal[2])


def weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Compute the mean of a map over each vertebra, weighted by its (soft) label: 1/|s| sum over x in s.

    Detach the weights in a loss that must not change the labels: its gradient then acts on the values only.

    Args:
        values: (B, D, H, W).
        weights: (B, N, D, H, W), or (N, D, H, W) for the whole batch; at least 0. Their sum as N = 1 gives one mean
            over the union of all vertebrae, as in the authors' code.

    Returns:
        (B, N), in the unit of `values`, differentiable in both arguments; NaN, with gradient 0, where the weights sum
        to 0; NaN for all labels of an item with a value that is not finite, inside the labels or outside.
    """
    return _weighted_mean(values.flatten(-3), weights.flatten(-3))


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """`weighted_mean` of values (B, P) and weights (B, N, P) or (N, P)."""
    weights = weights.to(values.dtype)
    total, size = (values.unsqueeze(-2) @ weights.transpose(-1, -2)).squeeze(-2), weights.sum(dim=-1)
    # An empty label is divided by 1: 0 / 0 would make the gradient NaN for the other labels too.
    return (total / size.where(size != 0, 1)).where(size != 0, torch.nan)


def rigidity(
    displacement: Tensor,
    weights: Tensor,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    boxes: Sequence[Box | None] | None = None,
) -> tuple[Tensor, Tensor]:
    """Compute properness (eq. 6) and orthonormality (eq. 7) of a displacement for each vertebra.

    The losses of [1] are their means over N. Both share the Jacobian, so one call returns both. Only the face
    neighbours of the labels' voxels are used, and the voxels themselves at the grid's border: a value there that is not
    finite makes all labels of its item not finite; elsewhere it has no effect. Source: [1], eqs. 6 and 7.

    Args:
        displacement: (B, 3, D, H, W), voxels.
        weights: warped soft labels, (B, N, D, H, W), or (N, D, H, W) for the whole batch; at least 0.
        spacing_mm: (z, y, x).
        boxes: `metrics.boxes.bounding_box` of each label's weights; None computes them.

    Returns:
        properness and orthonormality, each (B, N), at least 0, without unit; NaN, with gradient 0, for an empty label.

    Raises:
        ValueError: the labels are on another grid.
    """
    if displacement.shape[2:] != weights.shape[-3:]:
        raise ValueError(f"weights: expected grid {tuple(displacement.shape[2:])}, got {tuple(weights.shape[-3:])}")
    return LabelVoxels(weights, spacing_mm, boxes).rigidity(displacement)


def rigidity_of_crops(
    displacement: Tensor, labels: SoftLabels, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)
) -> tuple[Tensor, Tensor]:
    """Compute `rigidity` of one displacement over labels that are stored as crops, each in its own box.

    Args:
        displacement: (1, 3, D, H, W), voxels.
        labels: N warped soft labels on its grid.
        spacing_mm: (z, y, x).

    Returns:
        As `rigidity`, (1, N) each.
    """
    result = displacement.new_full((2, 1, len(labels.crops)), torch.nan)
    present = [k for k, box in enumerate(labels.boxes) if box is not None]
    for k in present:
        # Enlarged by the face neighbours, where the grid has them.
        ends = zip(labels.boxes[k] or (), labels.grid_shape, strict=True)
        z, y, x = (slice(max(s.start - 1, 0), min(s.stop + 1, n)) for s, n in ends)
        weights = labels.crop(k, (z, y, x))[None]
        everything = [(slice(0, z.stop - z.start), slice(0, y.stop - y.start), slice(0, x.stop - x.start))]
        parts = rigidity(displacement[:, :, z, y, x], weights, spacing_mm, everything)
        result[..., k] = torch.stack(parts)[..., 0]
    if not result[..., present].isfinite().all():
        result[:] = torch.nan
    return result[0], result[1]


class LabelVoxels:
    """The voxels of soft labels, for `rigidity` of several displacements over the same labels."""

    def __init__(
        self, weights: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0), boxes: Sequence[Box | None] | None = None
    ) -> None:
        """Find the voxels. Arguments: as in `rigidity`."""
        if boxes is None and weights.numel():
            boxes = [bounding_box(weights.detach())]
        box = covering_box(boxes or [])
        self.empty = box is None
        z, y, x = box or (slice(0, 0),) * 3
        cropped = weights[..., z, y, x]
        if self.empty:
            self._weights = cropped.flatten(-3)
            return
        inside = (cropped.detach().flatten(0, -4).amax(dim=0) != 0).nonzero()
        size = cropped.shape[-3:]
        flat = (inside[:, 0] * size[1] + inside[:, 1]) * size[2] + inside[:, 2]
        # `gather` is several times as fast as `index_select` along the last axis.
        cropped = cropped.flatten(-3)
        self._weights = cropped.gather(-1, flat.expand(*cropped.shape[:-1], -1))
        self._neighbours, self._per_mm = _neighbours(inside + inside.new_tensor([z.start, y.start, x.start]),
                                                     weights.shape[-3:], spacing_mm)  # fmt: skip
        self._spacing_mm = tuple(spacing_mm)

    def rigidity(self, displacement: Tensor) -> tuple[Tensor, Tensor]:
        """Compute `rigidity` of a displacement (B, 3, D, H, W) in voxels, on the grid of the labels."""
        if self.empty:
            missing = displacement.new_full((len(displacement), self._weights.shape[-2]), torch.nan)
            return missing, missing.clone()
        maps = _RigidityMaps.apply(displacement, self._neighbours, self._per_mm, self._spacing_mm)
        proper, orthonormal = (_weighted_mean(values, self._weights) for values in maps)
        return proper, orthonormal


def _neighbours(voxels: Tensor, shape: Sequence[int], spacing_mm: Sequence[float]) -> tuple[Tensor, Tensor]:
    """The flat indices (2, 3, P) of the next and the previous voxel along each axis, and 1 / their distance in mm.

    voxels: (P, 3). Beyond the grid's border the voxel itself takes their place, as in `metrics.fields.jacobian`.
    """
    strides = voxels.new_tensor([shape[1] * shape[2], shape[2], 1])
    last = voxels.new_tensor([n - 1 for n in shape])
    ahead, behind = (voxels + 1).minimum(last), (voxels - 1).clamp(min=0)
    flat = (voxels * strides).sum(dim=1, keepdim=True)
    index = torch.stack([flat + (v - voxels) * strides for v in (ahead, behind)]).transpose(1, 2).contiguous()
    # Along an axis of one voxel both are the voxel itself, and the difference is 0.
    steps = (ahead - behind).clamp(min=1).T
    return index, 1 / (steps * steps.new_tensor(tuple(spacing_mm), dtype=torch.float64).unsqueeze(1))


class _RigidityMaps(torch.autograd.Function):
    """Properness and orthonormality (B, P) at the voxels whose neighbours are given; a closed-form gradient.

    d(|J| - 1)^2 / dJ = 2 (|J| - 1) cof J, and d||J^T J - I||^2 / dJ = 4 J (J^T J - I).
    """

    @staticmethod
    def forward(
        ctx: Any, displacement: Tensor, neighbours: Tensor, per_mm: Tensor, spacing_mm: Sequence[float]
    ) -> tuple[Tensor, Tensor]:
        flat = displacement.flatten(2)
        index = neighbours.flatten().expand(*flat.shape[:2], -1)
        ahead, behind = flat.gather(-1, index).view(*flat.shape[:2], *neighbours.shape).unbind(2)
        scale = per_mm.to(flat.dtype) * flat.new_tensor(spacing_mm).view(3, 1, 1)  # (3, 3, P): of component and axis
        j = (ahead - behind) * scale + torch.eye(3, dtype=flat.dtype, device=flat.device).unsqueeze(-1)
        ctx.save_for_backward(j, neighbours, scale)
        ctx.shape = displacement.shape
        return properness_map(jacobian_determinant(j)), orthonormality_map(j)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None]:
        j, neighbours, scale = ctx.saved_tensors
        of_proper, of_orthonormal = gradients
        rows = j.unbind(1)
        cofactors = torch.stack([torch.linalg.cross(rows[(i + 1) % 3], rows[(i + 2) % 3], dim=1) for i in range(3)], 1)
        determinant = (rows[0] * cofactors[:, 0]).sum(dim=1)
        back = cofactors * (2 * of_proper * (determinant - 1))[:, None, None]
        columns = j.unbind(2)
        for a in range(3):
            for b in range(a, 3):
                product = 4 * of_orthonormal * ((columns[a] * columns[b]).sum(dim=1) - float(a == b))
                back[:, :, b].addcmul_(columns[a], product[:, None])
                if a != b:
                    back[:, :, a].addcmul_(columns[b], product[:, None])
        back *= scale
        voxels = ctx.shape[2:].numel()
        both = torch.stack([back, -back], dim=2).flatten(2)
        first = torch.arange(0, 3 * len(j) * voxels, voxels, device=j.device)
        index = (neighbours.flatten() + first[:, None]).flatten()
        result = back.new_zeros(3 * len(j) * voxels).index_add_(0, index, both.flatten())
        return result.view(ctx.shape), None, None, None


def diffusion(field: Tensor) -> Tensor:
    """Compute the mean squared forward difference: the smoothness term of eq. 1, which is applied to the velocity.

    The squared differences are averaged over components and voxels, then over the three axes; an axis of one voxel
    contributes 0. The authors double the term for a velocity at half resolution; the trainer does that, not this
    function. Source: [1], eq. 1, L_smooth; [4], eq. 7.

    Args:
        field: (B, 3, D, H, W), voxels, or any (B, C, D, H, W).

    Returns:
        (B,), squared unit of the field, at least 0; not finite where the field is not.
    """
    result: Tensor = _Diffusion.apply(field)
    return result


class _Diffusion(torch.autograd.Function):
    """Writes the gradient into one volume: autograd's own backward pass would make one for each difference."""

    @staticmethod
    def forward(ctx: Any, field: Tensor) -> Tensor:
        differences = [field.diff(dim=axis) for axis in (2, 3, 4)]
        ctx.save_for_backward(*differences)
        ctx.shape = field.shape
        flat = [d.flatten(1) for d in differences]
        return torch.stack([torch.linalg.vecdot(d, d) / max(d.shape[1], 1) for d in flat]).mean(dim=0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        back = gradients[0].new_zeros(ctx.shape)
        for axis, difference in zip((2, 3, 4), ctx.saved_tensors, strict=True):
            if difference.numel():
                scale = (2 / 3 * gradients[0] / difference[0].numel()).view(-1, 1, 1, 1, 1)
                back.narrow(axis, 1, difference.shape[axis]).addcmul_(difference, scale)
                back.narrow(axis, 0, difference.shape[axis]).addcmul_(difference, scale, value=-1)
        return back


def folding(determinant: Tensor, crop: int = 2) -> tuple[Tensor, Tensor]:
    """Count the voxels where the displacement folds, |J| <= 0.

    A determinant that is not finite counts as folded, so that an invalid field does not pass for a valid one.
    Source: [1], Table 1, "|J| <= 0" (a count there; the released code prints a percentage).

    Args:
        determinant: |J|, (B, D, H, W), without unit.
        crop: voxels that are left out at each side of the grid.

    Returns:
        The count, int64 (B,), and its percentage of the remaining voxels, float64 (B,), in [0, 100].

    Raises:
        ValueError: the crop leaves no voxel.
    """
    inside = _cropped(determinant, crop).flatten(1)
    count = (~((inside > 0) & inside.isfinite())).sum(dim=1)
    return count, 100.0 * count.double() / inside.shape[1]


def sd_log_jacobian(determinant: Tensor, convention: Convention = "plain", crop: int = 2) -> Tensor:
    """Compute the standard deviation of log|J| over the grid, in one of two conventions. Never mix the conventions.

    The SD is that of the population (divided by n, as in numpy and [3]). A folded voxel enters `plain` as
    log(1e-9) = -20.7.

    Args:
        determinant: |J|, (B, D, H, W), without unit.
        convention: `plain`, SD of log(clip(|J|, 1e-9, 1e9)); `l2r`, SD of log(clip(|J| + 3, 1e-9, 1e9)), as in [3] and
            in the code released with [1], which is several times smaller.
        crop: voxels that are left out at each side of the grid.

    Returns:
        (B,), at least 0, without unit; NaN where a determinant is NaN. An infinite determinant is clipped.

    Raises:
        ValueError: the convention is unknown, or the crop leaves no voxel.
    """
    if convention not in _SHIFT:
        raise ValueError(f"convention: expected 'plain' or 'l2r', got {convention!r}")
    inside = _cropped(determinant, crop).flatten(1)
    return (inside + _SHIFT[convention]).clamp(_SMALLEST, _LARGEST).log().std(dim=1, correction=0)


def inverse_consistency(forward: Tensor, backward: Tensor, spacing_mm: Sequence[float] = (1.0, 1.0, 1.0)) -> Tensor:
    """Compute |phi_b(phi_f(p)) - p| at every voxel: the error of mapping a point forward and backward.

    Exchange the arguments for the other direction. Source: [5], which compares phi_f with the inverse of phi_b; this
    definition needs no inverse.

    Args:
        forward: (B, 3, D, H, W), voxels.
        backward: (B, 3, D, H, W), voxels, on the same grid.
        spacing_mm: (z, y, x).

    Returns:
        (B, D, H, W), mm, at least 0, differentiable in both arguments where it is finite. NaN where phi_f(p) is NaN or
        outside the volume, since phi_b is unknown there; average with `nanmean`.
    """
    spacing = torch.as_tensor(spacing_mm, device=forward.device, dtype=forward.dtype).view(1, 3, 1, 1, 1)
    distance = (compose(forward, backward) * spacing).norm(dim=1)
    return distance.where(lands_inside(forward, backward.shape[2:])[:, 0] > 0, torch.nan)


def _cropped(volume: Tensor, crop: int) -> Tensor:
    if crop < 0 or min(volume.shape[-3:]) <= 2 * crop:
        raise ValueError(f"crop: expected less than half of each side of {tuple(volume.shape[-3:])}, got {crop}")
    z, y, x = (slice(crop, n - crop) for n in volume.shape[-3:])
    return volume[..., z, y, x]
