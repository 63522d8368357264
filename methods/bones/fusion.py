"""Rigid transforms of single bones as one field on the fixed grid: what is general in it.

Labels lie in the moving image and the field on the fixed grid, so a weight has to be carried over. A rigid transform
keeps distances: the distance of a fixed point p to bone v, moved to its fixed place, is the distance of T_v(p) to the
moving label v. So the distance transform of each moving label is read at T_v(p), and no label is resampled.

Positions are voxel indices (z, y, x) of the pair's one grid, where a rigid transform of LPS millimetres is an affine
one: 4 x 4 matrices, float64.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects
from torch import Tensor

from methods.base import Grid
from methods.bones.lattice import sample
from methods.geometry import spacing_zyx

MARGIN_MM = 12.0  # around a label, within which its distance transform is exact


def in_voxels(transform_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """A 4 x 4 transform of LPS millimetres as one of voxel indices (z, y, x)."""
    to_mm = np.eye(4)
    to_mm[:3, :3] = (grid.matrix * grid.spacing_mm)[:, ::-1]
    to_mm[:3, 3] = grid.origin_mm
    return np.linalg.inv(to_mm) @ transform_mm @ to_mm


def affine_points(matrix: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """A 4 x 4 matrix times (z, y, x, 1) of every voxel of a grid: (3, D, H, W), float32."""
    z, y, x = (torch.arange(n, dtype=torch.float64) for n in shape)
    rows = [a * z[:, None, None] + b * y[:, None] + c * x + d for a, b, c, d in matrix[:3].tolist()]
    return torch.stack([row.float() for row in rows])


class BoneDistance:
    """The distance in millimetres to one moving label, 0 inside it, at any position.

    Exact (Euclidean distance transform, linear between voxels) within MARGIN_MM of the label's box; beyond, that of the
    nearest position there plus the way to it, which is at most the square root of 3 too long.
    """

    def __init__(self, labels: np.ndarray, label: int, grid: Grid) -> None:
        bone = (labels == label).astype(np.uint8)
        self.spacing = torch.tensor(spacing_zyx(grid)).view(3, 1, 1, 1)
        box = find_objects(bone)[0]
        margin = [int(np.ceil(MARGIN_MM / s)) for s in spacing_zyx(grid)]
        self.first = torch.tensor([float(s.start - m) for s, m in zip(box, margin, strict=True)]).view(3, 1, 1, 1)
        around = np.pad(bone[box], [(m, m) for m in margin])
        self.map = torch.from_numpy(distance_transform_edt(around == 0, spacing_zyx(grid)).astype(np.float32))

    def __call__(self, points: Tensor) -> Tensor:
        """points: (3, ...), indices z, y, x. Returns (...), mm."""
        local = points - self.first
        last = torch.tensor(self.map.shape).view(3, 1, 1, 1) - 1.0
        held = torch.minimum(local.clamp(min=0), last)
        beyond = ((local - held) * self.spacing).square_().sum(dim=0).sqrt_()
        return sample(self.map[None], held.flip(0).movedim(0, -1), "border")[0] + beyond


def shares(distances: Tensor, exponent: float) -> Tensor:
    """Weights of N bones from their distances (N, ...), mm: 1 / d^exponent, over the sum: in [0, 1], sum 1.

    Inside a bone its weight is 1; where bones overlap they share it.
    """
    nearest = distances.amin(dim=0, keepdim=True)
    # Relative to the nearest, nothing overflows; 0 / 0 inside a bone is its own share, 1.
    ratio = torch.where(distances > nearest, nearest / distances, 1).pow_(exponent)
    return ratio / ratio.sum(dim=0, keepdim=True)
