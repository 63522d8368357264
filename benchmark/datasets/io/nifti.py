"""Checks of NIfTI files that ITK does not make: geometry of the header, length and finite values of the voxels.

ITK reads a wrong spacing as 1, and reads NaN, infinity and the missing part of a cut file as 0. nibabel reads the
header; NIfTI-1, NIfTI-2 and pairs of .hdr and .img are checked alike. nibabel is imported when a file is read.
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

from benchmark.errors import BadInput

if TYPE_CHECKING:
    from nibabel.nifti1 import Nifti1Header

SINGLE_SUFFIX, PAIR_SUFFIXES = ".nii", (".hdr", ".img")
HEADER_BYTES = 540  # of NIfTI-2, the longer of the two
CHUNK_BYTES = 1 << 20
LARGEST_DIFFERENCE_MM = 0.1  # between the positions that both forms give a voxel; a q-form is float32 and rounds


@dataclass(frozen=True)
class Header:
    """The part of a NIfTI header that the checks use.

    version: 1 or 2. shape: voxels along x, y, z. spacing: pixdim of the first three dimensions in use, mm.
    offset, end: bytes at which the voxels begin and end in their file. dtype: of the voxels if it is a float type.
    forms: 4 x 4 matrices from voxel to position, of the q-form and the s-form where the file uses them.
    """

    version: int
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    offset: int
    end: int
    dtype: np.dtype | None
    forms: tuple[np.ndarray, ...]


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
    """Refuse a spacing that is not positive, and q-form and s-form that disagree.

    Raises:
        BadInput: if a spacing is zero, negative or not finite, or if the two forms put a corner voxel more than 0.1 mm
            (or a tenth of the smallest spacing, if that is less) apart.
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
    if len(header.forms) == 2:
        corners = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)]) * (np.array(header.shape) - 1)
        q, s = (corners @ form[:3, :3].T + form[:3, 3] for form in header.forms)
        apart = np.linalg.norm(q - s, axis=1).max()
        if not apart <= min(LARGEST_DIFFERENCE_MM, 0.1 * min(header.spacing)):
            raise BadInput(
                f"{path}: expected q-form and s-form to agree, found them up to {apart:.3g} mm apart; "
                "keep the one that is right (set the other's code to 0)"
            )


def check_voxels(path: Path) -> None:
    """Refuse a file that is cut short or damaged, or that holds NaN or infinity.

    A compressed file of another kind is unpacked to its end, which verifies its checksum.

    Raises:
        BadInput: if the voxels are incomplete, damaged or not finite.
    """
    header = read_header(path)
    length = count = 0
    with _opened(_partner(path, ".img")) as stream:
        if header is not None:
            length = len(stream.read(max(header.offset, 0)))
        while chunk := stream.read(CHUNK_BYTES):
            length += len(chunk)
            if header is not None and header.dtype is not None:
                size = header.dtype.itemsize
                values = np.frombuffer(chunk[: len(chunk) // size * size], header.dtype)
                count += int((~np.isfinite(values)).sum())
    if header is None:
        return
    if length < header.end:
        raise BadInput(f"{path}: expected {header.end} bytes of image, found {length}: cut short; copy it again")
    if count and header.dtype is not None:
        raise not_finite(path, count, (header.end - header.offset) // header.dtype.itemsize)


def check_version(path: Path) -> None:
    """Refuse NIfTI-2; called where ITK could not read the file.

    Raises:
        BadInput: if the file is NIfTI-2.
    """
    header = read_header(path)
    if header is not None and header.version == 2:
        raise BadInput(f"{path}: expected NIfTI-1, found NIfTI-2, which ITK does not read; store it as NIfTI-1")


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
    dimensions = int(header["dim"][0])
    shape = (*(int(n) for n in header["dim"][1 : 1 + dimensions]), 1, 1, 1)[: max(dimensions, 3)]
    # Only the dimensions in use count: a 2-D file may hold anything as its third spacing.
    spacing = tuple(float(s) for s in header["pixdim"][1 : 1 + min(dimensions, 3)])
    offset = header.get_data_offset()
    end = offset + math.prod(shape) * int(header["bitpix"]) // 8
    return Header(version, shape[:3], spacing, offset, end, _float_type(header), _forms(header, spacing))


def _float_type(header: Nifti1Header) -> np.dtype | None:
    from nibabel.spatialimages import HeaderDataError

    try:
        dtype = header.get_data_dtype()
    except HeaderDataError:  # an unknown code, which ITK refuses
        return None
    return dtype if dtype.kind == "f" else None


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
