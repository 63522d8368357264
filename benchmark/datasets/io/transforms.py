"""ITK transform files, which SimpleITK, 3D Slicer and elastix load: fixed point -> moving point, LPS mm."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.datasets.io.images import quiet_itk
from benchmark.errors import BadInput, reason
from methods.atomic import atomic_write
from methods.base import Grid
from methods.geometry import to_sitk
from methods.rigid_transform import WHOLE_IMAGE

if TYPE_CHECKING:
    import SimpleITK as sitk


def displacement_transform(displacement_mm: np.ndarray, grid: Grid) -> sitk.DisplacementFieldTransform:
    """Make ITK's transform of a displacement (z, y, x, 3) in LPS mm; outside of `grid` it moves nothing."""
    import SimpleITK as sitk

    return sitk.DisplacementFieldTransform(to_sitk(displacement_mm.astype(np.float64), grid))


def write_displacement_transform(path: Path, displacement_mm: np.ndarray, grid: Grid) -> None:
    """Write a displacement as a displacement field transform, atomically.

    Args:
        path: ends in .h5.
        displacement_mm: (z, y, x, 3), LPS mm.
        grid: of the displacement.

    Raises:
        BadInput: if the file cannot be written.
    """
    _write(path, displacement_transform(displacement_mm, grid))


def write_rigid_transforms(folder: Path, prefix: str, transforms: Mapping[int, np.ndarray]) -> list[Path]:
    """Write rigid transforms as text, one file each, atomically; files of an earlier result are removed.

    Args:
        folder: that exists.
        prefix: of the names: PREFIXrigid.tfm of the whole image, PREFIXvertebra_20.tfm of a vertebra.
        transforms: 4 x 4, fixed -> moving, LPS mm, by VerSe id, or by 0 for the whole image.

    Returns:
        The files.

    Raises:
        BadInput: if a file cannot be written.
    """
    import SimpleITK as sitk

    for old in (folder / f"{prefix}rigid.tfm", *folder.glob(f"{prefix}vertebra_*.tfm")):
        old.unlink(missing_ok=True)
    files = []
    for vertebra, matrix in transforms.items():
        name = "rigid" if vertebra == WHOLE_IMAGE else f"vertebra_{vertebra}"
        files.append(folder / f"{prefix}{name}.tfm")
        rows = np.asarray(matrix, dtype=float)
        # ITK checks a rotation's columns more strictly than float32 allows; every tool reads an affine transform.
        _write(files[-1], sitk.AffineTransform(rows[:3, :3].ravel().tolist(), rows[:3, 3].tolist()))
    return files


def _write(path: Path, transform: sitk.Transform) -> None:
    import SimpleITK as sitk

    def write(temporary: Path) -> None:
        with quiet_itk():
            sitk.WriteTransform(transform, str(temporary))

    try:
        path.parent.resolve(strict=True)  # an absent folder is an error here; it is not made
        atomic_write(path, write, ending=path.suffix)
    except (RuntimeError, OSError) as error:
        raise BadInput(
            f"{path}: expected a place to write to, found: {reason(error)}; choose another folder"
        ) from error
