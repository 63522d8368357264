"""Single image files: read and checked, or written whole.

A file that cannot be used ends in `benchmark.errors.BadInput`: one line with its name, what was expected, what was
found and what to do. Headers are judged before pixels are read. SimpleITK is imported by the functions that need it.
"""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

if TYPE_CHECKING:
    import SimpleITK as sitk

# NIfTI headers are float32: a long scan stored twice by different tools differs by some 1e-3 mm, a real mismatch by
# a good part of a voxel.
SAME_GRID_TOLERANCE_MM = 0.1
LARGEST_LABEL = 65535
NIFTI_HEADER_BYTES = {348: "<", 1543569408: ">"}  # the first four bytes, read as little-endian, give the byte order
NIFTI_FLOATS = {16: "f4", 64: "f8"}  # datatype codes


def read_image(path: Path) -> tuple[np.ndarray, Grid]:
    """The intensities of a 3-D image, float32 (z, y, x) in the file's own unit (HU for CT), and its grid.

    Raises BadInput for a file that is missing, damaged, not 3-D, not one number a voxel, not finite, or of one value.
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


def read_labels(path: Path) -> tuple[np.ndarray, Grid]:
    """A label map, uint16 (z, y, x) with 0 as background, and its grid. Whole numbers stored as floats are fine.

    Raises BadInput for a file that is missing, damaged, not 3-D, without any label, or with values that are not
    whole numbers from 0 to 65535.
    """
    values, grid = _read(path, components=1)
    if values.dtype.kind == "f":
        _check_finite(path, values)
        fractions = values != np.rint(values)
        if fractions.any():
            raise BadInput(
                f"{path}: expected integer labels, found {values[fractions].flat[0]:g} and {int(fractions.sum()) - 1} "
                "more values with a fraction; give the label map, resampled with nearest neighbour if at all"
            )
    lowest, highest = values.min(), values.max()
    if lowest < 0 or highest > LARGEST_LABEL:
        raise BadInput(
            f"{path}: expected labels from 0 to {LARGEST_LABEL}, found {lowest if lowest < 0 else highest:g}; "
            "give VerSe ids (C1-C7 = 1-7, T1-T12 = 8-19, L1-L6 = 20-25)"
        )
    if highest == 0:
        raise BadInput(f"{path}: expected at least one label, found background (0) alone; give a segmented label map")
    return values.astype(np.uint16), grid


def read_displacement(path: Path) -> tuple[np.ndarray, Grid]:
    """A displacement field stored as an ITK vector image: float32 (z, y, x, 3), x, y, z in LPS millimetres; its grid.

    Raises BadInput for a file that is missing, damaged, not 3-D, not three numbers a voxel, or not finite.
    """
    values, grid = _read(path, components=3)
    displacement = values.astype(np.float32)
    _check_finite(path, displacement)
    return displacement, grid


def check_same_grid(path: Path, grid: Grid, reference_path: Path, reference: Grid) -> None:
    """Raise BadInput unless both files put their voxels in the same places.

    The numbers of voxels must be equal, and no voxel may lie more than 0.1 mm (or a tenth of the smallest spacing,
    where that is less) from the same voxel of the reference. Spacing, origin and direction are judged through that.
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
    """LPS positions of the centres of the eight corner voxels, float64 (8, 3)."""
    ends = [(0, n - 1) for n in reversed(grid.shape)]
    return grid.to_points_mm(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))


def write_image(path: Path, array: np.ndarray, grid: Grid) -> None:
    """Write a (z, y, x) array in its own type. Nothing half-written is left; raises BadInput if it cannot."""
    _write(path, to_sitk(array, grid))


def write_labels(path: Path, labels: np.ndarray, grid: Grid) -> None:
    """Write a (z, y, x) label map, as uint8 where the ids fit, else uint16; otherwise as `write_image`."""
    _write(path, to_sitk(labels.astype(np.uint8 if labels.max() < 256 else np.uint16), grid))


def write_displacement(path: Path, displacement_mm: np.ndarray, grid: Grid) -> None:
    """Write a (z, y, x, 3) displacement in LPS millimetres as ITK's vector image, float32; otherwise as `write_image`.

    SimpleITK, 3D Slicer, ITK-SNAP and ANTs read the file as it is.
    """
    _write(path, to_sitk(displacement_mm.astype(np.float32), grid))


def reason(error: Exception) -> str:
    """What a library's error says, on one line without its own source positions."""
    text = str(error).split("ERROR: ", 1)[-1]
    return " ".join(text.split())[:200] or type(error).__name__


@contextmanager
def quiet_itk() -> Iterator[None]:
    """ITK's warnings off: what matters of them is raised as BadInput, and a user cannot act on the others."""
    import SimpleITK as sitk

    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)


def _read(path: Path, components: int) -> tuple[np.ndarray, Grid]:
    import SimpleITK as sitk

    if not path.is_file():
        found = "a folder" if path.is_dir() else "nothing"
        raise BadInput(f"{path}: expected an image file, found {found}; check the name")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    with quiet_itk():
        try:
            reader.ReadImageInformation()
            _check_header(path, reader, components)
            _check_stored(path)
            return from_sitk(reader.Execute())
        except RuntimeError as error:
            _check_stored(path)  # says more than ITK where the file is a damaged NIfTI
            raise BadInput(
                f"{path}: expected a medical image such as .nii.gz, found a file that cannot be read "
                f"({reason(error)}); export or copy it again"
            ) from error


def _check_header(path: Path, reader: sitk.ImageFileReader, components: int) -> None:
    import SimpleITK as sitk

    size = reader.GetSize()
    if reader.GetDimension() != 3:
        shape = " x ".join(map(str, size))
        raise BadInput(
            f"{path}: expected a 3-D image, found {reader.GetDimension()}-D ({shape}); give one volume of it"
        )
    if reader.GetNumberOfComponents() != components:
        what = "one number a voxel" if components == 1 else f"a displacement of {components} numbers a voxel"
        raise BadInput(f"{path}: expected {what}, found {reader.GetNumberOfComponents()}; give another file")
    if reader.GetPixelID() in (sitk.sitkComplexFloat32, sitk.sitkComplexFloat64):
        raise BadInput(f"{path}: expected real numbers, found complex ones; give the magnitude image")
    try:
        Grid(size[::-1], reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    except ValueError as error:
        raise BadInput(f"{path}: expected a usable geometry, found {reason(error)}; export it again") from error


def _check_stored(path: Path) -> None:
    """Judge the bytes of a NIfTI file: ITK reads what a cut file lacks, NaN and infinity as 0, and says nothing."""
    name = path.name.lower()
    if not name.endswith((".nii", ".nii.gz")):
        return
    length, others = 0, 0
    try:
        with gzip.open(path) if name.endswith(".gz") else open(path, "rb") as stream:
            head = stream.read(352)
            offset, needed, kind = _nifti_layout(head)
            length = len(head) + len(stream.read(max(offset - 352, 0)))
            while chunk := stream.read(1 << 20):  # to the end: there stands the checksum
                length += len(chunk)
                if kind is not None:
                    values = np.frombuffer(chunk[: len(chunk) // kind.itemsize * kind.itemsize], kind)
                    others += int((~np.isfinite(values)).sum())
    except (EOFError, zlib.error, OSError) as error:
        raise BadInput(
            f"{path}: expected a whole NIfTI file, found one cut short or damaged ({reason(error)}); copy it again"
        ) from error
    if length < needed:
        raise BadInput(f"{path}: expected {needed} bytes of image, found {length}: cut short; copy it again")
    if others and kind is not None:
        raise _not_finite(path, others, (needed - offset) // kind.itemsize)


def _nifti_layout(head: bytes) -> tuple[int, int, np.dtype | None]:
    """By its header, where the voxels of a NIfTI-1 file begin, where they end, and their type if it is a float one.

    (0, 0, None) for a header of another kind.
    """
    order = NIFTI_HEADER_BYTES.get(struct.unpack("<I", head[:4])[0]) if len(head) == 352 else None
    if order is None:
        return 0, 0, None
    dimensions = struct.unpack(f"{order}8h", head[40:56])
    code, bits = struct.unpack(f"{order}2h", head[70:74])
    offset = int(struct.unpack(f"{order}f", head[108:112])[0])
    voxels = math.prod(dimensions[1 : 1 + dimensions[0]])
    kind = NIFTI_FLOATS.get(code)
    return offset, offset + voxels * bits // 8, np.dtype(order + kind) if kind else None


def _check_finite(path: Path, array: np.ndarray) -> None:
    others = int((~np.isfinite(array)).sum())
    if others:
        raise _not_finite(path, others, array.size)


def _not_finite(path: Path, others: int, total: int) -> BadInput:
    return BadInput(
        f"{path}: expected finite numbers, found NaN or infinity in {others} of {total}; "
        "replace them (air is -1000 in a CT, 0 in an MR)"
    )


def _first_difference(grid: Grid, reference: Grid) -> str:
    """Which of spacing, direction and origin to show for two grids that differ."""
    if not np.allclose(grid.spacing_mm, reference.spacing_mm, rtol=1e-3, atol=0):
        return "spacing mm"
    return "origin mm" if np.allclose(grid.direction, reference.direction, atol=1e-3) else "direction"


def _write(path: Path, image: sitk.Image) -> None:
    import SimpleITK as sitk

    unfinished = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        with quiet_itk():
            sitk.WriteImage(image, str(unfinished), useCompression=True)
        os.replace(unfinished, path)
    except (RuntimeError, OSError) as error:
        raise BadInput(
            f"{path}: expected a place to write to, found: {reason(error)}; choose another folder"
        ) from error
    finally:
        unfinished.unlink(missing_ok=True)
