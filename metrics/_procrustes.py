"""Behind `metrics.rigid`: the least-squares rigid transform between two sets of points.

References:
    [2] Arun, Huang, Blostein, Least-squares fitting of two 3-D point sets, IEEE TPAMI 9(5), 1987.
    [3] Umeyama, Least-squares estimation of transformation parameters between two point patterns, TPAMI 13(4), 1991.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class _NearestRotation(torch.autograd.Function):
    """The rotation R that maximises tr(R^T M): U diag(1, 1, +-1) V^T of M = U S V^T.

    Its own backward, since that of an SVD is infinite where two singular values agree, as for any cube or sphere; the
    polar factor's is infinite only where the best rotation itself is not unique.
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
    """The rigid transform that takes `source` to `target` with the least weighted squared distance; no reflection.

    source, target: (..., N, 3), N >= 1, one unit and axis order. weights: (..., N), at least 0, or None for all equal.
    Returns (rotation (..., 3, 3), translation (..., 3)) with target = rotation source + translation. Where the points
    leave the rotation open (one point, a line) it is the one nearest to the identity. Batched; differentiable in all
    three. NaN where the weights sum to 0 or a point is not finite, whatever its weight. Source: [2], [3].
    """
    if weights is None:
        weights = torch.ones_like(source[..., 0])
    share = (weights / weights.sum(dim=-1, keepdim=True)).unsqueeze(-2)
    from_centre, to_centre = share @ source, share @ target
    covariance = ((target - to_centre).mT * share) @ (source - from_centre)
    # A trace of the identity settles what the points leave open.
    identity = torch.eye(3, dtype=source.dtype, device=source.device)
    scale = covariance.detach().norm(dim=(-2, -1), keepdim=True) * torch.finfo(source.dtype).eps * 4
    settled = covariance + (scale + torch.finfo(source.dtype).tiny) * identity
    # An SVD refuses NaN for the whole batch.
    known = settled.detach().isfinite().flatten(-2).all(dim=-1) & (weights.detach().sum(dim=-1) > 0)
    known = known[..., None, None]
    rotation = _NearestRotation.apply(torch.where(known, settled, identity))
    rotation = torch.where(known, rotation, torch.full_like(rotation, torch.nan))
    return rotation, (to_centre - from_centre @ rotation.mT).squeeze(-2)
