"""Between the contract's arrays, SimpleITK's images and the voxel tensors of `metrics/`.

Two representations of one displacement u:

- outside: float32 (z, y, x, 3), components x, y, z in LPS millimetres (ITK's displacement field);
- inside `metrics/` and the networks: tensor (B, 3, D, H, W), in voxels, components in axis order (z, y, x).

SimpleITK is imported by the functions that need it, so that training runs without it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from methods.base import Grid

if TYPE_CHECKING:
    import SimpleITK as sitk


def to_voxels(displacement_mm: np.ndarray, grid: Grid) -> torch.Tensor:
    """LPS millimetres (z, y, x, 3) to a float32 tensor (1, 3, D, H, W) in voxels, components (z, y, x).

    Raises ValueError for a displacement on another grid.
    """
    if displacement_mm.shape != (*grid.shape, 3):
        raise ValueError(f"displacement_mm: expected shape {(*grid.shape, 3)}, got {displacement_mm.shape}")
    u_xyz = displacement_mm
    # A product with the identity would take five times as long as all the rest.
    if not np.array_equal(grid.matrix, np.eye(3)):
        u_xyz = (u_xyz.reshape(-1, 3) @ grid.matrix.astype(np.float32)).reshape(u_xyz.shape)
    u_zyx = np.empty((3, *grid.shape), np.float32)
    for axis, spacing in enumerate(grid.spacing_mm):
        np.divide(u_xyz[..., axis], np.float32(spacing), out=u_zyx[2 - axis])
    return torch.from_numpy(u_zyx)[None]


def to_millimetres(displacement: torch.Tensor, grid: Grid) -> np.ndarray:
    """A tensor (1, 3, D, H, W) in voxels, components (z, y, x), to float32 (z, y, x, 3) in LPS millimetres."""
    u_zyx = displacement[0].detach().to("cpu", torch.float32).numpy()
    scaled = u_zyx[::-1].transpose(1, 2, 3, 0).reshape(-1, 3) * np.asarray(grid.spacing_mm, np.float32)
    return np.ascontiguousarray((scaled @ grid.matrix.T.astype(np.float32)).reshape(*grid.shape, 3))


def spacing_zyx(grid: Grid) -> tuple[float, float, float]:
    """The spacing in axis order (z, y, x), as `metrics/` takes it."""
    x, y, z = grid.spacing_mm
    return (z, y, x)


def grid_of(image: sitk.Image) -> Grid:
    """The grid of a 3-D SimpleITK image."""
    x, y, z = image.GetSize()
    spacing, origin = image.GetSpacing(), image.GetOrigin()
    return Grid((z, y, x), tuple(spacing), tuple(origin), tuple(image.GetDirection()))


def to_sitk(array: np.ndarray, grid: Grid) -> sitk.Image:
    """A (z, y, x) array, or a (z, y, x, 3) displacement as a vector image, on `grid`."""
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing(grid.spacing_mm)
    image.SetOrigin(grid.origin_mm)
    image.SetDirection(grid.direction)
    return image


def from_sitk(image: sitk.Image) -> tuple[np.ndarray, Grid]:
    """The array (z, y, x[, component]) and the grid of a 3-D SimpleITK image."""
    import SimpleITK as sitk

    return sitk.GetArrayFromImage(image), grid_of(image)
