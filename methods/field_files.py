"""Displacement fields in files of other programs: what the header declares, and where the voxels lie."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from methods.base import Grid
from methods.geometry import from_sitk

DISPLACEMENT_INTENT = 1006  # NIFTI_INTENT_DISPVECT: components along RAS
FSL_INTENTS = range(2006, 2020)
NIFTYREG = "NREG_TRANS"
NIFTYREG_DISPLACEMENT = 1  # intent_p1; 0 is a deformation, the others are velocities and control points
SAME_PLACE_MM = 0.1

Declared = Literal["ras", "niftyreg"]


@dataclass(frozen=True)
class StoredField:
    """A field as stored.

    Attributes:
        values: (z, y, x, 3) of a vector image, components along LPS; else an array with axes in order x, y, z.
        grid: of the voxels; None where the file has none.
        vector: whether it is a vector image.
        declared: `ras` or `niftyreg` if the header declares RAS millimetres, which `values` then are no longer.
    """

    values: np.ndarray
    grid: Grid | None
    vector: bool
    declared: Declared | None = None


def read_field(path: Path) -> StoredField:
    """Read a vector image or an array.

    Args:
        path: .npy, .npz, NIfTI or a format that ITK reads.

    Raises:
        ValueError: the file cannot be read, or its header declares something else than a displacement.
    """
    if path.suffix in (".npz", ".npy"):
        return StoredField(_array(path), None, vector=False)
    if path.name.endswith((".nii", ".nii.gz")):
        return _nifti(path)
    import SimpleITK as sitk

    try:
        image = sitk.ReadImage(str(path))
    except RuntimeError as error:
        raise ValueError(f"{path}: expected an image file, found one that cannot be read; export it again") from error
    if image.GetDimension() == 3 and image.GetNumberOfComponentsPerPixel() == 3:
        return StoredField(*from_sitk(image), vector=True)
    return StoredField(sitk.GetArrayFromImage(image).T, None, vector=False)


def declared_components(code: int, name: str, parameter: float) -> Declared | None:
    """What the intent of a NIfTI header says about the components of a field.

    Args:
        code: intent_code.
        name: intent_name.
        parameter: intent_p1.

    Returns:
        `ras` or `niftyreg` for displacements in RAS millimetres, None where the intent says nothing.

    Raises:
        ValueError: it is no displacement; the message is the end of a sentence, with the next step.
    """
    if name == NIFTYREG:
        if parameter == NIFTYREG_DISPLACEMENT:
            return "niftyreg"
        kind = "a deformation (positions)" if parameter == 0 else f"a velocity or a control grid ({parameter:g})"
        raise ValueError(f"found {kind} of NiftyReg, intent_p1 {parameter:g}; convert it with reg_transform -disp")
    if code in FSL_INTENTS:
        raise ValueError(f"found FSL's coordinates, intent_code {code}; convert it to ITK's displacement field")
    return "ras" if code == DISPLACEMENT_INTENT else None


def onto_grid(values: np.ndarray, grid: Grid, expected: Grid, coarse: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Bring an array whose axes are those of `expected` in another order and direction into its order.

    Args:
        values: axes in order x, y, z of `grid`, then any others.
        grid: where the array lies.
        expected: the case's grid.
        coarse: the array has half the resolution, and its voxels need to lie within two voxels of `expected` only.

    Returns:
        The array with axes in order x, y, z of `expected`, and the matrix (3, 3) of 0 and +-1 that takes a vector along
        the array's axes to one along those of `expected`.

    Raises:
        ValueError: the voxels lie elsewhere; the message is the end of a sentence.
    """
    cosines = expected.matrix.T @ grid.matrix
    turn = np.rint(cosines)
    if not (np.allclose(cosines, turn, atol=1e-3) and np.allclose(np.abs(turn).sum(axis=0), 1)):
        raise ValueError("found axes that are turned against it; resample it")
    order = np.abs(turn).argmax(axis=1)
    moved = values.transpose(*order, *range(3, values.ndim))
    flipped = [axis for axis in range(3) if turn[axis, order[axis]] < 0]
    moved = np.flip(moved, tuple(flipped))
    size = np.array(values.shape[:3])
    corners = np.array(np.meshgrid(*[(0, 1)] * 3)).reshape(3, -1).T
    stored = np.where([a in flipped for a in range(3)], 1 - corners, corners)
    index = np.empty_like(stored)
    index[:, order] = stored
    found = grid.to_points_mm(index * (size - 1))
    apart = np.linalg.norm(found - expected.to_points_mm(corners * (np.array(expected.shape[::-1]) - 1)), axis=1).max()
    if apart > (2 * max(expected.spacing_mm) if coarse else SAME_PLACE_MM):
        raise ValueError(f"found voxels up to {apart:.3g} mm from it; resample it")
    return moved, turn


def is_trivial(grid: Grid) -> bool:
    """Whether a grid is what a file has whose program knew no geometry: 1 mm, origin 0, axes along the patient's."""
    along = np.allclose(np.abs(grid.matrix), np.eye(3))
    return bool(along and np.allclose(grid.spacing_mm, 1) and np.allclose(grid.origin_mm, 0))


def _nifti(path: Path) -> StoredField:
    import nibabel
    from nibabel.filebasedimages import ImageFileError

    try:
        image: Any = nibabel.load(path)
        values = np.asarray(image.dataobj)
        header = image.header
        name = bytes(header["intent_name"]).split(b"\0")[0].decode("latin-1").strip()
        code, parameter = int(header["intent_code"]), float(header["intent_p1"])
    except (ImageFileError, OSError, EOFError, zlib.error, ValueError, KeyError) as error:
        raise ValueError(f"{path}: expected an image file, found one that cannot be read; export it again") from error
    try:
        declared = declared_components(code, name, parameter)
        grid = _grid(image.affine, values.shape)
    except ValueError as error:
        raise ValueError(f"{path}: expected a displacement field, {error}") from error
    if values.ndim == 5 and values.shape[3:] == (1, 3):
        vectors = values[:, :, :, 0].transpose(2, 1, 0, 3)
        if declared:
            vectors = vectors * np.array([-1, -1, 1], np.float32)
        return StoredField(vectors, grid, vector=True, declared=declared)
    if declared:
        raise ValueError(
            f"{path}: expected a vector image as its intent declares, found an array of shape {values.shape}; "
            "set intent_code 0, or export it again"
        )
    geometry = grid if int(header["qform_code"]) > 0 or int(header["sform_code"]) > 0 else None
    return StoredField(values, geometry, vector=False)


def _grid(ras_affine: np.ndarray, shape: tuple[int, ...]) -> Grid:
    """The grid of the first three axes, or of the last three if the components come first."""
    affine = np.diag([-1.0, -1.0, 1.0]) @ ras_affine[:3]
    spacing = np.linalg.norm(affine[:, :3], axis=0)
    if not np.isfinite(affine).all() or (spacing == 0).any():
        raise ValueError("found an affine that is no geometry; export it again")
    first = 1 if len(shape) == 4 and shape[0] == 3 and shape[3] != 3 else 0
    x, y, z = (*shape[first:], 1, 1, 1)[:3]
    direction = (affine[:, :3] / spacing).ravel().tolist()
    return Grid((z, y, x), tuple(spacing.tolist()), tuple(affine[:, 3].tolist()), tuple(direction))


def _array(path: Path) -> np.ndarray:
    """The only array of a .npy or .npz file."""
    try:
        content = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: expected numpy's format, found a file that cannot be read; save it again") from error
    if isinstance(content, np.ndarray):
        return content
    if len(content.files) != 1:
        raise ValueError(f"{path}: expected one array in the file, found {', '.join(content.files) or 'none'}")
    return np.asarray(content[content.files[0]])
