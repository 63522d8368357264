"""Tapered rods, from which arches, processes and ribs are built, and grid boxes around points."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from methods.base import Grid

Box = tuple[slice, slice, slice]
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]
Point = tuple[float, float, float]


@dataclass(frozen=True)
class Rod:
    """A tapered rod between two local points; `stretch` (x, y, z) >= 1 makes its section elliptic."""

    start: Point
    end: Point
    radius: tuple[float, float]
    stretch: Point = (1.0, 1.0, 1.0)

    def thinner(self, factor: float) -> Rod:
        """The rod with its radii times `factor`."""
        return Rod(self.start, self.end, (self.radius[0] * factor, self.radius[1] * factor), self.stretch)

    def reach_mm(self) -> float:
        """The largest distance of its surface from the line between its ends, at most."""
        return max(self.radius) * max(self.stretch)


def rod_distance(q: Coordinates, rod: Rod) -> np.ndarray:
    """Approximate signed distance to a rod, mm, negative inside.

    Args:
        q: local x, y and z in mm, each float32 (z, y, x).
        rod: in the same coordinates.
    """
    stretch = np.asarray(rod.stretch)
    start, axis = np.asarray(rod.start) / stretch, (np.asarray(rod.end) - np.asarray(rod.start)) / stretch
    p = [(c / np.float32(s) if s != 1 else c) - np.float32(o) for c, s, o in zip(q, stretch, start, strict=True)]
    a = axis.astype(np.float32)
    along = np.clip((p[0] * a[0] + p[1] * a[1] + p[2] * a[2]) / np.float32(axis @ axis), 0, 1)
    squared = sum(((c - along * k) ** 2 for c, k in zip(p, a, strict=True)), np.float32(0))
    return np.sqrt(squared) - (np.float32(rod.radius[0]) + np.float32(rod.radius[1] - rod.radius[0]) * along)


def box_around(points_mm: np.ndarray, grid: Grid, margin_mm: float) -> Box:
    """Slices (z, y, x) of the part of `grid` (identity direction) around LPS points (n, 3); empty if none is inside."""
    points = np.asarray(points_mm)
    low = np.floor(grid.to_indices_xyz(points.min(0) - margin_mm)).astype(int)[::-1]
    high = np.ceil(grid.to_indices_xyz(points.max(0) + margin_mm)).astype(int)[::-1] + 1
    start = np.clip(low, 0, grid.shape)
    stop = np.maximum(start, np.clip(high, 0, grid.shape))
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def smooth_max(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """The maximum of both, rounded where they differ by less than `width_mm`."""
    near = np.clip(np.float32(width_mm) - np.abs(a - b), 0, None)
    return np.maximum(a, b) + near * near * np.float32(0.25 / width_mm)
