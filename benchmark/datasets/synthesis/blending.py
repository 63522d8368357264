"""Distances to vertebrae, and their rigid motions weighted by the inverse of a power of these distances.

Reference:
    Shepard, A two-dimensional interpolation function for irregularly-spaced data, ACM (1968): the weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import find_objects
from torch import Tensor

from methods.base import Grid
from methods.geometry import spacing_zyx

# Within 1 mm of a vertebra its weight is greatest and constant; the small length keeps the distance above zero.
_NEAR_MM, _MIN_DISTANCE_MM = 1.0, 0.2
# Spacing of the nodes on which displacements are blended.
COARSE_MM = 2.0

Rigid = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Coarse:
    """Labels on a grid of about 2 mm, and the way back.

    labels: (z, y, x), of the nodes. grid: of the nodes. shape: of the fine grid. factors: spacing of the nodes divided
    by that of the fine grid, (z, y, x).
    """

    labels: np.ndarray
    grid: Grid
    shape: tuple[int, int, int]
    factors: tuple[int, ...]

    @property
    def fine_spacing_mm(self) -> tuple[float, ...]:
        """Spacing of the fine grid (z, y, x)."""
        return tuple(s / f for s, f in zip(spacing_zyx(self.grid), self.factors, strict=True))

    @staticmethod
    def of(labels: np.ndarray, grid: Grid) -> Coarse:
        """Take every n-th voxel of labels (z, y, x) on `grid`; the last nodes lie at or beyond its last voxels."""
        factors = tuple(max(1, round(COARSE_MM / s)) for s in spacing_zyx(grid))
        beyond = [(0, -(n - 1) % f) for n, f in zip(grid.shape, factors, strict=True)]
        coarse = np.pad(labels, beyond, mode="edge")[tuple(slice(None, None, f) for f in factors)]
        x, y, z = (s * f for s, f in zip(grid.spacing_mm, factors[::-1], strict=True))
        d, h, w = coarse.shape
        return Coarse(coarse, Grid((d, h, w), (x, y, z), grid.origin_mm, grid.direction), grid.shape, factors)

    def fine_box(self, part: tuple[slice, ...] | None = None) -> tuple[tuple[slice, ...], list[np.ndarray]]:
        """The voxels between the nodes of a part (None: of all), and the weights of linear interpolation there.

        Returns:
            A slice of the fine grid for each axis, and float32 (m, n) for each: m voxels, n nodes.
        """
        box, weights = [], []
        nodes = [slice(0, n) for n in self.labels.shape] if part is None else part
        for s, n, m, f in zip(nodes, self.shape, self.labels.shape, self.factors, strict=True):
            stop = min(s.stop, m)
            voxels = slice(s.start * f, min((stop - 1) * f + 1, n))
            at = np.arange(voxels.start, voxels.stop) / f - s.start
            box.append(voxels)
            weights.append(np.clip(1 - np.abs(at[:, None] - np.arange(stop - s.start)), 0, 1).astype(np.float32))
        return tuple(box), weights


def refine(values: np.ndarray, weights: Sequence[np.ndarray]) -> np.ndarray:
    """Interpolate values (c, z, y, x) along z, y and x, with a matrix of weights (m, n) for each of the three."""
    for axis, rows in enumerate(weights):
        values = np.moveaxis(np.tensordot(rows, values, (1, 1 + axis)), 0, 1 + axis)
    return values


def smooth_step(x: np.ndarray) -> np.ndarray:
    """A cubic step from 0 to 1 with slope 0 at both ends. x and the result have any one shape."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def bone_distances(labels: np.ndarray, ids: Sequence[int], grid: Grid) -> dict[int, Tensor]:
    """Compute the distance from every voxel to each vertebra.

    Args:
        labels: integer (z, y, x).
        ids: vertebrae, positive.
        grid: of `labels`.

    Returns:
        float32 (z, y, x) in mm for each id that has a voxel.
    """
    boxes = find_objects(labels.astype(np.int32), max_label=max(ids, default=0))
    result = {}
    for vertebra in ids:
        box = boxes[vertebra - 1]
        if box is not None:
            squared = squared_distance(labels[box] == vertebra, [s.start for s in box], grid.shape, spacing_zyx(grid))
            result[vertebra] = squared.sqrt_()
    return result


def blend(
    distances: Mapping[int, Tensor],
    motions: Sequence[Mapping[int, Rigid]],
    grid: Grid,
    exponent: float = 3.0,
    shares: Mapping[int, float] | None = None,
) -> list[np.ndarray]:
    """Blend rigid motions of vertebrae into one displacement, for each of several motions with the same weights.

    u(p) = sum_i w_i(p) u_i(p) / sum_i w_i(p), with w_i = share_i (max(d_i - 1 mm, 0) + 0.2 mm)^-exponent and d_i the
    distance of p to vertebra i (Shepard, 1968).

    Args:
        distances: to each vertebra in its fixed position, (z, y, x), mm.
        motions: each has for each id the rotation (3, 3) and translation (3,) in mm from fixed to moving points, LPS.
        grid: of the distances.
        exponent: of the distance, positive.
        shares: factor on the weight of each id, positive; None: all 1.

    Returns:
        For each of the motions the displacement, float32 (3, z, y, x), LPS mm. An id without a distance has no weight;
        without any distance the displacement is 0.
    """
    total, fields = torch.zeros(grid.shape), [torch.zeros(3, *grid.shape) for _ in motions]
    for vertebra, distance in distances.items():
        weight = distance.sub(_NEAR_MM).clamp_(min=0).add_(_MIN_DISTANCE_MM).pow_(-exponent)
        weight.mul_(1.0 if shares is None else shares[vertebra])
        total += weight
        for field, to_moving in zip(fields, motions, strict=True):
            steps = (torch.from_numpy(s.T.astype(np.float32)) for s in along_axes(to_moving[vertebra], grid))
            for component, z, y, x in zip(field, *steps, strict=True):
                component.addcmul_(weight, z[:, None, None] + (y[:, None] + x))
    total.clamp_(min=1e-12)
    return [field.div_(total).numpy() for field in fields]


def grid_points(grid: Grid, box: Sequence[slice] | None = None) -> np.ndarray:
    """The LPS positions of the voxels in a box (None: of all): float32 (3, z, y, x), mm."""
    z, y, x = along_axes((2 * np.eye(3), np.zeros(3)), grid)
    if box is not None:
        z, y, x = (steps[part] for steps, part in zip((z, y, x), box, strict=True))
    z, y, x = (steps.astype(np.float32).T for steps in (z, y, x))
    points: np.ndarray = z[:, :, None, None] + (y[:, None, :, None] + x[:, None, None, :])
    return points


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


def along_axes(motion: Rigid, grid: Grid) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Write the displacement of a rigid motion as a sum of one term per axis.

    Args:
        motion: rotation (3, 3) and translation (3,) in mm, LPS.
        grid: on which it is sampled.

    Returns:
        (n, 3) in mm for each of z, y and x: the displacement at voxel (k, j, i) is z[k] + y[j] + x[i].
    """
    rotation, translation = motion
    steps = (grid.matrix * np.asarray(grid.spacing_mm)).T @ (rotation - np.eye(3)).T
    origin = (rotation - np.eye(3)) @ np.asarray(grid.origin_mm) + translation
    z, y, x = (np.arange(n)[:, None] * step for n, step in zip(grid.shape, steps[::-1], strict=True))
    return z + origin, y, x
