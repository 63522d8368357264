"""Conversions between the contract's arrays, SimpleITK's images and the voxel tensors of `metrics/`.

One displacement u has two representations:

- in the contract: float32 (z, y, x, 3), components x, y, z in LPS millimetres (ITK's displacement field);
- in `metrics/` and the networks: tensor (B, 3, D, H, W), in voxels, components in axis order (z, y, x).

The functions that need SimpleITK import it themselves, so that training runs without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from methods.base import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk


def to_voxels(displacement_mm: np.ndarray, grid: Grid) -> torch.Tensor:
    """Convert a displacement from LPS millimetres to voxels; the inverse of `to_millimetres`.

    Args:
        displacement_mm: float32 (z, y, x, 3), components x, y, z.
        grid: the grid of the displacement.

    Returns:
        float32 (1, 3, D, H, W), components (z, y, x).

    Raises:
        ValueError: the displacement has another shape than the grid.
    """
    if displacement_mm.shape != (*grid.shape, 3):
        raise ValueError(f"displacement_mm: expected shape {(*grid.shape, 3)}, got {displacement_mm.shape}")
    u_xyz = displacement_mm
    # Multiplication by the identity would take five times as long as the rest of this function.
    if not np.array_equal(grid.matrix, np.eye(3)):
        u_xyz = (u_xyz.reshape(-1, 3) @ grid.matrix.astype(np.float32)).reshape(u_xyz.shape)
    u_zyx = np.empty((3, *grid.shape), np.float32)
    for axis, spacing in enumerate(grid.spacing_mm):
        np.divide(u_xyz[..., axis], np.float32(spacing), out=u_zyx[2 - axis])
    return torch.from_numpy(u_zyx)[None]


def to_millimetres(displacement: torch.Tensor, grid: Grid) -> np.ndarray:
    """Convert a displacement from voxels to LPS millimetres; the inverse of `to_voxels`.

    Args:
        displacement: (1, 3, D, H, W), components (z, y, x), on any device.
        grid: the grid of the displacement.

    Returns:
        float32 (z, y, x, 3), components x, y, z.
    """
    u_zyx = displacement[0].detach().to("cpu", torch.float32).numpy()
    u_xyz = np.empty((*grid.shape, 3), np.float32)
    for axis, spacing in enumerate(grid.spacing_mm):
        np.multiply(u_zyx[2 - axis], np.float32(spacing), out=u_xyz[..., axis])
    if np.array_equal(grid.matrix, np.eye(3)):
        return u_xyz
    return np.ascontiguousarray((u_xyz.reshape(-1, 3) @ grid.matrix.T.astype(np.float32)).reshape(u_xyz.shape))


def spacing_zyx(grid: Grid) -> tuple[float, float, float]:
    """The spacing of a grid in millimetres, in the axis order (z, y, x) of `metrics/`."""
    x, y, z = grid.spacing_mm
    return (z, y, x)


def grid_of(image: sitk.Image) -> Grid:
    """The grid of a 3-D SimpleITK image."""
    x, y, z = image.GetSize()
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    return Grid((z, y, x), tuple(spacing), tuple(origin), tuple(image.GetDirection()))


def to_sitk(array: np.ndarray, grid: Grid) -> sitk.Image:
    """Make a SimpleITK image.

    Args:
        array: (z, y, x) for a scalar image, (z, y, x, 3) for a vector image.
        grid: the image's grid.
    """
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def from_sitk(image: sitk.Image) -> tuple[np.ndarray, Grid]:
    """The array and the grid of a 3-D SimpleITK image: (z, y, x), or (z, y, x, component) for a vector image."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image), grid_of(image)
