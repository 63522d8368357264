"""Displacement fields in the convention of the Learn2Reg challenge (https://learn2reg.grand-challenge.org).

A field is an array [3, X, Y, Z] or [X, Y, Z, 3] in voxels of the full-resolution grid along the array's axes x, y, z.
It has full or half resolution; a half-resolution array is enlarged by splines of order 2, as in the challenge's
evaluation. The file of a pair is disp_FIXED_MOVING.nii.gz, or .npz in older tasks.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import zoom

from methods.base import Grid
from methods.field_files import StoredField, is_trivial, placed
from methods.geometry import to_millimetres, to_voxels


def field_name(fixed: str, moving: str) -> str:
    """The challenge's file name of a pair without its ending.

    Args:
        fixed, moving: names of the images without their endings. Of NAME_0001_0000 the evaluation uses 0001.
    """
    subject = re.compile(r"_(\d{4})_\d{4}$")
    parts = [found[1] if (found := subject.search(name)) else name for name in (fixed, moving)]
    return f"disp_{parts[0]}_{parts[1]}"


def case_field_name(case: str) -> str:
    """The file name of a case's field without its ending. case: FIXED--MOVING as in `learn2reg`, or any name."""
    fixed, separator, moving = case.partition("--")
    return field_name(fixed, moving) if separator else f"disp_{case}"


def from_learn2reg(field: StoredField, grid: Grid, path: Path) -> np.ndarray:
    """Convert a field of the challenge to LPS millimetres. It is put where its affine says, if it has one.

    Args:
        field: [3, X, Y, Z] or [X, Y, Z, 3], voxels, at full or half resolution.
        grid: of the pair, at full resolution.
        path: of the file, for the error.

    Returns:
        float32 (z, y, x, 3).

    Raises:
        ValueError: the array does not fit the grid.
    """
    values = field.values.transpose(2, 1, 0, 3) if field.vector else field.values
    x, y, z = grid.shape[::-1]
    sizes = {tuple(sorted(size)): size for size in ((x, y, z), (x // 2, y // 2, z // 2))}
    if values.ndim == 4 and values.shape[-1] == 3 and tuple(sorted(values.shape[:3])) in sizes:
        by_voxel = values
    elif values.ndim == 4 and values.shape[0] == 3 and tuple(sorted(values.shape[1:])) in sizes:
        by_voxel = np.moveaxis(values, 0, -1)
    else:
        by_voxel = values[:0]
    coarse = sizes.get(tuple(sorted(by_voxel.shape[:3]))) != (x, y, z)
    if by_voxel.size and field.grid is not None and not is_trivial(field.grid):
        by_voxel, turn = placed(by_voxel, field.grid, grid, path, coarse)
        by_voxel = by_voxel @ turn.T.astype(by_voxel.dtype)
    if by_voxel.shape[:3] not in sizes.values():
        raise ValueError(
            f"{path}: expected [3, X, Y, Z] or [X, Y, Z, 3] with (X, Y, Z) = {(x, y, z)} or "
            f"{(x // 2, y // 2, z // 2)}, found {values.shape}; make it on the case's grid"
        )
    scale = [n / m for n, m in zip((x, y, z), by_voxel.shape[:3], strict=True)]
    by_component = np.moveaxis(by_voxel, -1, 0)
    full = [zoom(u.astype(np.float32), scale, order=2) if max(scale) > 1 else u for u in by_component]
    in_voxels = np.stack([u.T for u in reversed(full)]).astype(np.float32)
    return to_millimetres(torch.from_numpy(in_voxels)[None], grid)


def to_learn2reg(displacement_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """Convert a displacement to a field of the challenge at full resolution; the inverse of `from_learn2reg`.

    Args:
        displacement_mm: float32 (z, y, x, 3), LPS mm.
        grid: of the displacement.

    Returns:
        float32 [X, Y, Z, 3], voxels.
    """
    u_zyx = to_voxels(displacement_mm, grid)[0].numpy()
    return np.ascontiguousarray(u_zyx[::-1].transpose(3, 2, 1, 0))


def write_learn2reg(path: Path, displacement_mm: np.ndarray, grid: Grid) -> None:
    """Write a displacement as a field of the challenge.

    Args:
        path: .nii.gz holds [X, Y, Z, 3] and the grid, .npz holds [3, X, Y, Z].
        displacement_mm: float32 (z, y, x, 3), LPS mm.
        grid: of the displacement.
    """
    values = to_learn2reg(displacement_mm, grid)
    if path.suffix == ".npz":
        np.savez_compressed(path, np.moveaxis(values, -1, 0))
        return
    import nibabel

    affine = np.eye(4)
    affine[:3, :3], affine[:3, 3] = grid.matrix * grid.spacing_mm, grid.origin_mm
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine), path)  # NIfTI is RAS
