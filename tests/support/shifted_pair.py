"""A pair of images with different contrast and a known shift, on any grid."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, shift
from scipy.spatial.transform import Rotation

from methods.base import Grid, Pair, Scan

DIRECTION = tuple(Rotation.from_euler("xyz", (20, -10, 30), degrees=True).as_matrix().ravel().tolist())


def shifted_pair(grid: Grid, voxels_zyx: tuple[float, float, float]) -> Pair:
    """Smooth texture as the moving image, and the same shifted with inverted contrast as the fixed image.

    The fixed voxel p corresponds to the moving voxel p + `voxels_zyx`.
    """
    texture = gaussian_filter(np.random.default_rng(0).random(grid.shape), 3)
    texture = ((texture - texture.min()) / np.ptp(texture)).astype(np.float32)
    fixed = (1 - shift(texture, [-v for v in voxels_zyx], order=3, mode="nearest")).clip(0, 1).astype(np.float32)
    labels = np.zeros(grid.shape, np.uint16)
    labels[grid.shape[0] // 3 : -grid.shape[0] // 3, 12:-12, 8:-8] = 20
    return Pair("token", Scan(fixed, None, grid), Scan(texture, labels, grid))
