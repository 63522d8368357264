"""Facet joints: neighbouring bones that move past each other without smooth tissue in between.

Behind the bodies, the tangential part of the displacement jumps on the surface that is equally near to two neighbours.
The normal part stays continuous, so that the determinant of the Jacobian stays positive on both sides.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from torch import Tensor

from benchmark.datasets.synthesis.blending import (
    Coarse,
    Rigid,
    along_axes,
    bone_distances,
    grid_points,
    refine,
    smooth_step,
)
from methods.base import Grid

# Two bones slide fully where the sum of the distances to both is below the first length, and not above the second.
SLIDING_GAP_MM = (4.0, 8.0)
# Bones slide fully at the second distance behind the centroids of their labels, and not in front of the first.
SLIDING_BEHIND_MM = (2.0, 8.0)
# The slope of the difference of both distances is 2 where the bones lie in opposite directions, as in a facet joint. At
# the second value they slide fully, at the first not at all: at a rim the surface has no tangential plane.
SLIDING_SLOPE = (1.2, 1.8)


@dataclass(frozen=True)
class Facing:
    """Where two neighbouring bones face each other behind their bodies.

    box: of these voxels in the grid (z, y, x). difference: distance to the first less that to the second, mm, in the
    box. strength: of the sliding there, in [0, 1]. normal: unit vectors (3, z, y, x), LPS, away from the first bone.
    close: bool, both bones are near, whether they lie in opposite directions or not.
    """

    box: tuple[slice, ...]
    difference: np.ndarray
    strength: np.ndarray
    normal: np.ndarray
    close: np.ndarray

    def surface(self, grid: Grid) -> np.ndarray:
        """The voxels of the box next to the surface on which the displacement jumps, bool. grid: the fine one."""
        # The difference changes by up to 2 mm per mm; a central difference reaches one voxel.
        return self.close & (np.abs(self.difference) < 2 * np.linalg.norm(grid.spacing_mm))


def facing(a: Tensor, b: Tensor, behind_mm: np.ndarray, coarse: Coarse) -> Facing | None:
    """Find where two bones face each other.

    Args:
        a, b: distances to the bones on the coarse grid, (z, y, x), mm.
        behind_mm: distance behind the centroids of the bones, (z, y, x).
        coarse: the coarse grid.

    Returns:
        The region on the fine grid; None if there is none.
    """
    zone = ((a + b) < SLIDING_GAP_MM[1]).numpy() & (behind_mm > SLIDING_BEHIND_MM[0])
    if not zone.any():
        return None
    part = tuple(
        slice(max(int(hit[0]) - 1, 0), int(hit[-1]) + 2)
        for hit in (np.flatnonzero(zone.any(axis=others)) for others in ((1, 2), (0, 2), (0, 1)))
    )
    box, weights = coarse.fine_box(part)
    first, second, back = (refine(v[None], weights)[0] for v in (a[part].numpy(), b[part].numpy(), behind_mm[part]))
    difference = first - second
    # An axis of one voxel has no slope.
    slopes = [
        np.gradient(difference, s, axis=i) if difference.shape[i] > 1 else np.zeros_like(difference)
        for i, s in enumerate(coarse.fine_spacing_mm)
    ]
    normal = np.tensordot(coarse.grid.matrix.astype(np.float32), np.stack(slopes[::-1]), (1, 0))
    length = np.linalg.norm(normal, axis=0)
    normal /= np.maximum(length, 1e-3)
    close = smooth_step((SLIDING_GAP_MM[1] - first - second) / (SLIDING_GAP_MM[1] - SLIDING_GAP_MM[0]))
    close *= smooth_step((back - SLIDING_BEHIND_MM[0]) / (SLIDING_BEHIND_MM[1] - SLIDING_BEHIND_MM[0]))
    strength = close * smooth_step((length - SLIDING_SLOPE[0]) / (SLIDING_SLOPE[1] - SLIDING_SLOPE[0]))
    return Facing(box, difference, strength, normal, close > 0)


def slide(field: np.ndarray, place: Facing, motions: tuple[Rigid, Rigid], grid: Grid) -> None:
    """Let two bones slide past each other, in place.

    On the side of each bone, the tangential part of the displacement becomes that bone's own, by `strength`.

    Args:
        field: displacement (3, z, y, x), LPS mm.
        place: where the bones face each other.
        motions: rotation and translation (mm) of both bones, fixed -> moving points.
        grid: of the field.
    """
    first = place.difference < 0
    change = np.empty_like(place.normal)
    steps = [[s[part] for s, part in zip(along_axes(m, grid), place.box, strict=True)] for m in motions]
    for c in range(3):
        of_a, of_b = ((z[:, None, None, c] + (y[:, None, c] + x[:, c])).astype(np.float32) for z, y, x in steps)
        change[c] = place.strength * (np.where(first, of_a, of_b) - field[c][place.box])
    change -= place.normal * (place.normal * change).sum(axis=0)
    field[(slice(None), *place.box)] += change


def facing_pairs(
    distances: Mapping[int, Tensor], ids: Sequence[int], coarse: Coarse
) -> Iterator[tuple[tuple[int, int], Facing]]:
    """Find where each two neighbours face each other.

    Args:
        distances: to each vertebra on the coarse grid, mm.
        ids: vertebrae from one end of the spine to the other.
        coarse: labels on the coarse grid.

    Yields:
        The two ids and the region, where there is one.
    """
    y = grid_points(coarse.grid)[1]
    counts = np.bincount(coarse.labels.ravel(), minlength=max(ids, default=0) + 1)
    sums = np.bincount(coarse.labels.ravel(), y.ravel(), minlength=len(counts))
    centroid = {v: sums[v] / counts[v] for v in distances}
    for a, b in pairwise(ids):
        if a in centroid and b in centroid:
            behind_mm = y - np.float32((centroid[a] + centroid[b]) / 2)
            place = facing(distances[a], distances[b], behind_mm, coarse)
            if place is not None:
                yield (a, b), place


def sliding_surfaces(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """Find the voxels next to the surfaces on which neighbouring vertebrae slide, from labels alone.

    Args:
        labels: integer (z, y, x), fixed domain; neighbours have consecutive ids.
        grid: of the labels.

    Returns:
        bool (z, y, x).
    """
    found = np.zeros(grid.shape, bool)
    ids = [int(v) for v in np.unique(labels) if v]
    coarse = Coarse.of(labels, grid)
    for _, place in facing_pairs(bone_distances(coarse.labels, ids, coarse.grid), ids, coarse):
        found[place.box] |= place.surface(grid)
    return found
