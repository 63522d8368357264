"""Which voxels of a stored image the scanner saw, and which hold padding."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

# Scanners write -2000, -3024 or -32768 HU outside the reconstructed circle; air is -1000 HU and noise stays above this.
LOWEST_CT_HU = -1500.0
CT_PADDING_HU, MR_PADDING = -3024.0, 0.0  # written by this project where a simulated scan saw nothing
# A cube of one value and this edge length, in voxels, is padding in an MR. Quantised noise has no such cube.
CONSTANT_CUBE = 5
LEAST_OF_BORDER = 0.02  # share of the border's voxels with the least value below which an MR has no padding


def seen_voxels(image: np.ndarray, modality: str) -> np.ndarray | None:
    """Find the voxels of a stored image that hold a measured value.

    Padding is, in this order:

    - in a CT or CBCT, a value below -1500 HU;
    - a slab of slices of one value at a face of the volume, as tools write it when they enlarge a volume;
    - in an MR, a region of the least value that touches the border and is at least 5 voxels thick, as scanners and
      tools write it after correcting distortion, rotating or masking. A magnitude image has noise in air.

    Args:
        image: (z, y, x), as stored.
        modality: ct, mr or cbct.

    Returns:
        bool (z, y, x), or None where every voxel is seen. An image of one value is all seen; one of padding is not.
    """
    seen = np.ones(image.shape, bool)
    if modality in ("ct", "cbct"):
        seen &= image >= LOWEST_CT_HU
    box = _without_slabs(image, seen)
    if box is not None:
        outside = np.ones(image.shape, bool)
        outside[box] = False
        seen &= ~outside
        if modality == "mr":
            seen[box] &= ~_constant_background(image[box])
    return None if seen.all() else seen


def _without_slabs(image: np.ndarray, seen: np.ndarray) -> tuple[slice, ...] | None:
    """The box without slabs of one value at the faces; None for an image that is nothing else."""
    values = np.where(seen, image, np.nan) if not seen.all() else image
    box = []
    for axis in range(3):
        others = tuple(a for a in range(3) if a != axis)
        with np.errstate(invalid="ignore"):
            low, high = np.fmin.reduce(values, others), np.fmax.reduce(values, others)
        start, stop = 0, len(low)
        while start < stop and _in_slab(low, high, start, 0):
            start += 1
        while stop > start and _in_slab(low, high, stop - 1, len(low) - 1):
            stop -= 1
        if start == stop:
            return None
        box.append(slice(start, stop))
    return tuple(box)


def _in_slab(low: np.ndarray, high: np.ndarray, k: int, face: int) -> bool:
    """Whether slice k has one value, that of the slice at the face, or no seen voxel."""
    return bool(np.isnan(low[k]) or (low[k] == high[k] == low[face]))


def _constant_background(image: np.ndarray) -> np.ndarray:
    """The regions of the least value, thick enough, that touch the border: bool (z, y, x)."""
    least = image == image.min()
    faces = [least.take(end, axis) for axis in range(3) for end in (0, -1)]
    if sum(int(f.sum()) for f in faces) < LEAST_OF_BORDER * sum(f.size for f in faces):
        return np.zeros(image.shape, bool)
    # The volume is mirrored at its border, so that a rim counts from half of the cube on.
    padded = np.pad(least.astype(np.uint8), CONSTANT_CUBE, mode="symmetric")
    thick = ndimage.maximum_filter(ndimage.minimum_filter(padded, CONSTANT_CUBE), 2 * CONSTANT_CUBE + 1)
    regions, _ = ndimage.label(least & (thick[(slice(CONSTANT_CUBE, -CONSTANT_CUBE),) * 3] > 0))
    border = np.unique(np.concatenate([regions.take(end, axis).ravel() for axis in range(3) for end in (0, -1)]))
    return np.isin(regions, border[border > 0])
