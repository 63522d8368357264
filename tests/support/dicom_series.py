"""A DICOM series of an image, one file for each slice."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from methods.base import Grid
from methods.geometry import to_sitk

UID = "1.2.826.0.1.3680043.2.1125"


def write_series(folder: Path, array: np.ndarray, grid: Grid, series: str = "1") -> Path:
    """Write slices along the third axis, as scanners do."""
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.Cast(to_sitk(array, grid), sitk.sitkInt16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    orientation = "\\".join(f"{v:.6f}" for v in grid.matrix.T[:2].ravel())
    for i in range(image.GetDepth()):
        cut = image[:, :, i]
        tags = {
            "0020|000e": f"{UID}.{series}", "0008|0018": f"{UID}.{series}.{i}", "0020|000d": f"{UID}.9",
            "0020|0037": orientation, "0020|0013": str(i), "0008|0060": "CT",
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, i))),
        }  # fmt: skip
        for key, value in tags.items():
            cut.SetMetaData(key, value)
        # The names are in the opposite order of the slices: only positions count.
        writer.SetFileName(str(folder / f"{series}-{99 - i}.dcm"))
        writer.Execute(cut)
    return folder
