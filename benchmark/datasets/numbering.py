"""Vertebra ids that are off by one level in one of two scans of a patient.

Sizes and distances of the same vertebrae agree in both scans. If all ids of one scan are one level off, neighbours are
compared with each other: their sizes, and the distances between them, differ in a pattern along the spine, and where
both scans have one coordinate frame they lie a vertebra's height apart. The thresholds were chosen on validation
phantoms, from windows of 3 to 10 vertebrae with and without a shift.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from benchmark.datasets.preprocessing import centroids_mm
from methods.base import Grid

ORDERED = range(1, 26)  # C1 to L6; T13 (28) has no place in this order
LEAST = 3  # vertebrae that have to be common after the shift
# Standard deviations between two scans of one vertebra: of the logarithms of the cube root of its volume, of its
# extents along x, y and z, and of the distance to the next centroid.
SIZE_SD, EXTENT_SD, DISTANCE_SD = 0.02, (0.055, 0.075, 0.11), 0.03
CLEARLY_BETTER = 8.0  # difference of the summed squared deviations, in standard deviations
GOOD_FIT = 8.0  # squared deviations of a vertebra; a pair that fits worse is not one that can be compared
WITHIN_MM, APART_MM = 12.0, 15.0  # median distances of centroids with and without a shift, in one coordinate frame
NOT_WORSE = -3.0  # as CLEARLY_BETTER, where the positions agree with the shift


@dataclass(frozen=True)
class Measures:
    """Of one vertebra. centre_mm, extent_mm: LPS (3,), mm; size: of log(volume) / 3."""

    centre_mm: np.ndarray
    extent_mm: np.ndarray
    size: float


def numbering_doubt(
    fixed: np.ndarray, fixed_grid: Grid, moving: np.ndarray, moving_grid: Grid, cut: frozenset[int] = frozenset()
) -> str | None:
    """Compare the ids of two label maps of one spine, as they are and shifted by one level.

    Args:
        fixed, moving: VerSe ids, (z, y, x), each on its own grid.
        fixed_grid, moving_grid: of the label maps; their coordinate frames may differ.
        cut: vertebrae that the border of a scan cuts; their sizes are not compared.

    Returns:
        What is doubtful, as the end of a sentence, or None. A shift counts only if it leaves as many common vertebrae.
    """
    a, b = (
        {v: m for v, m in measured(labels, grid).items() if v not in cut}
        for labels, grid in ((fixed, fixed_grid), (moving, moving_grid))
    )
    for shift in (1, -1):
        if _fits_better(a, b, shift):
            raised = "lowered" if shift > 0 else "raised"
            return (
                f"sizes, distances and positions of the vertebrae agree far better if all ids of the moving labels are "
                f"{raised} by 1; check the numbering of both scans"
            )
    return None


def measured(labels: np.ndarray, grid: Grid) -> dict[int, Measures]:
    """Measure each vertebra of a label map.

    Args:
        labels: VerSe ids, (z, y, x).
        grid: of the labels.
    """
    centres = centroids_mm(labels, grid)
    boxes = ndimage.find_objects(labels)
    found = {}
    for v in (v for v in centres if v in ORDERED):
        box = boxes[v - 1]
        index = np.argwhere(labels[box] == v) + [s.start for s in box]
        low, high = np.percentile(grid.to_points_mm(index[:, ::-1]), (1, 99), axis=0)
        volume = len(index) * float(np.prod(grid.spacing_mm))
        found[v] = Measures(centres[v], np.maximum(high - low, 1.0), float(np.log(volume) / 3))
    return found


def _fits_better(fixed: dict[int, Measures], moving: dict[int, Measures], shift: int) -> bool:
    """Whether fixed vertebra v is moving vertebra v + shift rather than v."""
    before, after = ([v for v in fixed if v + k in moving] for k in (0, shift))
    if not before or len(after) < max(LEAST, len(before)):
        return False
    now, then = (_deviation(fixed, moving, k) for k in (0, shift))
    better = (now - then) * min(len(before), len(after))
    apart, near = (_apart_mm(fixed, moving, k) for k in (0, shift))
    if near < WITHIN_MM and apart > max(APART_MM, 2 * near):
        return better > NOT_WORSE
    return better > CLEARLY_BETTER and then < GOOD_FIT


def _deviation(fixed: dict[int, Measures], moving: dict[int, Measures], shift: int) -> float:
    """The squared deviations of all measures, in standard deviations, per vertebra.

    Annotators draw labels larger or smaller throughout, so that the mean of sizes and extents does not count.
    """
    common = [v for v in fixed if v + shift in moving]
    pairs = [(fixed[v], moving[v + shift]) for v in common]
    size = np.array([b.size - a.size for a, b in pairs]) / SIZE_SD
    extent = np.array([np.log(b.extent_mm / a.extent_mm) for a, b in pairs]) / EXTENT_SD
    total = float((np.square(size - size.mean())).sum() + np.square(extent - extent.mean(axis=0)).sum())
    for v in common:
        if v + 1 in common:
            steps = [
                float(np.linalg.norm(m[w + 1].centre_mm - m[w].centre_mm)) for m, w in ((fixed, v), (moving, v + shift))
            ]
            total += (np.log(steps[1] / steps[0]) / DISTANCE_SD) ** 2
    return total / len(common)


def _apart_mm(fixed: dict[int, Measures], moving: dict[int, Measures], shift: int) -> float:
    """The median distance of centroids, mm."""
    pairs = [(fixed[v], moving[v + shift]) for v in fixed if v + shift in moving]
    return float(np.median([np.linalg.norm(b.centre_mm - a.centre_mm) for a, b in pairs]))
