"""NIfTI files: the header as the standard defines it, and the stored values.

ITK reads a wrong spacing as 1, takes the spacing from pixdim where the s-form is in force, applies the unit to the
spacing alone, refuses an s-form that is slightly sheared, and reads NaN, infinity and the missing part of a cut file as
0. This module reads NIfTI-1, NIfTI-2 and pairs of .hdr and .img alike. nibabel reads the header; it is imported when a
file is read. Standard: https://nifti.nimh.nih.gov/nifti-1
"""

from __future__ import annotations

import gzip
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import numpy as np

from benchmark.datasets.io.affine import corner_indices, grid_of_affine
from benchmark.errors import BadInput
from methods.base import Grid
from methods.field_files import declared_components

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

SINGLE_SUFFIX, PAIR_SUFFIXES = ".nii", (".hdr", ".img")
HEADER_BYTES = 540  # of NIfTI-2, the longer of the two
CHUNK_BYTES = 1 << 20
LARGEST_DIFFERENCE_MM = 0.1  # between the positions that both forms give a voxel; a q-form is float32 and rounds
MILLIMETRES = {1: 1e3, 2: 1.0, 3: 1e-3}  # of the unit codes metre, millimetre and micrometre; others are millimetres


@dataclass(frozen=True)
class Header:
    """The part of a NIfTI header that is used.

    version: 1 or 2. size: voxels along all dimensions, without trailing dimensions of one voxel after the third.
    spacing: pixdim of the first three dimensions in use, mm. offset, end: bytes at which the voxels begin and end in
    their file. dtype: of a stored number, or None for a type that numpy lacks. slope, inter: a stored number v means
    slope * v + inter; slope 1 and inter 0 where the header has no scaling. intent: code, name and first parameter.
    forms: 4 x 4 matrices from voxel to RAS mm, of the q-form and the s-form where the file uses them.
    """

    version: int
    size: tuple[int, ...]
    spacing: tuple[float, ...]
    offset: int
    end: int
    dtype: np.dtype | None
    slope: float
    inter: float
    intent: tuple[int, str, float]
    forms: tuple[np.ndarray, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z."""
        return (*self.size, 1, 1)[:3]

    @property
    def components(self) -> int:
        """Numbers of a voxel: the fifth dimension of a file without time, else 1."""
        return self.size[4] if len(self.size) == 5 and self.size[3] == 1 else 1

    @property
    def dimensions(self) -> int:
        """Number of dimensions in space and time."""
        return 3 if self.components > 1 else len(self.size)


def is_nifti(path: Path) -> bool:
    """Whether the file name is that of a NIfTI file or of one file of a NIfTI pair."""
    return _uncompressed_name(path).endswith((SINGLE_SUFFIX, *PAIR_SUFFIXES))


def read_header(path: Path) -> Header | None:
    """Read the header of a NIfTI file.

    Args:
        path: the file, or either file of a pair; `is_nifti` must hold.

    Returns:
        The header, or None for a file of another kind, such as ANALYZE.

    Raises:
        BadInput: if the file cannot be unpacked or read.
    """
    with _opened(_partner(path, ".hdr")) as stream:
        return _parsed(stream.read(HEADER_BYTES))


def check_header(path: Path) -> None:
    """Refuse a spacing that is not positive, scaling without a finite intercept, and forms that disagree.

    Raises:
        BadInput: if a spacing is zero, negative or not finite, if scl_inter is not finite where scl_slope is in use,
            or if the two forms put a corner voxel more than 0.1 mm (or a tenth of the smallest spacing, if that is
            less) apart.
    """
    header = read_header(path)
    if header is None:
        return
    if not all(math.isfinite(s) and s > 0 for s in header.spacing):
        found = ", ".join(f"{s:g}" for s in header.spacing)
        raise BadInput(
            f"{path}: expected a usable geometry, found spacing_mm ({found}) in the header, where three positive "
            "lengths belong; export it again"
        )
    if not math.isfinite(header.inter):
        raise BadInput(
            f"{path}: expected finite scaling, found scl_slope {header.slope:g} and scl_inter {header.inter:g}; "
            "set scl_inter, or set scl_slope to 0 for values that need no scaling"
        )
    if len(header.forms) == 2:
        corners = corner_indices(header.shape)
        q, s = (corners @ form[:3, :3].T + form[:3, 3] for form in header.forms)
        apart = np.linalg.norm(q - s, axis=1).max()
        if not apart <= min(LARGEST_DIFFERENCE_MM, 0.1 * min(header.spacing)):
            raise BadInput(
                f"{path}: expected q-form and s-form to agree, found them up to {apart:.3g} mm apart; "
                "keep the one that is right (set the other's code to 0)"
            )


def grid_in_force(path: Path, header: Header) -> Grid:
    """Compute the grid of the voxels.

    The q-form decides where it is in use: its axes are at right angles, and `check_header` has found that an s-form
    beside it agrees. An s-form that is alone decides with its own column lengths, whatever pixdim says. Without both,
    the spacing is pixdim's and the first voxel lies at 0.

    Raises:
        BadInput: if the matrix is singular, not finite, or sheared by more than `grid_of_affine` tolerates.
    """
    form = header.forms[0] if header.forms else np.diag([*header.spacing, 1.0])
    return grid_of_affine(path, np.diag([-1.0, -1.0, 1.0, 1.0]) @ form, header.shape, header.spacing)


def read_values(path: Path, header: Header) -> np.ndarray:
    """Read the values of all voxels, scaled as the header says, and the file to its end, which verifies its checksum.

    Args:
        path: the file, or either file of a pair.
        header: of it; its type must be one of numpy's.

    Returns:
        (z, y, x), or (z, y, x, component) with components along LPS if the header declares RAS displacements. The type
        is the stored one, or float64 where a scaling is in use.

    Raises:
        BadInput: if the voxels are incomplete, damaged or not finite.
    """
    assert header.dtype is not None
    with _opened(_partner(path, ".img")) as stream:
        skipped = len(stream.read(max(header.offset, 0)))
        stored = bytearray()
        while len(stored) < header.end - header.offset and (chunk := stream.read(CHUNK_BYTES)):
            stored += chunk
        while chunk := stream.read(CHUNK_BYTES):
            pass
    if skipped + len(stored) < header.end:
        raise BadInput(
            f"{path}: expected {header.end} bytes of image, found {skipped + len(stored)}: cut short; copy it again"
        )
    numbers = np.frombuffer(stored, header.dtype, (header.end - header.offset) // header.dtype.itemsize)
    if header.dtype.kind == "f" and (count := int((~np.isfinite(numbers)).sum())):
        raise not_finite(path, count, numbers.size)
    values = numbers.astype(header.dtype.newbyteorder("="), copy=False)
    if (header.slope, header.inter) != (1.0, 0.0):
        values = values * header.slope + header.inter
    if header.components == 1:
        return values.reshape(header.shape[::-1])
    vectors = np.moveaxis(values.reshape(header.components, *header.shape[::-1]), 0, -1)
    try:
        declared = declared_components(*header.intent)
    except ValueError as error:
        raise BadInput(f"{path}: expected a displacement field, {error}") from error
    return vectors * np.array([-1, -1, 1], vectors.dtype) if declared else vectors


def not_finite(path: Path, count: int, total: int) -> BadInput:
    """The error for `count` of `total` numbers that are NaN or infinite."""
    return BadInput(
        f"{path}: expected finite numbers, found NaN or infinity in {count} of {total}; "
        "replace them (air is -1000 in a CT, 0 in an MR)"
    )


def _uncompressed_name(path: Path) -> str:
    return path.name.lower().removesuffix(".gz")


def _partner(path: Path, suffix: str) -> Path:
    """The file of a pair that ends in `suffix`, compressed or not; `path` itself for a single file."""
    if not _uncompressed_name(path).endswith(PAIR_SUFFIXES) or _uncompressed_name(path).endswith(suffix):
        return path
    stem = path.name[: len(_uncompressed_name(path)) - len(suffix)]
    compressed = path.name.lower().endswith(".gz")
    names = [f"{stem}{suffix}{end}" for end in (("", ".gz")[compressed], ("", ".gz")[not compressed])]
    return next((f for f in map(path.with_name, names) if f.is_file()), path.with_name(names[0]))


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        with gzip.open(path) if path.name.lower().endswith(".gz") else open(path, "rb") as stream:
            yield cast(BinaryIO, stream)
    except (EOFError, zlib.error, OSError) as error:
        text = " ".join(str(error).split())[:200]
        raise BadInput(
            f"{path}: expected a whole NIfTI file, found one cut short or damaged ({text}); copy it again"
        ) from error


def _parsed(head: bytes) -> Header | None:
    """The header in the first bytes of a file, or None if they are no NIfTI header."""
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header

    for version, kind in ((1, Nifti1Header), (2, Nifti2Header)):
        if kind.may_contain_header(head):
            return _described(version, kind(head[: kind.sizeof_hdr], check=False))
    return None


def _described(version: int, header: Nifti1Header) -> Header:
    from nibabel.spatialimages import HeaderDataError

    dimensions = int(header["dim"][0])
    size = [int(n) for n in header["dim"][1 : 1 + dimensions]]
    while len(size) > 3 and size[-1] == 1:
        size.pop()
    millimetres = MILLIMETRES.get(int(header["xyzt_units"]) & 7, 1.0)
    # Only the dimensions in use count: a 2-D file may hold anything as its third spacing.
    spacing = tuple(float(s) for s in header["pixdim"][1 : 1 + min(dimensions, 3)])
    offset = header.get_data_offset()
    end = offset + math.prod(size) * int(header["bitpix"]) // 8
    try:
        dtype = header.get_data_dtype()
    except HeaderDataError:  # an unknown code
        dtype = None
    forms = tuple(np.diag([millimetres] * 3 + [1.0]) @ form for form in _forms(header, spacing))
    return Header(
        version, tuple(size), tuple(s * millimetres for s in spacing), offset, end, dtype, *_scaling(header),
        _intent(header), forms,
    )  # fmt: skip


def _intent(header: Nifti1Header) -> tuple[int, str, float]:
    """Code, name and first parameter of the intent."""
    name = bytes(header["intent_name"]).split(b"\0")[0].decode("latin-1").strip()
    return int(header["intent_code"]), name, float(header["intent_p1"])


def _scaling(header: Nifti1Header) -> tuple[float, float]:
    """Slope and intercept; a slope of 0, NaN or infinity means that the values are not scaled."""
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    return (slope, inter) if math.isfinite(slope) and slope != 0 else (1.0, 0.0)


def _forms(header: Nifti1Header, spacing: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """The matrices of q-form and s-form if they are in use; none for a spacing that `check_header` refuses."""
    if len(spacing) < 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
        return ()
    forms = [_q_form(header, spacing)] if header["qform_code"] > 0 else []
    matrix, code = header.get_sform(coded=True)
    return (*forms, matrix) if code > 0 else tuple(forms)


def _q_form(header: Nifti1Header, spacing: tuple[float, ...]) -> np.ndarray:
    """The 4 x 4 matrix of the q-form. nibabel's `get_qform` is stricter than ITK near and beyond half a turn."""
    from nibabel.quaternions import quat2mat

    vector = np.array([header[f"quatern_{part}"] for part in "bcd"], dtype=float)
    rotation = quat2mat([math.sqrt(max(0.0, 1 - vector @ vector)), *vector])
    # pixdim[0] is the sense of the third axis; the standard reads 0 as 1.
    scale = np.array(spacing) * (1, 1, -1 if header["pixdim"][0] < 0 else 1)
    form = np.eye(4)
    form[:3, :3] = rotation * scale
    form[:3, 3] = [header[f"qoffset_{axis}"] for axis in "xyz"]
    return form
