"""The geometric distortion of an MR by the non-linearity of its gradients.

A gradient coil is linear near the isocentre. Away from it the leading error is of third order, so the image shows a
displaced tissue. The MR of this data set shows at p the tissue of p + g(p), with

    g(p) = size * S s |s|^2,  s = (p - centre) / radius,  |s| limited to 1,

S a symmetric matrix of spectral norm 1, so that g has no rotation and |g| <= size.

Reference:
    Doran et al., A complete distortion correction for MR images: I. Gradient warp correction, Phys. Med. Biol. 50(7),
    2005.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmark.datasets.synthesis.blending import grid_points
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid
from metrics.procrustes import fit_rigid


@dataclass(frozen=True)
class Distortion:
    """A smooth distortion about an isocentre.

    size_mm: at the edge of the field of view. centre_mm: the isocentre (3,), LPS. radius_mm: of the field of view.
    matrix: symmetric (3, 3), spectral norm 1.
    """

    size_mm: float
    centre_mm: np.ndarray
    radius_mm: float
    matrix: np.ndarray

    def at(self, points_mm: np.ndarray) -> np.ndarray:
        """The distortion g at points (N, 3) of the MR, LPS mm: (N, 3), mm."""
        return self._at(points_mm.T).T

    def on(self, grid: Grid) -> np.ndarray:
        """The distortion at every voxel of a grid: float32 (3, z, y, x), mm."""
        return self._at(grid_points(grid))

    def _at(self, points: np.ndarray) -> np.ndarray:
        """The distortion at points (3, ...), in their dtype."""
        centre = self.centre_mm.astype(points.dtype).reshape(3, *[1] * (points.ndim - 1))
        from_centre = (points - centre) / points.dtype.type(self.radius_mm)
        squared = np.square(from_centre).sum(axis=0)
        from_centre *= np.where(squared > 1, 1 / np.sqrt(np.maximum(squared, 1)), squared)
        return np.tensordot((self.size_mm * self.matrix).astype(points.dtype), from_centre, (1, 0))

    def rigid_part(self, points_mm: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Fit the rigid transform that comes closest to p -> p + g(p) at points of one bone.

        Args:
            points_mm: (N, 3), LPS, in the MR.

        Returns:
            Rotation (3, 3) and translation (3,) in mm.
        """
        rotation, translation = fit_rigid(torch.from_numpy(points_mm), torch.from_numpy(points_mm + self.at(points_mm)))
        return rotation.numpy(), translation.numpy()


def draw_distortion(rng: PortableRng, centres_mm: np.ndarray, size_mm: tuple[float, float]) -> Distortion:
    """Draw the distortion of one MR; its field of view reaches 60 mm beyond the vertebrae.

    Args:
        rng: draws every parameter.
        centres_mm: of the vertebrae, (n, 3), LPS; their mean is the isocentre, but for 20 mm along the spine.
        size_mm: least and greatest distortion at the edge of the field of view.

    Returns:
        The distortion.
    """
    centre = centres_mm.mean(axis=0) + np.array([0.0, 0.0, rng.uniform(-20.0, 20.0)])
    radius = float(np.linalg.norm(centres_mm - centre, axis=1).max()) + 60.0
    drawn = rng.normal(size=(3, 3))
    symmetric = np.diag(np.sign(np.diag(drawn))) + 0.15 * (drawn + drawn.T)
    return Distortion(rng.uniform(*size_mm), centre, radius, symmetric / np.linalg.norm(symmetric, 2))
