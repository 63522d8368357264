"""Signs that a displacement field is in another convention than it is read in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from methods.base import Grid, Pair
from methods.geometry import spacing_zyx, to_voxels
from metrics.fields import lands_inside, warp
from metrics.similarity import mind_loss

NEAR_MM = 3.0  # of a labelled voxel: where bone is compared
CLEARLY_BETTER = 0.98  # another reading counts if its distance is below this part of the others'
POSITION_GRADIENT = (0.5, 2.0)  # singular values of the mean gradient of positions; those of a displacement are small
SMALL = 1.0  # in the unit of the field: a field whose values near the labels stay below it may be normalised
NORMALISED_APART = 0.25  # of the half grid, median: positions from -1 to 1 lie nearer than this to their voxels
FLIP = np.array([-1, -1, 1], np.float32)
READINGS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "the reverse field": lambda u: -u,
    "components in the order z, y, x": lambda u: u[..., ::-1],
    "x and y of the other sign (RAS)": lambda u: u * FLIP,
    "the reverse field with x and y of the other sign (RAS)": lambda u: u * -FLIP,
    "the reverse field with components in the order z, y, x": lambda u: -u[..., ::-1],
    "components in the order z, y, x and of the other sign in x and y (RAS)": lambda u: u[..., ::-1] * FLIP,
}
NORMALISED = "values from -1 to 1 over the grid, as torch's grid_sample has them"
Unit = Literal["mm", "voxels"]


def suspicion(displacement_mm: np.ndarray, pair: Pair, unit: Unit = "mm") -> str | None:
    """A warning if another reading of the field aligns the bones clearly better than the field and than no field.

    The measure is the MIND-SSC distance between the warped moving and the fixed image on every second voxel within 3 mm
    of the warped moving labels. Over the whole image it would be least without displacement, where both scans end at
    the same borders.

    Args:
        displacement_mm: float32 (z, y, x, 3), components x, y, z in LPS millimetres.
        pair: the images that the field should align.
        unit: in which the file's values were read.

    Returns:
        The warning, or None.
    """
    near = _near_labels(pair)
    itself, nothing = (distance(u, pair, near) for u in (displacement_mm, np.zeros_like(displacement_mm)))
    others = {name: distance(change(displacement_mm), pair, near) for name, change in READINGS.items()}
    if _is_small(displacement_mm, pair, near, unit):
        scaled = from_normalised(displacement_mm, pair.grid, unit)
        others[NORMALISED] = distance(scaled, pair, near)
        others |= {
            f"{NORMALISED}, and {name}": distance(change(scaled), pair, near) for name, change in READINGS.items()
        }
    best = min(others, key=lambda name: others[name])
    if not others[best] < CLEARLY_BETTER * min(itself, nothing):
        return None
    return (
        f"near the labels the images are more alike with {best} (MIND {others[best]:.4f}) than with this field "
        f"(MIND {itself:.4f}) or none (MIND {nothing:.4f}); check the convention"
    )


def from_normalised(displacement_mm: np.ndarray, grid: Grid, unit: Unit) -> np.ndarray:
    """Convert a field whose values are parts of half the grid, as torch's grid_sample takes them.

    With align_corners the half grid has (size - 1) / 2 voxels, without it size / 2. The mean of both is used: they
    differ by 0.1 mm for a displacement of 10 mm.

    Args:
        displacement_mm: float32 (z, y, x, 3), the field as it was read, LPS mm.
        grid: of the field.
        unit: in which the file's values were read; in millimetres they were taken along LPS, in voxels along the axes.

    Returns:
        float32 (z, y, x, 3), LPS mm.
    """
    half = (np.array(grid.shape[::-1]) - 0.5) / 2
    along_axes = displacement_mm * grid.spacing_mm if unit == "mm" else displacement_mm @ grid.matrix
    return (along_axes * half @ grid.matrix.T).astype(np.float32)


def are_normalised_positions(displacement_mm: np.ndarray, pair: Pair, unit: Unit = "mm") -> bool:
    """Whether the values near the labels are positions from -1 to 1, a sampling grid of torch's grid_sample.

    Args:
        displacement_mm: float32 (z, y, x, 3), the field as it was read, LPS mm.
        pair: whose labels say where the field is looked at.
        unit: in which the file's values were read.
    """
    assert pair.moving.labels is not None  # Pair refuses a moving scan without labels
    index = np.argwhere(pair.moving.labels > 0)
    if len(index) < 4:
        return False
    index = index[:: max(1, len(index) // 20000)]
    values = displacement_mm[tuple(index.T)]
    if unit == "voxels":
        values = values @ pair.grid.matrix / pair.grid.spacing_mm
    expected = 2 * index[:, ::-1] / (np.array(pair.grid.shape[::-1]) - 1.0) - 1
    # A field of small displacements is also near the voxels at the middle of the grid, but does not follow them.
    follows = np.ptp(values, axis=0) > np.ptp(expected, axis=0) / 2
    return bool(follows.all() and np.median(np.abs(values - expected).max(axis=1)) < NORMALISED_APART)


def are_positions(displacement_mm: np.ndarray, pair: Pair) -> bool:
    """Whether the values are positions (a deformation) instead of displacements.

    Near the labels, the mean gradient of positions is a rotation or a reflection, so that its singular values are near
    1; that of a displacement is small, at most 0.35 in two directions for a rotation by 20 degrees.
    """
    assert pair.moving.labels is not None  # Pair refuses a moving scan without labels
    index = np.argwhere(pair.moving.labels > 0)
    if len(index) < 4:
        return False
    index = index[:: max(1, len(index) // 20000)]
    points = pair.grid.to_points_mm(index[:, ::-1])
    centred, values = points - points.mean(axis=0), displacement_mm[tuple(index.T)].astype(float)
    if np.linalg.matrix_rank(centred) < 3:
        return False
    gradient = np.linalg.lstsq(centred, values - values.mean(axis=0), rcond=None)[0]
    sizes = np.linalg.svd(gradient, compute_uv=False)
    return bool(POSITION_GRADIENT[0] < sizes.min() and sizes.max() < POSITION_GRADIENT[1])


def distance(displacement_mm: np.ndarray, pair: Pair, near: torch.Tensor) -> float:
    """Compute the MIND-SSC distance near the warped labels, on every second voxel; infinite where there are none.

    Args:
        displacement_mm: float32 (z, y, x, 3), LPS millimetres.
        pair: the images.
        near: (1, 1, D, H, W), 1 near the moving labels, else 0.
    """
    every_second = (slice(None), slice(None), *(slice(None, None, 2),) * 3)
    # Voxels of the thinned grid are twice as long, so the displacement counts half as many of them.
    displacement = to_voxels(np.ascontiguousarray(displacement_mm), pair.grid)[every_second] / 2
    moving, fixed = (torch.from_numpy(scan.image)[None, None][every_second] for scan in (pair.moving, pair.fixed))
    weights = warp(near[every_second], displacement) * lands_inside(displacement, moving.shape[2:])
    value = float(mind_loss(warp(moving, displacement, padding="border"), fixed, weights)[0])
    return value if np.isfinite(value) else float("inf")


def _is_small(displacement_mm: np.ndarray, pair: Pair, near: torch.Tensor, unit: Unit) -> bool:
    """Whether all values near the labels are below SMALL in the unit of the file, and not all 0."""
    values = np.abs(displacement_mm[near[0, 0].numpy() > 0])
    if unit == "voxels":
        values = values / min(pair.grid.spacing_mm)
    return bool(0 < values.max(initial=0) < SMALL)


def _near_labels(pair: Pair) -> torch.Tensor:
    """(1, 1, D, H, W), 1 within 3 mm of a moving label; everywhere if nothing is labelled."""
    assert pair.moving.labels is not None
    if not pair.moving.labels.any():
        return torch.ones((1, 1, *pair.grid.shape))
    near = distance_transform_edt(pair.moving.labels == 0, spacing_zyx(pair.grid)) <= NEAR_MM
    return torch.from_numpy(near.astype(np.float32))[None, None]
