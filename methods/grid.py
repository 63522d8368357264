"""The positions of an image's voxels. `methods.base` exports these names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """The positions of an image's voxels, in ITK's convention (LPS).

    Attributes:
        shape: number of voxels (z, y, x), each at least 1.
        spacing_mm: distance of voxel centres (x, y, z), above 0.
        origin_mm: centre of the first voxel (x, y, z).
        direction: the 3 x 3 matrix of direction cosines, row by row, orthonormal.

    Raises:
        ValueError: a value is outside its range.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY_DIRECTION

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(int(n) != n or n < 1 for n in self.shape):
            raise ValueError(f"shape: expected three positive integers (z, y, x), got {self.shape}")
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"spacing_mm: expected three positive lengths (x, y, z), got {self.spacing_mm}")
        if len(self.origin_mm) != 3 or not np.isfinite(self.origin_mm).all():
            raise ValueError(f"origin_mm: expected three finite coordinates (x, y, z), got {self.origin_mm}")
        matrix = np.asarray(self.direction, dtype=float)
        if matrix.size != 9 or not np.allclose(matrix.reshape(3, 3) @ matrix.reshape(3, 3).T, np.eye(3), atol=1e-3):
            raise ValueError(f"direction: expected an orthonormal 3 x 3 matrix, row by row, got {self.direction}")

    @property
    def matrix(self) -> np.ndarray:
        """The direction cosines as a (3, 3) float64 array."""
        return np.asarray(self.direction, dtype=float).reshape(3, 3)

    def to_points_mm(self, index_xyz: np.ndarray) -> np.ndarray:
        """Convert continuous voxel indices (..., 3), order x, y, z, to LPS millimetres, float64."""
        return (np.asarray(index_xyz) * self.spacing_mm) @ self.matrix.T + self.origin_mm

    def to_indices_xyz(self, points_mm: np.ndarray) -> np.ndarray:
        """Convert LPS millimetres (..., 3) to continuous voxel indices, order x, y, z, float64."""
        return ((np.asarray(points_mm) - self.origin_mm) @ self.matrix) / self.spacing_mm

    def points_mm(self) -> np.ndarray:
        """The LPS position of every voxel centre in millimetres, float64 (z, y, x, 3)."""
        z, y, x = np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij")
        return self.to_points_mm(np.stack([x, y, z], axis=-1))
