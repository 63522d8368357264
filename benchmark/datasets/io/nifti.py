"""What ITK does not say of a NIfTI file: it reads a wrong spacing as 1, and what a cut file lacks, NaN, infinity as 0.

So the bytes themselves are judged: the header before any pixel is read, the voxels before they are used.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
from scipy.spatial.transform import Rotation

from benchmark.errors import BadInput

HEADER_BYTES = {348: "<", 1543569408: ">"}  # the first four bytes, read as little-endian, give the byte order
FLOATS = {16: "f4", 64: "f8"}  # datatype codes
LARGEST_DIFFERENCE_MM = 0.1  # between the positions that both forms give a voxel; a q-form is float32 and rounds


@dataclass(frozen=True)
class Header:
    """A NIfTI-1 header. shape: numbers of voxels (x, y, z, ...). spacing: pixdim 1 to 3.

    offset, end: bytes where the voxels begin and end. kind: their type, if it is a float one.
    forms: by name, the 3 x 4 matrix from voxel to position of each of q-form and s-form that is in force.
    """

    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    offset: int
    end: int
    kind: np.dtype | None
    forms: dict[str, np.ndarray]


def is_nifti(path: Path) -> bool:
    return path.name.lower().endswith((".nii", ".nii.gz"))


def check_header(path: Path) -> None:
    """Raise BadInput for a spacing that no image has, or where q-form and s-form put a voxel in two places."""
    with _opened(path) as stream:
        header = _parsed(stream.read(352))
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
        q, s = (corners @ form[:, :3].T + form[:, 3] for form in header.forms.values())
        apart = np.linalg.norm(q - s, axis=1).max()
        if not apart <= min(LARGEST_DIFFERENCE_MM, 0.1 * min(header.spacing)):
            raise BadInput(
                f"{path}: expected q-form and s-form to agree, found them up to {apart:.3g} mm apart; "
                "keep the one that is right (set the other's code to 0)"
            )


def check_voxels(path: Path) -> None:
    """Raise BadInput for a file that is cut short or damaged, or holds NaN or infinity; nothing for another kind."""
    with _opened(path) as stream:
        head = stream.read(352)
        header = _parsed(head)
        if header is None:
            while stream.read(1 << 20):  # to the end: there stands the checksum
                pass
            return
        length, others = len(head) + len(stream.read(max(header.offset - 352, 0))), 0
        while chunk := stream.read(1 << 20):
            length += len(chunk)
            if header.kind is not None:
                values = np.frombuffer(chunk[: len(chunk) // header.kind.itemsize * header.kind.itemsize], header.kind)
                others += int((~np.isfinite(values)).sum())
    if length < header.end:
        raise BadInput(f"{path}: expected {header.end} bytes of image, found {length}: cut short; copy it again")
    if others and header.kind is not None:
        raise not_finite(path, others, (header.end - header.offset) // header.kind.itemsize)


def not_finite(path: Path, others: int, total: int) -> BadInput:
    """The error for `others` of `total` numbers that are NaN or infinite."""
    return BadInput(
        f"{path}: expected finite numbers, found NaN or infinity in {others} of {total}; "
        "replace them (air is -1000 in a CT, 0 in an MR)"
    )


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
    """The header of a NIfTI-1 file, or None for another kind."""
    order = HEADER_BYTES.get(struct.unpack("<I", head[:4])[0]) if len(head) == 352 else None
    if order is None:
        return None
    dimensions = struct.unpack(f"{order}8h", head[40:56])
    code, bits = struct.unpack(f"{order}2h", head[70:74])
    pixdim = struct.unpack(f"{order}8f", head[76:108])
    offset = int(struct.unpack(f"{order}f", head[108:112])[0])
    shape = (*dimensions[1 : 1 + dimensions[0]], 1, 1, 1)[: max(dimensions[0], 3)]
    kind = np.dtype(order + FLOATS[code]) if code in FLOATS else None
    end = offset + math.prod(shape) * bits // 8
    # Only the dimensions in use count: a 2-D file may hold anything as its third spacing.
    spacing = tuple(s for s in pixdim[1 : 1 + min(dimensions[0], 3)])
    forms = _forms(head, order, pixdim) if dimensions[0] >= 3 else {}
    return Header(shape[:3], spacing, offset, end, kind, forms)


def _forms(head: bytes, order: str, pixdim: tuple[float, ...]) -> dict[str, np.ndarray]:
    q_code, s_code = struct.unpack(f"{order}2h", head[252:256])
    b, c, d, *offset = struct.unpack(f"{order}6f", head[256:280])
    forms = {}
    if q_code > 0:
        a = math.sqrt(max(0.0, 1 - b * b - c * c - d * d))
        rotation = Rotation.from_quat((b, c, d, a)).as_matrix()
        # pixdim[0] is the sense of the third axis; the standard reads 0 as 1.
        scale = np.array(pixdim[1:4]) * (1, 1, -1 if pixdim[0] < 0 else 1)
        forms["q-form"] = np.column_stack([rotation * scale, offset])
    if s_code > 0:
        forms["s-form"] = np.array(struct.unpack(f"{order}12f", head[280:328])).reshape(3, 4)
    return forms
