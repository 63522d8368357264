"""The grid that a matrix from voxel to position describes, where its axes are at right angles or nearly so."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmark.errors import BadInput
from methods.base import Grid

LARGEST_MOVE_MM = 0.1  # of a voxel, by which the axes may be turned to right angles
ROUNDING = 1e-5  # relative; headers are float32


def corner_indices(shape_xyz: Sequence[int]) -> np.ndarray:
    """Compute the indices x, y, z of the eight corner voxels: int64 (8, 3)."""
    corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)])
    return corners * (np.array(shape_xyz) - 1)


def grid_of_affine(path: Path, affine: np.ndarray, shape_xyz: Sequence[int], nominal_mm: Sequence[float]) -> Grid:
    """Compute the grid of an affine matrix.

    The column lengths are the spacing. A sheared matrix gets the nearest rotation (the orthogonal factor of its polar
    decomposition) about the centre of the volume, if this moves no voxel by more than 0.1 mm.

    Args:
        path: the file, for errors.
        affine: 4 x 4, from voxel indices x, y, z to LPS mm.
        shape_xyz: voxels along x, y, z.
        nominal_mm: spacings x, y, z that replace the column lengths where they differ by float32 rounding alone.

    Raises:
        BadInput: if the matrix is not finite or singular, or sheared by more than this.
    """
    columns = affine[:3, :3]
    if not np.isfinite(affine).all() or np.linalg.matrix_rank(columns) < 3:
        raise BadInput(
            f"{path}: expected a usable geometry, found an affine that is not finite or has parallel axes; export it "
            "again"
        )
    lengths, nominal = np.linalg.norm(columns, axis=0), np.asarray(nominal_mm, dtype=float)
    spacing = np.where(np.abs(lengths - nominal) <= ROUNDING * nominal, nominal, lengths)
    left, _, right = np.linalg.svd(columns / lengths)
    direction = columns / spacing
    if np.abs(direction @ direction.T - np.eye(3)).max() > ROUNDING:
        direction = left @ right
    centre = (np.array(shape_xyz) - 1) / 2
    origin = columns @ centre + affine[:3, 3] - direction @ (spacing * centre)
    if np.allclose(origin, affine[:3, 3], rtol=0, atol=1e-3):
        origin = affine[:3, 3]  # rounding alone
    x, y, z = (int(n) for n in shape_xyz)
    grid = Grid((z, y, x), tuple(spacing.tolist()), tuple(origin.tolist()), tuple(direction.ravel().tolist()))
    _check_shear(path, grid, affine)
    return grid


def _check_shear(path: Path, grid: Grid, affine: np.ndarray) -> None:
    """Refuse a grid that is not where its affine matrix puts the voxels."""
    corners = corner_indices(grid.shape[::-1])
    apart = np.linalg.norm(corners @ affine[:3, :3].T + affine[:3, 3] - grid.to_points_mm(corners), axis=1).max()
    if apart > LARGEST_MOVE_MM:
        unit = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
        cosines = np.abs((unit.T @ unit)[np.triu_indices(3, 1)])
        angle = float(np.degrees(np.arcsin(min(1.0, cosines.max()))))
        raise BadInput(
            f"{path}: expected axes at right angles, found a shear of {angle:.3g} degrees, which moves voxels by "
            f"{apart:.3g} mm ({LARGEST_MOVE_MM:g} mm is tolerated); save the q-form alone, or resample it onto a "
            "right-angled grid"
        )
