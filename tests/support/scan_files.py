"""Small scans and label maps as files, and functions that damage the files."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from methods.base import Grid
from methods.geometry import to_sitk

GRID = Grid((30, 20, 18), (1.0, 1.1, 1.2), (-10.0, 5.0, 100.0))


def labels() -> np.ndarray:
    """Three vertebrae as blocks, uint16 on GRID: 22 below, 20 on top."""
    array = np.zeros(GRID.shape, np.uint16)
    array[2:10, 5:15, 5:13], array[11:19, 5:15, 5:13], array[20:28, 5:15, 5:13] = 22, 21, 20
    return array


def noise() -> np.ndarray:
    """Normal noise, float32 on GRID."""
    return np.random.default_rng(0).normal(0, 100, GRID.shape).astype(np.float32)


def save(path: Path, array: np.ndarray, grid: Grid = GRID) -> None:
    """Write an array with SimpleITK, without the checks of the project's own writers."""
    sitk.WriteImage(to_sitk(array, grid), str(path))


def with_voxel(array: np.ndarray, value: float) -> np.ndarray:
    """A copy with `value` in one voxel."""
    changed = array.copy()
    changed[3, 7, 7] = value
    return changed


def cut_short(path: Path) -> None:
    """Keep the first two thirds of a file."""
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])


def turned(degrees: float) -> Grid:
    """GRID with its axes rotated about z."""
    return replace(GRID, direction=tuple(Rotation.from_euler("z", degrees, degrees=True).as_matrix().ravel()))


def change_header(path: Path, offset: int, value: np.generic | np.ndarray) -> None:
    """Write `value` at byte `offset` of a compressed NIfTI header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[offset : offset + value.nbytes] = value.tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def save_4d(path: Path) -> None:
    """Write two volumes in one 4-D image."""
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([noise(), noise()]), isVector=False), str(path))


def file_with(folder: Path, array: np.ndarray, *fields: tuple[int, object], grid: Grid = GRID) -> Path:
    """A compressed NIfTI-1 file with both forms in use; `fields`: byte offsets with float32 or numpy integer values."""
    path = folder / "scan.nii.gz"
    save(path, array, grid)
    for offset, value in fields:
        typed = value if isinstance(value, np.integer) else np.asarray(value, np.float32)
        change_header(path, offset, typed)
    return path
