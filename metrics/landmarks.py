"""Target registration error of landmarks that an expert placed in both scans.

References:
    [1] Fitzpatrick, West, The distribution of target registration error in rigid-body point-based registration, IEEE
        TMI 20(9), 2001.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.fields import identity_grid, warp


def landmark_error_mm(displacement: Tensor, fixed: Tensor, moving: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Compute the target registration error |p + u(p) - q| of each landmark. Source: [1].

    Positions are voxels of the fixed grid, need not be whole numbers, and have components (z, y, x). The displacement u
    is interpolated linearly between voxels.

    Args:
        displacement: u, (1, 3, D, H, W), voxels.
        fixed: p, (P, 3), the landmarks in the fixed scan, voxels.
        moving: q, (P, 3), the same landmarks in the moving scan, voxels.
        spacing_mm: (z, y, x).

    Returns:
        float64 (P,), mm, at least 0; NaN where p lies beyond the outer voxel centres, since u is unknown there, or
        where u is NaN within a voxel of p.

    Raises:
        ValueError: the points are not two tensors (P, 3) of one shape.
    """
    if fixed.shape != moving.shape or fixed.shape[1:] != (3,):
        raise ValueError(f"fixed, moving: expected points (P, 3), got {tuple(fixed.shape)} and {tuple(moving.shape)}")
    p, q, u = fixed.double(), moving.double(), displacement.double()
    # A volume of one row of P voxels, each displaced to a landmark.
    to_landmarks = p.T.view(1, 3, 1, 1, -1) - identity_grid((1, 1, len(p)), p.device, p.dtype)
    mapped = p + warp(u, to_landmarks, padding="border").view(3, -1).T
    error = ((mapped - q) * p.new_tensor(tuple(spacing_mm))).norm(dim=1)
    last = p.new_tensor(tuple(displacement.shape[2:])) - 1
    return error.where(((p >= 0) & (p <= last)).all(dim=1), torch.nan)
