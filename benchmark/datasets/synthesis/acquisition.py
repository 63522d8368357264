"""What a scanner makes of tissue: slices, partial volume, blur, coil bias and noise, of CT and of MR."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmark.datasets.synthesis.random import PortableRng, linear_weights, smooth_noise
from methods.base import Grid
from methods.geometry import spacing_zyx

# Of the CT as acquired: pixels, slices, the reconstruction kernel's standard deviation, and the noise's.
PIXEL_MM, SLICE_MM, KERNEL_MM, NOISE_HU = (0.2, 1.5), (0.4, 5.0), (0.3, 0.6), (15.0, 90.0)
AXIAL_SHARE = 0.7  # of CTs; the others are kept as sagittal slices, as many of VerSe are


def acquire_ct(hu: np.ndarray, grid: Grid, rng: PortableRng) -> np.ndarray:
    """A CT scan with pixels and slices of its own, interpolated back onto `grid`.

    hu: float32 (z, y, x). The axes of the grid are taken as x left-right, y front to back, z up. Returns float32, HU.
    """
    pixel, thickness, sd = (
        math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in (PIXEL_MM, SLICE_MM, NOISE_HU)
    )
    axis = 0 if rng.chance(AXIAL_SHARE) else 2
    # A pixel's own width and the interpolation between pixels have variances of 1/12 and 1/6 of its square.
    blur = math.hypot(rng.uniform(*KERNEL_MM), pixel / 2)
    spacing = spacing_zyx(grid)
    slices = thick_slices(grid.shape[axis], spacing[axis], thickness)
    within = [0 if a == axis else blur / s for a, s in enumerate(spacing)]
    image = _along(slices, gaussian_filter(hu, within, truncate=3.0), axis)
    image += _along(np.float32(sd) * _evened(slices), rng.noise(grid.shape), axis)
    return image


def acquire_mr(signal: np.ndarray, grid: Grid, rng: PortableRng, thickness_mm: float) -> np.ndarray:
    """Sagittal slices interpolated back, coil bias, Rician noise.

    signal: float32 (z, y, x). thickness_mm: of the slices. The x axis of the grid is taken as left-right, y as front to
    back. Returns float32, 0 or more, the brightest tissue about 1.
    """
    slices = thick_slices(grid.shape[2], grid.spacing_mm[0], thickness_mm)
    within = (0.5 / grid.spacing_mm[2], 0.5 / grid.spacing_mm[1], 0)
    image = _along(slices, gaussian_filter(signal, within, truncate=3.0), 2)
    image *= np.exp(0.18 * smooth_noise(rng, grid, 90.0))
    # A spine coil lies behind the patient: signal falls off towards the front.
    fall = rng.uniform(0.1, 0.5)
    image *= np.linspace(1 - fall, 1, grid.shape[1], dtype=np.float32)[:, None]
    # Noise of the slices as acquired, so that it is correlated across them like the rest of the image.
    noise = np.float32(rng.uniform(0.015, 0.035)) * _along(_evened(slices), rng.noise((2, *grid.shape)), 3)
    return np.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)


def thick_slices(voxels: int, spacing_mm: float, thickness_mm: float, nearest: bool = False) -> np.ndarray:
    """The matrix (voxels, voxels) that averages an axis into thick slices and goes back, linearly or to the nearest."""
    x = (np.arange(voxels) - (voxels - 1) / 2) * spacing_mm
    centres = np.arange(np.ceil(x[0] / thickness_mm), np.floor(x[-1] / thickness_mm) + 1) * thickness_mm
    if len(centres) < 2 or thickness_mm <= spacing_mm:
        return np.eye(voxels, dtype=np.float32)
    overlap = np.clip((thickness_mm + spacing_mm) / 2 - np.abs(centres[:, None] - x), 0, spacing_mm)
    average = overlap / overlap.sum(1, keepdims=True)
    back = linear_weights(np.clip(x, centres[0], centres[-1]), centres)
    if nearest:
        back = np.eye(len(centres))[back.argmax(axis=1)]
    return (back @ average).astype(np.float32)


def _evened(slices: np.ndarray) -> np.ndarray:
    """`slices` for noise: of unit variance on average, whatever the thickness."""
    return slices / np.linalg.norm(slices, axis=1).mean()


def _along(matrix: np.ndarray, image: np.ndarray, axis: int) -> np.ndarray:
    """The matrix applied along one axis: the last, or the first of three."""
    return np.tensordot(matrix, image, axes=(1, 0)) if axis == 0 else image @ matrix.T
