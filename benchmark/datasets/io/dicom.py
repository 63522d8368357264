"""A DICOM series: a folder of slices that replaces one image file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import BadInput

if TYPE_CHECKING:
    import SimpleITK as sitk

POSITION, ORIENTATION = "0020|0032", "0020|0037"
MAX_DEVIATION = 0.1  # of the distance between slices; scanners round positions to about 1e-3 mm


def series_reader(folder: Path) -> sitk.ImageSeriesReader:
    """Make a reader of the series in a folder, with the slices in the order of their positions.

    Raises:
        BadInput: if the folder holds no series or several, or if slices are missing, doubled or unevenly spaced.
    """
    import SimpleITK as sitk

    series = sitk.ImageSeriesReader.GetGDCMSeriesIDs(str(folder))
    if not series:
        raise BadInput(
            f"{folder}: expected an image file, found a folder without DICOM slices; give the file, or the folder "
            "that holds the slices themselves"
        )
    if len(series) > 1:
        raise BadInput(
            f"{folder}: expected the slices of one DICOM series, found {len(series)} series; give each its own folder"
        )
    files = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(folder), series[0])
    _check_gaps(folder, files)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(files)
    return reader


def _check_gaps(folder: Path, files: tuple[str, ...]) -> None:
    """Refuse uneven gaps: ITK only warns and uses the mean distance, so a missing slice would shift the others."""
    positions = [_position_mm(folder, file) for file in files]
    if len(positions) < 3 or any(p is None for p in positions):
        return
    steps = np.abs(np.diff(np.array(positions, dtype=float)))
    usual = float(np.median(steps))
    wrong = np.abs(steps - usual) > MAX_DEVIATION * usual
    if usual == 0 or wrong.any():
        worst = float(steps[np.argmax(np.abs(steps - usual))])
        raise BadInput(
            f"{folder}: expected evenly spaced slices, found {worst:.4g} mm between two of them and {usual:.4g} mm "
            "elsewhere; export the whole series again"
        )


def _position_mm(folder: Path, file: str) -> float | None:
    """The position of a slice along the normal of the slices; None if the file has no position."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInput(
            f"{folder}: expected DICOM slices that can be read, found {Path(file).name} damaged; export it again"
        ) from error
    if not (reader.HasMetaDataKey(POSITION) and reader.HasMetaDataKey(ORIENTATION)):
        return None
    position, axes = (
        np.array([float(v) for v in reader.GetMetaData(key).split("\\")]) for key in (POSITION, ORIENTATION)
    )
    return float(position @ np.cross(axes[:3], axes[3:]))
