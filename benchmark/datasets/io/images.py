"""Single image files: reading with checks, and atomic writing.

A file that cannot be used raises `benchmark.errors.BadInput`: one line with its name, what was expected, what was found
and the next step. Headers are checked before voxels are read. SimpleITK is imported by the functions that need it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.datasets.io import dicom, metaimage, nifti
from benchmark.datasets.io.affine import corner_indices
from benchmark.errors import BadInput, reason
from benchmark.execution.resources import memory_gb
from methods.atomic import atomic_write
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

if TYPE_CHECKING:
    import SimpleITK as sitk

# NIfTI headers are float32: the grids of a long scan stored by two tools differ by about 1e-3 mm, those of two scans by
# a large part of a voxel.
SAME_GRID_TOLERANCE_MM = 0.1
LARGEST_LABEL = 65535
LABEL_ROUNDING = 0.001  # of a scaled label: a program that scales 65535 values to 0..25 is off by half of 25 / 65535
SPACING_LIMITS_MM = (0.01, 100.0)  # other spacings come from another unit or a damaged header
BYTES_PER_VOXEL = 16  # in memory, besides the stored value: float32 and the copies that resampling makes


def read_image(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a 3-D image from a file or a folder of DICOM slices.

    Returns:
        Intensities in the unit of the file (HU for CT), float32 (z, y, x), and their grid.

    Raises:
        BadInput: if the file is missing, damaged, not 3-D, not one number a voxel, not finite, or constant.
    """
    values, grid = _read(path, components=1)
    with np.errstate(over="ignore"):
        image = values.astype(np.float32)
    _check_finite(path, image)
    if image.min() == image.max():
        raise BadInput(
            f"{path}: expected an image, found the one value {image.flat[0]:g} in all {image.size} voxels; "
            "give the scan itself, not an empty volume"
        )
    return image, grid


def read_labels(path: Path, may_be_empty: bool = False) -> tuple[np.ndarray, Grid]:
    """Read a label map; integers may be stored as floats, up to 0.001 from a whole number.

    Args:
        path: the file.
        may_be_empty: whether background alone is no error.

    Returns:
        Labels, uint16 (z, y, x), 0 is background, and their grid.

    Raises:
        BadInput: if the file is missing, damaged, not 3-D or without a label, or if a value is not an integer from 0 to
            65535.
    """
    values, grid = _read(path, components=1)
    if values.dtype.kind == "f":
        _check_finite(path, values)
        fractions = np.abs(values - np.rint(values)) > LABEL_ROUNDING
        if fractions.any():
            raise BadInput(
                f"{path}: expected integer labels, found {_exact(values[fractions].flat[0])} and "
                f"{int(fractions.sum()) - 1} more values with a fraction; give the label map, resampled with nearest "
                "neighbour if at all"
            )
        values = np.rint(values)
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > LARGEST_LABEL:
        raise BadInput(
            f"{path}: expected labels from 0 to {LARGEST_LABEL}, found {lowest if lowest < 0 else highest:g}; "
            "give VerSe ids (C1-C7 = 1-7, T1-T12 = 8-19, L1-L6 = 20-25)"
        )
    if highest == 0 and not may_be_empty:
        raise BadInput(f"{path}: expected at least one label, found background (0) alone; give a segmented label map")
    return values.astype(np.uint16), grid


def read_displacement(path: Path) -> tuple[np.ndarray, Grid]:
    """Read a displacement field stored as an ITK vector image.

    Returns:
        Displacement, float32 (z, y, x, 3), components x, y, z in LPS mm, and its grid.

    Raises:
        BadInput: if the file is missing, damaged, not 3-D, not three numbers a voxel, or not finite.
    """
    values, grid = _read(path, components=3)
    displacement = values.astype(np.float32)
    _check_finite(path, displacement)
    return displacement, grid


def read_grid(path: Path, components: int = 1) -> Grid | None:
    """Read the header of an image file alone.

    Args:
        path: the file, or a folder of DICOM slices.
        components: numbers a voxel that are expected.

    Returns:
        The grid; None for a single DICOM file.

    Raises:
        BadInput: if the file is missing, or its header cannot be used.
    """
    if path.is_dir():
        with quiet_itk():
            return dicom.series_grid(dicom.series_slices(path))
    return _read(path, components, header_alone=True)[1]


def check_same_grid(path: Path, grid: Grid, reference_path: Path, reference: Grid) -> None:
    """Refuse two grids whose voxels lie at different positions.

    The numbers of voxels must be equal. No voxel may lie more than 0.1 mm (or a tenth of the smallest spacing, if that
    is less) from the same voxel of the reference; this covers spacing, origin and direction.

    Args:
        path, grid: the file and its grid.
        reference_path, reference: the file that `path` must match, and its grid.

    Raises:
        BadInput: if the grids differ.
    """
    advice = f"resample it onto {reference_path.name}, or give the files that belong together"
    if grid.shape != reference.shape:
        size, expected = (" x ".join(map(str, g.shape[::-1])) for g in (grid, reference))
        raise BadInput(f"{path}: expected the grid of {reference_path}, {expected} voxels, found {size}; {advice}")
    tolerance = min(SAME_GRID_TOLERANCE_MM, 0.1 * min(reference.spacing_mm))
    apart = np.linalg.norm(corners_mm(grid) - corners_mm(reference), axis=1).max()
    if apart > tolerance:
        part = _first_difference(grid, reference)
        found, expected = (
            "(" + ", ".join(f"{v:.6g}" for v in getattr(g, part.replace(" ", "_"))) + ")" for g in (grid, reference)
        )
        raise BadInput(
            f"{path}: expected the grid of {reference_path}, {part} {expected}, found {found}: voxels lie up to "
            f"{apart:.3g} mm apart ({tolerance:.2g} mm is tolerated); {advice}"
        )


def corners_mm(grid: Grid) -> np.ndarray:
    """Compute the LPS positions of the eight corner voxels: float64 (8, 3), mm."""
    return grid.to_points_mm(corner_indices(grid.shape[::-1]))


def write_image(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write an array (z, y, x) in its own type, atomically.

    Raises:
        BadInput: if the file cannot be written.
    """
    _write(path, to_sitk(array, grid))


def write_labels(path: Path, labels: np.ndarray, grid: Grid) -> None:
    """Write a label map (z, y, x) as `write_image` does, as uint8 if the ids fit, else as uint16."""
    _write(path, to_sitk(labels.astype(np.uint8 if labels.max() < 256 else np.uint16), grid))


def write_displacement(path: Path, displacement_mm: np.ndarray, grid: Grid) -> None:
    """Write a displacement (z, y, x, 3) in LPS mm as `write_image` does, as an ITK vector image of float32.

    SimpleITK, 3D Slicer, ITK-SNAP and ANTs read the file without conversion.
    """
    _write(path, to_sitk(displacement_mm.astype(np.float32), grid))


@contextmanager
def quiet_itk() -> Iterator[None]:
    """Switch off ITK's warnings: those that matter are raised as BadInput, and the user cannot act on the others."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read(path: Path, components: int, header_alone: bool = False) -> tuple[np.ndarray, Grid]:
    """The stored values of an image file or a folder of DICOM slices (none for the header alone), and their grid."""
    import SimpleITK as sitk

    if not path.exists():
        raise BadInput(f"{path}: expected an image file, found nothing; check the name")
    metaimage.check_files(path)
    with quiet_itk():
        try:
            if path.is_dir():
                return _read_series(path)
            if nifti.is_nifti(path) and (header := nifti.read_header(path)) is not None:
                return _read_nifti(path, header, components, header_alone)
            reader = sitk.ImageFileReader()
            reader.SetFileName(str(path))
            reader.ReadImageInformation()
            _check_header(path, reader, components)
            if header_alone:
                geometry = reader.GetSize()[::-1], reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection()
                return np.empty(0), Grid(*geometry)
            return from_sitk(reader.Execute())
        except RuntimeError as error:
            raise BadInput(
                f"{path}: expected a medical image such as .nii.gz, found a file that cannot be read "
                f"({reason(error)}); export or copy it again"
            ) from error


def _read_nifti(path: Path, header: nifti.Header, components: int, header_alone: bool) -> tuple[np.ndarray, Grid]:
    """The values of a NIfTI file and the grid that is in force."""
    nifti.check_header(path)
    if min(header.size, default=0) < 1:
        raise BadInput(f"{path}: expected a 3-D image, found sizes {header.size} in the header; export it again")
    if header.dtype is None:
        raise BadInput(f"{path}: expected numbers, found an unknown type in the header; export it again")
    colours = header.dtype.kind not in "iuf" and header.dtype.kind != "c"
    _check_size(path, header.size[: header.dimensions], 3 if colours else header.components, components)
    if header.dtype.kind == "c":
        raise _complex(path)
    grid = nifti.grid_in_force(path, header)
    _check_spacing(path, grid.shape[::-1], grid.spacing_mm)
    _check_memory(path, math.prod(grid.shape) * components)
    return np.empty(0) if header_alone else nifti.read_values(path, header), grid


def _read_series(folder: Path) -> tuple[np.ndarray, Grid]:
    """The values of a folder of DICOM slices, and their grid."""
    slices = dicom.series_slices(folder)
    _check_memory(folder, math.prod(slices[0].size) * len(slices))
    values, grid = dicom.read_slices(folder, slices)
    _check_spacing(folder, grid.shape[::-1], grid.spacing_mm)
    return values, grid


def _check_header(path: Path, reader: sitk.ImageFileReader, components: int) -> None:
    import SimpleITK as sitk

    size = reader.GetSize()
    _check_size(path, size, reader.GetNumberOfComponents(), components)
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise _complex(path)
    _check_geometry(path, reader)
    _check_memory(path, math.prod(size) * components)


def _check_size(path: Path, size: Sequence[int], found: int, components: int) -> None:
    """Refuse an image that is not 3-D or has another number of components than expected."""
    if len(size) != 3:
        shape = " x ".join(map(str, size))
        raise BadInput(f"{path}: expected a 3-D image, found {len(size)}-D ({shape}); give one volume of it")
    if found != components:
        what = "one number a voxel" if components == 1 else f"a displacement of {components} numbers a voxel"
        raise BadInput(f"{path}: expected {what}, found {found}; give another file")


def _complex(path: Path) -> BadInput:
    return BadInput(f"{path}: expected real numbers, found complex ones; give the magnitude image")


def _check_geometry(path: Path, source: sitk.ImageFileReader | sitk.Image) -> None:
    size, spacing = source.GetSize(), source.GetSpacing()
    try:
        Grid(size[::-1], spacing, source.GetOrigin(), source.GetDirection())
    except ValueError as error:
        raise BadInput(f"{path}: expected a usable geometry, found {reason(error)}; export it again") from error
    _check_spacing(path, size, spacing)


def _check_spacing(path: Path, size: Sequence[int], spacing: Sequence[float]) -> None:
    """Refuse spacings of another unit, and a single slice."""
    lowest, highest = SPACING_LIMITS_MM
    if not all(lowest <= s <= highest for s in spacing):
        found = ", ".join(f"{s:.4g}" for s in spacing)
        raise BadInput(
            f"{path}: expected a usable geometry with spacings from {lowest:g} to {highest:g} mm, found spacing_mm "
            f"({found}); correct its unit"
        )
    if min(size) < 2:
        shape = " x ".join(map(str, size))
        whole = "the folder of its series" if dicom.is_slice(path) else "the whole scan"
        raise BadInput(f"{path}: expected a volume, found a single slice ({shape} voxels); give {whole}")


def _check_memory(path: Path, numbers: int) -> None:
    needed, available = numbers * BYTES_PER_VOXEL / 2**30, memory_gb()
    if available is not None and needed > available:
        raise BadInput(
            f"{path}: expected an image that fits into memory ({available:.0f} GB), found one that needs "
            f"{needed:.0f} GB; crop it to the spine, or store it with larger voxels"
        )


def _check_finite(path: Path, array: np.ndarray) -> None:
    count = int((~np.isfinite(array)).sum())
    if count:
        raise nifti.not_finite(path, count, array.size)


def _exact(value: float) -> str:
    """The number with the digits that show its fraction: `20.9985`, not `21`."""
    text = f"{value:g}"
    return text if float(text) != round(float(text)) else repr(float(value))


def _first_difference(grid: Grid, reference: Grid) -> str:
    """The attribute that the error shows for two grids that differ: spacing, direction or origin."""
    if not np.allclose(grid.spacing_mm, reference.spacing_mm, rtol=1e-3, atol=0):
        return "spacing mm"
    return "origin mm" if np.allclose(grid.direction, reference.direction, atol=1e-3) else "direction"


def _write(path: Path, image: sitk.Image) -> None:
    import SimpleITK as sitk

    def write(temporary: Path) -> None:
        with quiet_itk():
            sitk.WriteImage(image, str(temporary), useCompression=True)

    try:
        path.parent.resolve(strict=True)  # a missing folder is an error and is not created
        atomic_write(path, write, ending="".join(path.suffixes))
    except (RuntimeError, OSError) as error:
        raise BadInput(
            f"{path}: expected a place to write to, found: {reason(error)}; choose another folder"
        ) from error
