"""How far a registration leaves points that an expert found in both scans.

References:
    Fitzpatrick, West, The distribution of target registration error in rigid-body point-based registration, IEEE
        TMI 20(9), 2001.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.fields import identity_grid, warp


def landmark_error_mm(displacement: Tensor, fixed: Tensor, moving: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Target registration error of each landmark: |p + u(p) - q|.

    displacement: (1, 3, D, H, W), voxels. fixed, moving: (P, 3), the points p of the fixed grid and q, where each is in
    the moving scan; voxels of the fixed grid, not only whole ones, axis order (z, y, x). spacing_mm: z, y, x.
    Returns (P,), float64, millimetres, at least 0, u being linear between voxels; NaN where p lies beyond the outer
    voxel centres, since nothing is known of u there, or u is NaN within a voxel. Raises ValueError for points that do
    not match. Source: Fitzpatrick and West 2001.
    """
    if fixed.shape != moving.shape or fixed.shape[1:] != (3,):
        raise ValueError(f"fixed, moving: expected points (P, 3), got {tuple(fixed.shape)} and {tuple(moving.shape)}")
    p, q, u = fixed.double(), moving.double(), displacement.double()
    # A row of P voxels that looks where the landmarks are.
    away = p.T.view(1, 3, 1, 1, -1) - identity_grid((1, 1, len(p)), p.device, p.dtype)
    found = p + warp(u, away, padding="border").view(3, -1).T
    error = ((found - q) * p.new_tensor(tuple(spacing_mm))).norm(dim=1)
    last = p.new_tensor(tuple(displacement.shape[2:])) - 1
    return error.where(((p >= 0) & (p <= last)).all(dim=1), torch.nan)
