"""Simulated acquisition of CT and MR: thick slices, partial volume, blur, coil bias and noise."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmark.datasets.synthesis.random import PortableRng, linear_weights, smooth_noise
from methods.base import Grid
from methods.geometry import spacing_zyx

# Ranges of the acquired CT: pixel size, slice thickness, standard deviations of the reconstruction kernel and of noise.
PIXEL_MM, SLICE_MM, KERNEL_MM, NOISE_HU = (0.2, 1.5), (0.4, 5.0), (0.3, 0.6), (15.0, 90.0)
AXIAL_SHARE = 0.7  # of CTs; the others have sagittal slices, like many of VerSe


def acquire_ct(hu: np.ndarray, grid: Grid, rng: PortableRng) -> np.ndarray:
    """Simulate a CT scan with drawn pixel size, slice thickness and noise, interpolated back onto `grid`.

    Args:
        hu: true HU, float32 (z, y, x).
        grid: of `hu`; x runs left-right, y front to back, z up.
        rng: draws the parameters and the noise.

    Returns:
        The scan in HU, float32 (z, y, x).
    """
    pixel, thickness, sd = (
        math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in (PIXEL_MM, SLICE_MM, NOISE_HU)
    )
    axis = 0 if rng.chance(AXIAL_SHARE) else 2
    # The width of a pixel and the interpolation between pixels have variances of 1/12 and 1/6 of its square.
    blur = math.hypot(rng.uniform(*KERNEL_MM), pixel / 2)
    spacing = spacing_zyx(grid)
    slices = thick_slices(grid.shape[axis], spacing[axis], thickness)
    blur_voxels = [0 if a == axis else blur / s for a, s in enumerate(spacing)]
    image = _apply_along(slices, gaussian_filter(hu, blur_voxels, truncate=3.0), axis)
    image += _apply_along(np.float32(sd) * _unit_variance(slices), rng.noise(grid.shape), axis)
    return image


def acquire_mr(signal: np.ndarray, grid: Grid, rng: PortableRng, thickness_mm: float) -> np.ndarray:
    """Simulate an MR scan: sagittal slices interpolated back onto `grid`, coil bias and Rician noise.

    Args:
        signal: noise-free signal, float32 (z, y, x), the brightest tissue about 1.
        grid: of `signal`; x runs left-right, y front to back.
        rng: draws the parameters and the noise.
        thickness_mm: of the sagittal slices.

    Returns:
        The scan, float32 (z, y, x), 0 or more, the brightest tissue about 1.
    """
    slices = thick_slices(grid.shape[2], grid.spacing_mm[0], thickness_mm)
    blur_voxels = (0.5 / grid.spacing_mm[2], 0.5 / grid.spacing_mm[1], 0)
    image = _apply_along(slices, gaussian_filter(signal, blur_voxels, truncate=3.0), 2)
    image *= np.exp(0.18 * smooth_noise(rng, grid, 90.0))
    # A spine coil lies behind the patient: the signal decreases towards the front.
    decrease = rng.uniform(0.1, 0.5)
    image *= np.linspace(1 - decrease, 1, grid.shape[1], dtype=np.float32)[:, None]
    # The noise belongs to the acquired slices, so that interpolation correlates it like the image.
    noise = np.float32(rng.uniform(0.015, 0.035)) * _apply_along(_unit_variance(slices), rng.noise((2, *grid.shape)), 3)
    return np.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)


def thick_slices(voxels: int, spacing_mm: float, thickness_mm: float, nearest: bool = False) -> np.ndarray:
    """The matrix that averages one axis into thick slices and interpolates back to its voxels.

    Args:
        voxels: along the axis.
        spacing_mm: of the voxels.
        thickness_mm: of the slices.
        nearest: take the nearest slice instead of interpolating linearly.

    Returns:
        float32 (voxels, voxels); the identity for slices that are not thicker than the voxels.
    """
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


def _unit_variance(slices: np.ndarray) -> np.ndarray:
    """`slices` scaled so that white noise keeps unit variance on average."""
    return slices / np.linalg.norm(slices, axis=1).mean()


def _apply_along(matrix: np.ndarray, image: np.ndarray, axis: int) -> np.ndarray:
    """Apply the matrix along the last axis, or along the first of three axes."""
    return np.tensordot(matrix, image, axes=(1, 0)) if axis == 0 else image @ matrix.T
