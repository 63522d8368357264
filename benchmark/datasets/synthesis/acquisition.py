"""Simulated acquisition of CT and MR: slices, kernel, partial volume, coil bias, correlated noise and artefacts."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from benchmark.datasets.synthesis.random import PortableRng, linear_weights, smooth_noise
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from methods.base import Grid
from methods.geometry import spacing_zyx

# Ranges of the acquired CT: pixel size, slice thickness, standard deviation of the reconstruction kernel.
PIXEL_MM, SLICE_MM, KERNEL_MM = (0.2, 1.5), (0.4, 5.0), (0.3, 0.8)
AXIAL_SHARE = 0.7  # of CTs; the others have sagittal slices, like many of VerSe
# Error of a CT's calibration: standard deviations of the offset at 0 HU and of the relative scale.
OFFSET_HU, SCALE = 5.0, 0.01
STREAK_SHARE, TABLE_SHARE = 0.4, 0.6
# Width of the edge enhancement of a CT's kernel, relative to the width of the noise's grain.
_EDGE_MM = 1.3


def acquire_ct(hu: np.ndarray, grid: Grid, rng: PortableRng, ranges: Ranges = TRAINING) -> np.ndarray:
    """Simulate a CT scan with drawn pixel size, slice thickness, kernel and noise, interpolated back onto `grid`.

    Args:
        hu: true HU, float32 (z, y, x).
        grid: of `hu`; x runs left-right, y front to back, z up.
        rng: draws the parameters and the noise.
        ranges: of what is drawn.

    Returns:
        The scan in HU, float32 (z, y, x).
    """
    pixel, thickness, sd = (
        math.exp(rng.uniform(math.log(low), math.log(high))) for low, high in (PIXEL_MM, SLICE_MM, ranges.ct_noise_hu)
    )
    axis = 0 if rng.chance(AXIAL_SHARE) else 2
    # The width of a pixel and the interpolation between pixels have variances of 1/12 and 1/6 of its square.
    blur = math.hypot(rng.uniform(*KERNEL_MM), pixel / 2)
    sharpening, grain = rng.uniform(*ranges.sharpening), math.hypot(rng.uniform(*ranges.ct_noise_grain_mm), pixel / 2)
    spacing = spacing_zyx(grid)
    slices = thick_slices(grid.shape[axis], spacing[axis], thickness)
    in_plane = [0 if a == axis else 1 / s for a, s in enumerate(spacing)]
    image = with_table(hu, grid, rng)
    image = gaussian_filter(image, [blur * n for n in in_plane], truncate=3.0)
    if sharpening > 0:
        image += np.float32(sharpening) * (
            image - gaussian_filter(image, [_EDGE_MM * n for n in in_plane], truncate=2.0)
        )
    noise = np.float32(sd) * _grain(rng.noise(grid.shape), [grain * n for n in in_plane])
    noise += streaks(grid, rng, ranges)
    image = _apply_along(slices, image, axis) + _apply_along(_unit_variance(slices), noise, axis)
    offset, scale = rng.normal(0, OFFSET_HU), 1 + SCALE * rng.normal()
    return (np.float32(scale) * image + np.float32(offset)).astype(np.float32)


def streaks(grid: Grid, rng: PortableRng, ranges: Ranges = TRAINING) -> np.ndarray:
    """Draw streaks from left to right, as noise has them where shoulders or pelvis absorb most of the beam.

    Args:
        grid: of the result.
        rng: draws whether there are streaks, their strength and where along the spine they are strong.
        ranges: of the amplitude.

    Returns:
        HU, float32, (z, y, x), or (z, y, 1) without streaks.
    """
    present, amplitude = rng.chance(STREAK_SHARE), rng.uniform(*ranges.streaks_hu)
    middle, width, tilt = rng.uniform(-0.6, 0.6), rng.uniform(0.1, 0.6), rng.uniform(-0.15, 0.15)
    nz, ny, nx = grid.shape
    lines = rng.noise((nz, ny + nx))
    if not present:
        return np.zeros((nz, ny, 1), np.float32)
    lines = gaussian_filter1d(lines, 0.8 / grid.spacing_mm[1], axis=1, truncate=3.0) * 1.7
    strength = np.exp(-(((np.linspace(-1, 1, nz) - middle) / width) ** 2)).astype(np.float32)
    # Each streak is straight: a column reads the lines displaced in proportion to its distance from the middle.
    rows = np.arange(ny)[:, None] + nx // 2 + np.rint(tilt * (np.arange(nx) - nx / 2)).astype(int)
    return np.float32(amplitude) * strength[:, None, None] * lines[:, rows]


def with_table(hu: np.ndarray, grid: Grid, rng: PortableRng) -> np.ndarray:
    """Add the shell of a table to the air behind the patient, now and then.

    Args:
        hu: (z, y, x).
        grid: of `hu`; y runs to the back.
        rng: draws the table.

    Returns:
        HU, float32 (z, y, x); `hu` itself without a table.
    """
    present, gap, bend = rng.chance(TABLE_SHARE), rng.uniform(0, 12), rng.uniform(-0.0012, 0.0012)
    shells = [(0.0, rng.uniform(-700, 100), rng.uniform(1, 3)), (rng.uniform(8, 30), rng.uniform(-700, 100), 2.0)]
    middle, (_, _, nx) = hu.shape[0] // 2, hu.shape
    tissue = np.flatnonzero((hu[middle] > -300).any(axis=1))
    if not present or not len(tissue):
        return hu
    y = np.arange(hu.shape[1]) * grid.spacing_mm[1]
    x = (np.arange(nx) - nx / 2) * grid.spacing_mm[0]
    depth = y[:, None] - (y[tissue[-1]] + gap + 3) - bend * x**2
    table = np.full(depth.shape, -1000, np.float32)
    for start, value, width in shells:
        table = np.where((depth > start) & (depth < start + width), np.float32(value), table)
    return np.where((hu < -900) & (table > -1000), table, hu)


def acquire_mr(
    signal: np.ndarray, grid: Grid, rng: PortableRng, thickness_mm: float, ranges: Ranges = TRAINING
) -> np.ndarray:
    """Simulate an MR scan: sagittal slices interpolated back onto `grid`, coil bias and Rician noise.

    Slices have gaps. In the plane a scanner measures a square of spatial frequencies, and edges ring (Gibbs).

    Args:
        signal: noise-free signal, float32 (z, y, x), the brightest tissue about 1.
        grid: of `signal`; x runs left-right, y front to back.
        rng: draws the parameters and the noise.
        thickness_mm: from slice to slice.
        ranges: of what is drawn.

    Returns:
        The scan, float32 (z, y, x), 0 or more, the brightest tissue about 1.
    """
    slices = thick_slices(grid.shape[2], grid.spacing_mm[0], thickness_mm, gap=rng.uniform(*ranges.mr_slice_gap))
    resolution, window = rng.uniform(*ranges.mr_resolution_mm), rng.uniform(0.3, 1.0)
    image = _apply_along(slices, signal, 2)
    in_plane = [band_limit(n, s, resolution, window) for n, s in zip(grid.shape[:2], spacing_zyx(grid), strict=False)]
    image = np.matmul(in_plane[1], _apply_along(in_plane[0], image, 0))
    image *= np.exp(np.float32(rng.uniform(*ranges.mr_bias)) * smooth_noise(rng, grid, 90.0))
    # A spine coil lies behind the patient: the signal decreases towards the front.
    decrease = rng.uniform(0.1, 0.5)
    image *= np.linspace(1 - decrease, 1, grid.shape[1], dtype=np.float32)[:, None]
    # The noise belongs to the acquired slices, so that interpolation correlates it like the image.
    noise = rng.noise((2, *grid.shape))
    noise = np.float32(rng.uniform(*ranges.mr_noise)) * _apply_along(_unit_variance(slices), noise, 3)
    return np.sqrt((image + noise[0]) ** 2 + noise[1] ** 2)


def band_limit(voxels: int, spacing_mm: float, resolution_mm: float, window: float) -> np.ndarray:
    """The matrix that keeps the spatial frequencies along an axis that a scanner measures.

    Args:
        voxels: along the axis.
        spacing_mm: of the voxels.
        resolution_mm: half a period of the highest frequency that is kept.
        window: 0 keeps all frequencies below it alike, and edges ring; 1 attenuates the highest to 0 (Hann).

    Returns:
        float32 (voxels, voxels), rows of sum 1; the border continues by its last voxel.
    """
    reach = math.ceil(8 * resolution_mm / spacing_mm)
    offset = np.arange(-reach, reach + 1) * spacing_mm / resolution_mm
    # The Fourier transform of 1 - window + window * (1 + cos(pi f / f_max)) / 2 on [-f_max, f_max].
    kernel = (1 - window / 2) * np.sinc(offset) + window / 4 * (np.sinc(offset - 1) + np.sinc(offset + 1))
    kernel *= np.cos(np.pi / 2 * np.arange(-reach, reach + 1) / (reach + 1)) ** 2
    matrix = np.zeros((voxels, voxels))
    for step, weight in zip(range(-reach, reach + 1), kernel / kernel.sum(), strict=True):
        matrix[np.arange(voxels), np.clip(np.arange(voxels) + step, 0, voxels - 1)] += weight
    return matrix.astype(np.float32)


def thick_slices(
    voxels: int, spacing_mm: float, thickness_mm: float, nearest: bool = False, gap: float = 0.0
) -> np.ndarray:
    """The matrix that averages one axis into thick slices and interpolates back to its voxels.

    Args:
        voxels: along the axis.
        spacing_mm: of the voxels.
        thickness_mm: from slice to slice.
        nearest: take the nearest slice instead of interpolating linearly.
        gap: share of the thickness that no slice covers.

    Returns:
        float32 (voxels, voxels); the identity for slices that are not thicker than the voxels.
    """
    x = (np.arange(voxels) - (voxels - 1) / 2) * spacing_mm
    centres = np.arange(np.ceil(x[0] / thickness_mm), np.floor(x[-1] / thickness_mm) + 1) * thickness_mm
    if len(centres) < 2 or thickness_mm <= spacing_mm:
        return np.eye(voxels, dtype=np.float32)
    covered_mm = (1 - gap) * thickness_mm
    overlap = np.clip((covered_mm + spacing_mm) / 2 - np.abs(centres[:, None] - x), 0, spacing_mm)
    average = overlap / overlap.sum(1, keepdims=True)
    back = linear_weights(np.clip(x, centres[0], centres[-1]), centres)
    if nearest:
        back = np.eye(len(centres))[back.argmax(axis=1)]
    return (back @ average).astype(np.float32)


def _grain(noise: np.ndarray, sigma_voxels: list[float]) -> np.ndarray:
    """White noise (z, y, x) made to grains of a width, without its lowest frequencies, as filtered backprojection does.

    The spectrum is that of a difference of two Gaussians. The variance becomes 1.
    """
    fine = gaussian_filter(noise, [0.7 * s for s in sigma_voxels], truncate=3.0)
    fine -= gaussian_filter(fine, [2.0 * s for s in sigma_voxels], truncate=2.0)
    return fine / fine.std()


def _unit_variance(slices: np.ndarray) -> np.ndarray:
    """`slices` scaled so that white noise keeps unit variance on average."""
    return slices / np.linalg.norm(slices, axis=1).mean()


def _apply_along(matrix: np.ndarray, image: np.ndarray, axis: int) -> np.ndarray:
    """Apply the matrix along the last axis, or along the first of three axes."""
    return np.tensordot(matrix, image, axes=(1, 0)) if axis == 0 else image @ matrix.T
