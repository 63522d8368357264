"""How tissue moves that is no bone: discs, muscle and skin.

Between bones the displacement is no function of the distances to the bones alone:

- each patient has its own exponent of distance, and each vertebra its own share, so that a disc shears unevenly;
- a disc that is compressed bulges, one that is stretched narrows;
- behind the bodies, neighbouring bones slide (`sliding.py`);
- away from bone, muscle and skin have a smooth displacement of their own, which grows with the distance from bone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from benchmark.datasets.synthesis.blending import Rigid, grid_points, refine, smooth_step
from benchmark.datasets.synthesis.distortion import Distortion
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid
from methods.geometry import spacing_zyx

PERIOD_MM = 30.0
# The own motion is half of its full size at this distance from bone.
OWN_HALF_MM = 20.0
# A disc bulges within this radius; the strain that makes it bulge is limited.
DISC_RADIUS_MM, LARGEST_STRAIN = 22.0, 0.4
# The lattice reaches this far beyond the outermost vertebrae. Values are limited to two standard deviations.
_REACH_MM, _LIMIT = 180.0, 2.0
# Standard deviation of a cubic B-spline in three dimensions with independent nodes of unit variance.
_SPLINE_SD = 0.3316


@dataclass(frozen=True)
class SoftTissue:
    """The motion of one patient's soft tissue.

    exponent: of the distance to bone, in the blend between vertebrae. shares: of each vertebra in it (n). bulges: of
    the disc below each vertebra but the last, as a multiple of that of an incompressible disc (n - 1). centres_mm: of
    the vertebral bodies (n, 3), LPS, moving domain. middle_mm: of the lattice (3,), LPS. nodes_mm: own displacement,
    PERIOD_MM apart (3, k, k, k), components x, y, z. distortion: of the MR. distorted: for each vertebra the rotation
    and translation (mm) of its rigid part.
    """

    exponent: float
    shares: np.ndarray
    bulges: np.ndarray
    centres_mm: np.ndarray
    middle_mm: np.ndarray
    nodes_mm: np.ndarray
    distortion: Distortion | None = None
    distorted: tuple[Rigid, ...] = ()

    def own_mm(self, grid: Grid) -> np.ndarray:
        """The displacement of muscle and skin of their own far from bone: float32 (3, z, y, x), mm.

        grid: to sample it on. The lattice is parallel to it.
        """
        middle = grid.to_indices_xyz(self.middle_mm)[::-1]
        count = self.nodes_mm.shape[1]
        weights = []
        for n, step, centre in zip(grid.shape, spacing_zyx(grid), middle, strict=True):
            at = (np.arange(n) - centre) * step / PERIOD_MM + (count - 1) / 2
            rows = cubic_spline(np.clip(at, 1, count - 2)[:, None] - np.arange(count))
            weights.append(rows.astype(np.float32))
        # Most nodes have no weight on this grid.
        needed = [np.flatnonzero(rows.any(axis=0)) for rows in weights]
        nodes = self.nodes_mm[np.ix_(np.arange(3), *needed)].astype(np.float32)
        return refine(nodes, [rows[:, used] for rows, used in zip(weights, needed, strict=True)])


def away_from_bone(nearest_bone: Tensor) -> np.ndarray:
    """The share of its own motion that tissue has: float32 in [0, 1), 0 at bone. nearest_bone: distance to it, mm."""
    squared = nearest_bone.square()
    share: np.ndarray = (squared / (squared + OWN_HALF_MM**2)).numpy()
    return share


def draw_soft_tissue(
    rng: PortableRng, centres_mm: np.ndarray, own_mm: tuple[float, float], uneven: float
) -> SoftTissue:
    """Draw the motion of one patient's soft tissue.

    Args:
        rng: draws every parameter.
        centres_mm: of the vertebrae, (n, 3), LPS.
        own_mm: least and greatest RMS length of the displacement far from bone.
        uneven: spread of exponent, shares and bulges, at least 0; 0 gives a blend by the inverse cubed distance.

    Returns:
        The motion.
    """
    n = len(centres_mm)
    middle = (centres_mm.min(axis=0) + centres_mm.max(axis=0)) / 2
    half = int(np.ceil((np.ptp(centres_mm, axis=0).max() / 2 + _REACH_MM) / PERIOD_MM))
    size = rng.uniform(*own_mm) / np.sqrt(3) / _SPLINE_SD
    nodes = size * np.clip(rng.normal(size=(3, *[2 * half + 1] * 3)), -_LIMIT, _LIMIT)
    exponent = 3.0 * np.exp(uneven * rng.uniform(-0.7, 0.4))
    shares, bulges = np.exp(uneven * rng.uniform(-1, 1, n)), 1 + uneven * rng.uniform(-0.5, 0.5, n - 1)
    return SoftTissue(float(exponent), shares, bulges, centres_mm, middle, nodes)


def cubic_spline(x: np.ndarray) -> np.ndarray:
    """The cubic B-spline with knots one apart: 2/3 at 0, 0 from 2 on. x and the result have any one shape."""
    x = np.abs(x)
    return np.where(x < 1, 2 / 3 - x**2 + x**3 / 2, np.clip(2 - x, 0, None) ** 3 / 6)


def bulge(
    field: np.ndarray, distances: tuple[Tensor, Tensor], centres_mm: np.ndarray, motions: tuple[Rigid, Rigid],
    factor: float, grid: Grid,
) -> None:  # fmt: skip
    """Add the bulge of one disc, in place.

    A disc that is thinner in the fixed scan by the strain e is wider there by e / 2 in each direction across its axis.

    Args:
        field: displacement (3, z, y, x), LPS mm.
        distances: to the vertebra above and to that below, (z, y, x), mm.
        centres_mm: of the two bodies, (2, 3), LPS, fixed domain.
        motions: rotation and translation (mm) of both, fixed -> moving points.
        factor: multiple of the bulge of an incompressible disc.
        grid: of the field.
    """
    axis = centres_mm[0] - centres_mm[1]
    axis /= np.linalg.norm(axis)
    middle = centres_mm.mean(axis=0)
    gap = distances[0] + distances[1]
    index = np.clip(np.rint(grid.to_indices_xyz(middle)).astype(int)[::-1], 0, np.array(grid.shape) - 1)
    height = max(float(gap[tuple(index)]), 3.0)
    above, below = (rotation @ middle + translation for rotation, translation in motions)
    strain = float(np.clip((above - below) @ axis / height, -LARGEST_STRAIN, LARGEST_STRAIN))
    # A disc is thin: along z the box ends where a slope of 1 to 2 leaves it.
    reach = [int(np.ceil(r * DISC_RADIUS_MM / s)) for r, s in zip((1, 2, 2), spacing_zyx(grid), strict=True)]
    box = tuple(slice(max(i - r, 0), i + r + 1) for i, r in zip(index, reach, strict=True))
    first, second = (d[box].numpy() for d in distances)
    points = grid_points(grid, box)
    from_middle = points - middle.astype(np.float32)[:, None, None, None]
    along = axis.astype(np.float32)
    across = from_middle - along[:, None, None, None] * np.tensordot(along, from_middle, (0, 0))
    inside = smooth_step(2 - np.linalg.norm(across, axis=0) / DISC_RADIUS_MM)
    between = 4 * first * second / np.maximum(first + second, 1e-3) ** 2
    near = smooth_step(2 - (first + second) / (1.5 * height + 3))
    field[(slice(None), *box)] -= factor * strain / 2 * across * (inside * between * near)
