"""A displacement between vertebrae: their rigid motions, weighted by the inverse cubed distance to each.

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

# Within a millimetre of a vertebra its own motion prevails; so much is added to the distance, lest it be zero.
_NEAR_MM, _LEAST_MM = 1.0, 0.2


def blend(labels: np.ndarray, pulls: Mapping[int, tuple[np.ndarray, np.ndarray]], grid: Grid) -> np.ndarray:
    """float32 (3, z, y, x), LPS mm: fixed point -> moving point, everywhere on `grid`.

    labels: (z, y, x), fixed domain. pulls: of each id the rotation (3, 3) and translation (3,) from fixed to moving
    points. An id without a voxel has no say; without any the displacement is 0.
    """
    axes = [[step.T.astype(np.float32) for step in _along_axes(pull, grid)] for pull in pulls.values()]
    total, field = torch.zeros(grid.shape), torch.zeros(3, *grid.shape)
    boxes = find_objects(labels.astype(np.int32), max_label=max(pulls, default=0))
    for vertebra, (by_z, by_y, by_x) in zip(pulls, axes, strict=True):
        box = boxes[vertebra - 1]
        if box is None:
            continue
        squared = squared_distance(labels[box] == vertebra, [s.start for s in box], grid.shape, spacing_zyx(grid))
        away = squared.sqrt_().sub_(_NEAR_MM).clamp_(min=0).add_(_LEAST_MM)
        weight = away.square().mul_(away).reciprocal_()
        total += weight
        for component, z, y, x in zip(field, by_z, by_y, by_x, strict=True):
            plane = torch.from_numpy(y[:, None] + x)
            component.addcmul_(weight, torch.from_numpy(z)[:, None, None] + plane)
    return (field / total.clamp(min=1e-12)).numpy()


def squared_distance(
    mask: np.ndarray, first: Sequence[int], shape: Sequence[int], spacing_mm: Sequence[float]
) -> Tensor:
    """The squared distance from every voxel of a grid to the nearest voxel of a mask: float32 (z, y, x), mm^2.

    mask: bool, the part of the grid from voxel `first` on that holds it all. shape: of the grid. spacing_mm: z, y, x.
    Exact, one axis after the other. scipy's transform looks at all of the grid along every axis, which takes five times
    as long where the mask is a small part of it: half of the time that a phantom took.
    """
    found = torch.zeros(mask.shape).masked_fill_(torch.from_numpy(~mask), torch.inf)
    for axis in (2, 1, 0):
        to = (torch.arange(shape[axis], dtype=torch.float64) * spacing_mm[axis])[:, None]
        nodes = (torch.arange(found.shape[axis], dtype=torch.float64) + first[axis]) * spacing_mm[axis]
        cost = (to - nodes).square().float()
        size = [*found.shape]
        size[axis] = shape[axis]
        best, candidate = torch.full(size, torch.inf), torch.empty(size)
        column = [-1 if a == axis else 1 for a in range(3)]
        for j in range(found.shape[axis]):
            torch.add(found.narrow(axis, j, 1), cost[:, j].view(column), out=candidate)
            torch.minimum(best, candidate, out=best)
        found = best
    return found


def _along_axes(pull: tuple[np.ndarray, np.ndarray], grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A rigid motion's displacement as a sum of what each axis adds: (n, 3) in mm for z, y and x."""
    rotation, translation = pull
    steps = (grid.matrix * np.asarray(grid.spacing_mm)).T @ (rotation - np.eye(3)).T
    origin = (rotation - np.eye(3)) @ np.asarray(grid.origin_mm) + translation
    z, y, x = (np.arange(n)[:, None] * step for n, step in zip(grid.shape, steps[::-1], strict=True))
    return z + origin, y, x
