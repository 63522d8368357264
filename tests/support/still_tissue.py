"""A pair whose bone moves in tissue that does not, as where both scans end at the same borders."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from methods.base import Grid, Pair, Scan

GRID = Grid((36, 40, 44), (1.0, 1.0, 1.0), (-12.0, 30.0, 7.0))
TRUTH = np.array([3.0, -2.0, 4.0], np.float32)


def bone_in_front_of_still_tissue(shift: np.ndarray = TRUTH) -> Pair:
    """Textured bone that lies at p + shift in the moving scan, in tissue that is alike in both."""
    rng = np.random.default_rng(0)
    tissue, texture = (gaussian_filter(rng.standard_normal(GRID.shape), 1.5) for _ in range(2))
    z, y, x = np.indices(GRID.shape)
    bone = (abs(z - 18) < 7) & (abs(y - 20) < 7) & (abs(x - 22) < 8)
    fixed = np.where(bone, 5 * texture + 2, tissue)
    step = tuple(int(v) for v in shift[::-1])
    moved = np.roll(bone, step, (0, 1, 2))
    moving = np.where(moved, np.roll(5 * texture + 2, step, (0, 1, 2)), tissue)
    scans = [((s - s.min()) / np.ptp(s)).astype(np.float32) for s in (fixed, moving)]
    return Pair("anna", Scan(scans[0], None, GRID), Scan(scans[1], np.where(moved, 20, 0).astype(np.uint16), GRID))


PAIR = bone_in_front_of_still_tissue()


def lps_field(vector: np.ndarray = TRUTH) -> np.ndarray:
    """A field that differs from voxel to voxel, (z, y, x, 3)."""
    wave = 0.3 * np.sin(np.indices(GRID.shape).sum(axis=0) / 9)[..., None]
    return (vector + wave).astype(np.float32)
