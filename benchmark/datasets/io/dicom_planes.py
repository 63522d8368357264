"""Parallel slices that are no right-angled box, resampled onto one: gantry tilt, table motion, unequal distances."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from methods.base import Grid

WHOLE = 1e-4  # of a voxel: shifts nearer than this to a whole number are whole


@dataclass(frozen=True)
class Planes:
    """Parallel slices of one size and pixel spacing.

    positions_mm: LPS mm of the first voxel of each slice, (n, 3), ascending along the normal.
    directions: LPS unit vectors of x, y and the normal, as rows (3, 3). spacing_mm, size: of x and y.
    """

    positions_mm: np.ndarray
    directions: np.ndarray
    spacing_mm: tuple[float, float]
    size: tuple[int, int]

    @property
    def shifts_mm(self) -> np.ndarray:
        """Positions relative to the first slice along x, y and the normal: (n, 3)."""
        return (self.positions_mm - self.positions_mm[0]) @ self.directions.T

    def distance_from_mm(self, grid: Grid) -> float:
        """The largest distance between the first voxel of a slice and where `grid` puts it."""
        index = np.zeros((len(self.positions_mm), 3))
        index[:, 2] = np.arange(len(index))
        return float(np.linalg.norm(grid.to_points_mm(index) - self.positions_mm, axis=1).max())

    def described(self) -> str:
        """What makes the slices no box, for a message."""
        shifts = self.shifts_mm
        steps = np.diff(shifts, axis=0)
        in_plane = np.linalg.norm(steps[:, :2], axis=1)
        found = []
        if in_plane.max() > 2 * np.median(in_plane) + 0.1:
            found.append(f"slices that are displaced in plane by up to {in_plane.max():.3g} mm")
        elif in_plane.max() > 0.01:
            tilt = np.degrees(np.arctan2(np.linalg.norm(shifts[-1, :2]), shifts[-1, 2]))
            found.append(f"a gantry tilt of {tilt:.3g} degrees")
        if np.ptp(steps[:, 2]) > 0.01:
            found.append(f"slice distances from {steps[:, 2].min():.3g} to {steps[:, 2].max():.3g} mm")
        return " and ".join(found) or "slices off their planes"


def series_of_planes(
    positions_mm: np.ndarray, axes: np.ndarray, spacing_mm: tuple[float, float], size: Sequence[int]
) -> Planes:
    """Make `Planes`; axes: directions of x and y, (2, 3), which are made exactly orthonormal."""
    x = axes[0] / np.linalg.norm(axes[0])
    y = axes[1] - (axes[1] @ x) * x
    y /= np.linalg.norm(y)
    return Planes(positions_mm, np.stack([x, y, np.cross(x, y)]), spacing_mm, (int(size[0]), int(size[1])))


def box_grid(planes: Planes) -> Grid:
    """Compute the smallest right-angled grid that covers all slices.

    Its third axis is the normal. Its slices lie at equal distances from the first to the last slice; they are the
    stored slices if their distances are equal. In plane it has the pixel spacing, and voxels of the first slice.
    """
    shifts = planes.shifts_mm
    in_plane = shifts[:, :2] / planes.spacing_mm
    low, high = np.floor(in_plane.min(axis=0) + WHOLE), np.ceil(in_plane.max(axis=0) - WHOLE)
    x, y = (int(n) for n in planes.size + high - low)
    n = len(shifts)
    spacing = (*planes.spacing_mm, float(shifts[-1, 2] / (n - 1)))
    origin = planes.positions_mm[0] + (low * planes.spacing_mm) @ planes.directions[:2]
    return Grid((n, y, x), spacing, tuple(origin.tolist()), tuple(planes.directions.T.ravel().tolist()))


def onto_box(values: np.ndarray, planes: Planes, box: Grid) -> np.ndarray:
    """Resample slices linearly onto the grid of `box_grid`.

    Each slice is shifted within its plane; planes between two slices are their weighted mean. A linear function of the
    position is reproduced exactly.

    Args:
        values: (n, y, x), the slices in the order of `planes`.
        planes: where they lie.
        box: the grid.

    Returns:
        float32 (n, y, x) on `box`; voxels that no slice covers have the lowest value of the series.
    """
    heights = planes.shifts_mm[:, 2]
    heights_of_box = np.linspace(heights[0], heights[-1], len(heights))
    after = np.clip(np.searchsorted(heights, heights_of_box), 1, len(heights) - 1)
    weights = (heights_of_box - heights[after - 1]) / (heights[after] - heights[after - 1])
    lowest = np.float32(values.min())
    result = np.empty(box.shape, np.float32)
    for k, (upper, weight) in enumerate(zip(after, weights, strict=True)):
        parts = [(upper - 1, 1 - weight), (upper, weight)]
        layers = [(_shifted(values[i], i, planes, box), w) for i, w in parts if w > WHOLE]
        plane = sum(layer * np.float32(w / sum(w for _, w in layers)) for layer, w in layers)
        for layer, _ in layers:  # at the border only one of two slices may cover a voxel
            plane = np.where(np.isnan(plane), layer, plane)
        result[k] = np.where(np.isnan(plane), lowest, plane)
    return result


def _shifted(values: np.ndarray, number: int, planes: Planes, box: Grid) -> np.ndarray:
    """One slice in the plane of the box, float32 (y, x), linearly interpolated, NaN outside the slice."""
    start = ((planes.positions_mm[number] - box.origin_mm) @ planes.directions[:2].T / planes.spacing_mm)[::-1]
    whole = np.floor(start + WHOLE).astype(int)
    fractions = np.where(start - whole < WHOLE, 0, start - whole)
    layer = values.astype(np.float32)
    for axis, fraction in enumerate(fractions.astype(np.float32)):
        if fraction > 0:
            before, after = (np.delete(layer, end, axis) for end in (-1, 0))
            layer = fraction * before + (1 - fraction) * after
            whole[axis] += 1
    plane = np.full(box.shape[1:], np.nan, np.float32)
    plane[whole[0] : whole[0] + layer.shape[0], whole[1] : whole[1] + layer.shape[1]] = layer
    return plane
