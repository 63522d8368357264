"""The least-squares rigid transform between two sets of points.

References:
    [1] Arun, Huang, Blostein, Least-squares fitting of two 3-D point sets, IEEE TPAMI 9(5), 1987.
    [2] Umeyama, Least-squares estimation of transformation parameters between two point patterns, TPAMI 13(4), 1991.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _NearestRotation(torch.autograd.Function):
    """The rotation R that maximises tr(R^T M): U diag(1, 1, +-1) V^T of M = U S V^T.

    The backward pass is that of the polar factor, which is infinite only where the best rotation is not unique. That of
    an SVD is infinite wherever two singular values agree, as for any cube or sphere.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, s, vt = torch.linalg.svd(matrix)
        sign = torch.ones_like(s)
        sign[..., -1] = torch.linalg.det(u @ vt).sign()
        ctx.save_for_backward(u, s * sign, vt, sign)
        return (u * sign.unsqueeze(-2)) @ vt

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        u, s, vt, sign = ctx.saved_tensors
        rotated = u * sign.unsqueeze(-2)
        inner = rotated.mT @ gradients[0] @ vt.mT
        skew = (inner - inner.mT) / (s.unsqueeze(-1) + s.unsqueeze(-2))
        return rotated @ skew @ vt


def fit_rigid(source: Tensor, target: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Fit the rigid transform that takes `source` to `target` with the least weighted squared distance.

    The fit is never a reflection. Where several rotations fit equally well (one point, a line), the one nearest to the
    identity is returned. Batched, and differentiable in all arguments. Source: [1], [2].

    Args:
        source: (..., N, 3), N >= 1, any unit, such as mm.
        target: (..., N, 3), in the unit and axis order of `source`.
        weights: (..., N), at least 0; None: all equal.

    Returns:
        rotation (..., 3, 3), without unit, and translation (..., 3), in the unit of the points, with
        target = rotation source + translation. Both are NaN where the weights sum to 0 or a point is not finite,
        whatever its weight.
    """
    if weights is None:
        weights = torch.ones_like(source[..., 0])
    share = (weights / weights.sum(dim=-1, keepdim=True)).unsqueeze(-2)
    from_centre, to_centre = share @ source, share @ target
    covariance = ((target - to_centre).mT * share) @ (source - from_centre)
    # A small multiple of the identity decides where several rotations fit equally well.
    identity = torch.eye(3, dtype=source.dtype, device=source.device)
    scale = covariance.detach().norm(dim=(-2, -1), keepdim=True) * torch.finfo(source.dtype).eps * 4
    regularised = covariance + (scale + torch.finfo(source.dtype).tiny) * identity
    # One NaN would make torch's SVD fail for the whole batch.
    known = regularised.detach().isfinite().flatten(-2).all(dim=-1) & (weights.detach().sum(dim=-1) > 0)
    known = known[..., None, None]
    rotation = _NearestRotation.apply(torch.where(known, regularised, identity))
    rotation = torch.where(known, rotation, torch.full_like(rotation, torch.nan))
    return rotation, (to_centre - from_centre @ rotation.mT).squeeze(-2)
