"""A DICOM series of an image in space, with the gantry tilted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

UID = "1.2.826.0.1.3680043.2.1125"


def write_tilted(
    folder: Path, image: Callable[[np.ndarray], np.ndarray], degrees: float,
    origin: tuple[float, float, float] = (-28.0, -26.0, 0.0), size: tuple[int, int] = (64, 70), slices: int = 70,
    spacing: tuple[float, float] = (0.9, 0.8), step: float = 1.25,
) -> None:  # fmt: skip
    """Write a series whose slices are turned about x, and whose table moves along z.

    Args:
        folder: new folder.
        image: value at points (..., 3), LPS mm.
        degrees: tilt of the gantry.
        origin: of the first voxel of the first slice, LPS mm.
        size: columns and rows.
        slices: number of slices.
        spacing: of columns and rows, mm.
        step: distance of the table positions, mm.
    """
    folder.mkdir(parents=True)
    axes = Rotation.from_euler("x", -degrees, degrees=True).apply(np.eye(3)[:2])
    y, x = np.mgrid[: size[1], : size[0]]
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(slices):
        position = np.add(origin, (0, 0, step * k))
        points = position + x[..., None] * spacing[0] * axes[0] + y[..., None] * spacing[1] * axes[1]
        layer = sitk.GetImageFromArray(np.rint(image(points)).astype(np.int16))
        layer.SetSpacing(spacing)
        tags = {
            "0020|000e": f"{UID}.1", "0008|0018": f"{UID}.1.{k + 1}", "0020|000d": f"{UID}.9", "0020|0013": str(k + 1),
            "0008|0060": "CT", "0020|0037": "\\".join(f"{v:.6f}" for v in axes.ravel()),
            "0020|0032": "\\".join(f"{v:.6f}" for v in position),
        }  # fmt: skip
        for key, value in tags.items():
            layer.SetMetaData(key, value)
        writer.SetFileName(str(folder / f"{k:03d}.dcm"))
        writer.Execute(layer)
