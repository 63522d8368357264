"""Distances and weights that fuse the rigid transforms of single bones into one displacement on the fixed grid.

Labels lie in the moving image, but the displacement lies on the fixed grid. A rigid transform keeps distances, so the
distance of a fixed point p to bone v in its fixed position equals the distance of T_v(p) to the moving label v. The
distance transform of each moving label is therefore interpolated at T_v(p), and no label is resampled.

Positions are voxel indices (z, y, x) of the pair's grid. A rigid transform of LPS millimetres is an affine transform of
these indices, a 4 x 4 matrix in float64.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt, find_objects
from torch import Tensor

from methods.base import Grid
from methods.bones.lattice import sample
from methods.geometry import spacing_zyx

MARGIN_MM = 12.0  # the distance transform of a label is exact up to this distance from its bounding box


def in_voxels(transform_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Convert a transform of LPS millimetres into one of voxel indices.

    Args:
        transform_mm: 4 x 4, acts on (x, y, z, 1) in LPS millimetres.
        grid: the grid of both sides of the transform.

    Returns:
        4 x 4 float64, acts on (z, y, x, 1) in voxels.
    """
    to_mm = np.eye(4)
    to_mm[:3, :3] = (grid.matrix * grid.spacing_mm)[:, ::-1]
    to_mm[:3, 3] = grid.origin_mm
    return np.linalg.inv(to_mm) @ transform_mm @ to_mm


def affine_points(matrix: np.ndarray, shape: tuple[int, int, int]) -> Tensor:
    """Apply a matrix to the index of every voxel.

    Args:
        matrix: 4 x 4, acts on (z, y, x, 1) in voxels.
        shape: of the grid, (z, y, x).

    Returns:
        float32 (3, D, H, W), components z, y, x.
    """
    z, y, x = (torch.arange(n, dtype=torch.float64) for n in shape)
    rows = [a * z[:, None, None] + b * y[:, None] + c * x + d for a, b, c, d in matrix[:3].tolist()]
    return torch.stack([row.float() for row in rows])


class BoneDistance:
    """The distance in millimetres to one moving label at any position; 0 inside the label.

    Up to MARGIN_MM from the label's bounding box it is the Euclidean distance transform, linearly interpolated. Beyond,
    it is the distance at the nearest position inside that range plus the distance to this position, which is too long
    by a factor of at most sqrt(3).
    """

    def __init__(self, labels: np.ndarray, label: int, grid: Grid) -> None:
        """Compute the distance transform.

        Args:
            labels: moving labels (z, y, x), integers.
            label: a value that occurs in `labels`.
            grid: the grid of `labels`.
        """
        bone = (labels == label).astype(np.uint8)
        self.spacing = torch.tensor(spacing_zyx(grid)).view(3, 1, 1, 1)
        box = find_objects(bone)[0]
        margin = [int(np.ceil(MARGIN_MM / s)) for s in spacing_zyx(grid)]
        self.first = torch.tensor([float(s.start - m) for s, m in zip(box, margin, strict=True)]).view(3, 1, 1, 1)
        padded = np.pad(bone[box], [(m, m) for m in margin])
        self.map = torch.from_numpy(distance_transform_edt(padded == 0, spacing_zyx(grid)).astype(np.float32))

    def __call__(self, points: Tensor) -> Tensor:
        """The distance at each point.

        Args:
            points: (3, D, H, W), continuous voxel indices z, y, x.

        Returns:
            (D, H, W), mm, at least 0.
        """
        local = points - self.first
        last = torch.tensor(self.map.shape).view(3, 1, 1, 1) - 1.0
        nearest = torch.minimum(local.clamp(min=0), last)
        beyond = ((local - nearest) * self.spacing).square_().sum(dim=0).sqrt_()
        return sample(self.map[None], nearest.flip(0).movedim(0, -1), "border")[0] + beyond


def inverse_distance_weights(distances: Tensor, exponent: float) -> Tensor:
    """The weights w_i = d_i^-exponent / sum_j d_j^-exponent.

    Args:
        distances: (N, ...), mm, at least 0, to each of N bones.
        exponent: at least 1.

    Returns:
        (N, ...), in [0, 1] with sum 1 over the bones. Inside one bone its weight is 1; overlapping bones share it.
    """
    nearest = distances.amin(dim=0, keepdim=True)
    # Division by the nearest distance prevents overflow; 0 / 0 inside a bone becomes 1.
    ratio = torch.where(distances > nearest, nearest / distances, 1).pow_(exponent)
    return ratio / ratio.sum(dim=0, keepdim=True)
