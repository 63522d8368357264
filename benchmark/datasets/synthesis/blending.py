"""The displacement between vertebrae: their rigid motions, weighted by the inverse cubed distance to each.

Reference:
    Shepard, A two-dimensional interpolation function for irregularly-spaced data, ACM (1968): the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from scipy.ndimage import find_objects
from torch import Tensor

from methods.base import Grid
from methods.geometry import spacing_zyx

# Within 1 mm of a vertebra its weight is greatest and constant; the small length keeps the distance above zero.
_NEAR_MM, _MIN_DISTANCE_MM = 1.0, 0.2


def blend(labels: np.ndarray, to_moving: Mapping[int, tuple[np.ndarray, np.ndarray]], grid: Grid) -> np.ndarray:
    """Blend rigid motions of vertebrae into one displacement.

    u(p) = sum_i w_i(p) u_i(p) / sum_i w_i(p), with w_i = (max(d_i - 1 mm, 0) + 0.2 mm)^-3 and d_i the distance of p to
    vertebra i (Shepard, 1968).

    Args:
        labels: integer (z, y, x), fixed domain.
        to_moving: for each id the rotation (3, 3) and translation (3,) in mm from fixed to moving points, LPS.
        grid: of `labels`.

    Returns:
        Displacement from fixed to moving points, float32 (3, z, y, x), LPS mm. An id without a voxel has no weight;
        without any voxel the displacement is 0.
    """
    axes = [[step.T.astype(np.float32) for step in _along_axes(motion, grid)] for motion in to_moving.values()]
    total, field = torch.zeros(grid.shape), torch.zeros(3, *grid.shape)
    boxes = find_objects(labels.astype(np.int32), max_label=max(to_moving, default=0))
    for vertebra, (by_z, by_y, by_x) in zip(to_moving, axes, strict=True):
        box = boxes[vertebra - 1]
        if box is None:
            continue
        squared = squared_distance(labels[box] == vertebra, [s.start for s in box], grid.shape, spacing_zyx(grid))
        away = squared.sqrt_().sub_(_NEAR_MM).clamp_(min=0).add_(_MIN_DISTANCE_MM)
        weight = away.square().mul_(away).reciprocal_()
        total += weight
        for component, z, y, x in zip(field, by_z, by_y, by_x, strict=True):
            plane = torch.from_numpy(y[:, None] + x)
            component.addcmul_(weight, torch.from_numpy(z)[:, None, None] + plane)
    return (field / total.clamp(min=1e-12)).numpy()


def squared_distance(
    mask: np.ndarray, first: Sequence[int], shape: Sequence[int], spacing_mm: Sequence[float]
) -> Tensor:
    """Squared distance from every voxel of a grid to the nearest voxel of a mask; exact, one axis after the other.

    scipy's transform visits the whole grid along every axis. If the mask is a small part of the grid, that takes five
    times as long as this function.

    Args:
        mask: bool (z, y, x), a part of the grid that holds every voxel of the mask.
        first: index (z, y, x) of its first voxel in the grid.
        shape: of the grid (z, y, x).
        spacing_mm: of the grid (z, y, x).

    Returns:
        float32 (z, y, x) of `shape`, mm^2.
    """
    squared = torch.zeros(mask.shape).masked_fill_(torch.from_numpy(~mask), torch.inf)
    for axis in (2, 1, 0):
        to = (torch.arange(shape[axis], dtype=torch.float64) * spacing_mm[axis])[:, None]
        nodes = (torch.arange(squared.shape[axis], dtype=torch.float64) + first[axis]) * spacing_mm[axis]
        cost = (to - nodes).square().float()
        size = [*squared.shape]
        size[axis] = shape[axis]
        best, candidate = torch.full(size, torch.inf), torch.empty(size)
        column = [-1 if a == axis else 1 for a in range(3)]
        for j in range(squared.shape[axis]):
            torch.add(squared.narrow(axis, j, 1), cost[:, j].view(column), out=candidate)
            torch.minimum(best, candidate, out=best)
        squared = best
    return squared


def _along_axes(motion: tuple[np.ndarray, np.ndarray], grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The displacement of a rigid motion as a sum of one term per axis: (n, 3) in mm for z, y and x."""
    rotation, translation = motion
    steps = (grid.matrix * np.asarray(grid.spacing_mm)).T @ (rotation - np.eye(3)).T
    origin = (rotation - np.eye(3)) @ np.asarray(grid.origin_mm) + translation
    z, y, x = (np.arange(n)[:, None] * step for n, step in zip(grid.shape, steps[::-1], strict=True))
    return z + origin, y, x
