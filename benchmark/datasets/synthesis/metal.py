"""Pedicle screws and rods, which a few patients have: bright with streaks in CT, a void in MR."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmark.datasets.synthesis.anatomy import Spine
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.rods import Rod, box_around, rod_distance
from benchmark.datasets.synthesis.vertebra import OUTSIDE_MM, Vertebra, local_coordinates
from methods.base import Grid

METAL_SHARE = 0.04  # of patients
METAL_HU = 3000.0
# Distance from metal up to which an MR has no signal, and over which the signal returns.
VOID_MM, RETURN_MM = 4.0, 4.0


def metal_distance(spine: Spine, grid: Grid, rng: PortableRng, share: float = METAL_SHARE) -> np.ndarray | None:
    """Draw screws in the pedicles of two or three neighbouring vertebrae, or of the only one, and connecting rods.

    Args:
        spine: the vertebrae.
        grid: with identity direction.
        rng: draws whether there are screws, and where.
        share: of patients with screws.

    Returns:
        Approximate distance to the surface of metal, mm, float32 (z, y, x), negative inside, OUTSIDE_MM far from it; or
        None without metal.
    """
    present, count = rng.chance(share), min(rng.choose((2, 3), (1, 1)), len(spine.labelled))
    first = rng.choose(np.arange(len(spine.labelled) - count + 1), np.ones(len(spine.labelled) - count + 1))
    if not present:
        return None
    chosen = [v for v in spine.vertebrae if v.id in spine.labelled[first : first + count]]
    parts = [(v, rod) for v in chosen for rod in _screws(v)]
    parts += [(upper, rod) for upper, lower in pairwise(chosen) for rod in _connections(upper, lower)]
    out = np.full(grid.shape, OUTSIDE_MM, np.float32)
    for v, rod in parts:
        ends = v.to_world(np.array([rod.start, rod.end]))
        box = box_around(ends, grid, rod.reach_mm() + VOID_MM + RETURN_MM)
        out[box] = np.minimum(out[box], rod_distance(local_coordinates(v, grid, box), rod))
    return out


def with_metal_ct(hu: np.ndarray, metal_mm: np.ndarray, grid: Grid, rng: PortableRng) -> np.ndarray:
    """Add metal and its streaks to a CT.

    Args:
        hu: (z, y, x).
        metal_mm: of `metal_distance`.
        grid: of both; x runs left-right.
        rng: draws the streaks.

    Returns:
        HU, float32 (z, y, x).
    """
    share = np.clip(0.5 - metal_mm / np.float32(np.mean(grid.spacing_mm)), 0, 1)
    # Most rays through two screws run from left to right: along them the image is dark, beside them bright.
    rows = gaussian_filter(share.max(axis=2), [0, 1.0 / grid.spacing_mm[1]])
    beside = gaussian_filter(rows, [0, 4.0 / grid.spacing_mm[1]])
    lines = rows * (-300 + 150 * rng.noise(rows.shape)) + 350 * (beside - rows).clip(0)
    return (hu + share * (np.float32(METAL_HU) - hu) + lines[:, :, None] * (1 - share)).astype(np.float32)


def with_metal_mr(signal: np.ndarray, metal_mm: np.ndarray) -> np.ndarray:
    """The signal of an MR without that around metal: float32 (z, y, x)."""
    return signal * np.clip((metal_mm - np.float32(VOID_MM)) / np.float32(RETURN_MM), 0, 1)


def _head(v: Vertebra, side: float) -> tuple[float, float, float]:
    """The head of a screw, behind the pedicle."""
    aside = v.canal_width / 2 + v.pedicle_width / 2
    return side * (aside + 2), v.depth / 2 + 1.1 * v.canal_depth + 4, 0.2 * v.height


def _screws(v: Vertebra) -> list[Rod]:
    inner = 0.45 * (v.canal_width + v.pedicle_width) / 2
    return [Rod(_head(v, s), (s * inner, -0.15 * v.depth, 0.12 * v.height), (2.8, 2.2)) for s in (1.0, -1.0)]


def _connections(upper: Vertebra, lower: Vertebra) -> list[Rod]:
    """Rods between the heads of the screws of two vertebrae, in the coordinates of the upper one."""
    rods = []
    for side in (1.0, -1.0):
        x, y, z = (float(c) for c in (lower.to_world(_head(lower, side)) - upper.centre_mm) @ upper.rotation)
        rods.append(Rod(_head(upper, side), (x, y, z), (2.75, 2.75)))
    return rods
