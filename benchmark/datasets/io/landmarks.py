"""Landmarks of a pair: points that an expert marked in both scans, for a registration error on real data."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from benchmark.errors import BadInput
from methods.base import Grid

COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z")


def read_landmarks(path: Path) -> np.ndarray:
    """Read landmarks from a CSV file with columns fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z in LPS mm.

    Other columns, such as a name, are ignored.

    Returns:
        Matching points, float64 (2, N, 3), LPS mm: of the fixed MR, then of the moving CT.

    Raises:
        BadInput: if a column is missing, a value is not a finite number, or the file has no point.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            missing = [c for c in COLUMNS if c not in (reader.fieldnames or ())]
            if missing:
                raise BadInput(
                    f"{path}: expected the columns {', '.join(COLUMNS)} (LPS mm), found no {missing[0]}; add it"
                )
            points = [_numbers(path, number, [row[c] for c in COLUMNS]) for number, row in enumerate(reader, start=1)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BadInput(
            f"{path}: expected a CSV file, found {' '.join(str(error).split())[:200]}; correct it"
        ) from error
    if not points:
        raise BadInput(f"{path}: expected at least one landmark, found none; remove the file, or add one")
    return np.array(points).reshape(-1, 2, 3).swapaxes(0, 1)


def read_keypoints(fixed: Path, fixed_grid: Grid, moving: Path, moving_grid: Grid) -> np.ndarray:
    """Read Learn2Reg's keypoints, one CSV file without a header per scan.

    A line has the voxel indices x, y, z in the image of its scan; the same line of both files is the same point.

    Args:
        fixed, moving: the files.
        fixed_grid, moving_grid: grids of the images.

    Returns:
        Matching points, float64 (2, N, 3), LPS mm, as `read_landmarks`.

    Raises:
        BadInput: if a value is not a finite number, or if the files have different numbers of points.
    """
    points = [grid.to_points_mm(_voxels(path)) for path, grid in ((fixed, fixed_grid), (moving, moving_grid))]
    if len(points[0]) != len(points[1]):
        raise BadInput(
            f"{moving}: expected as many keypoints as {fixed} has, {len(points[0])}, found {len(points[1])}; "
            "give the files that belong together"
        )
    return np.stack(points)


def _voxels(path: Path) -> np.ndarray:
    """The voxel indices in a file, float64 (N, 3), in x, y, z order."""
    try:
        rows = [line.split(",") for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"{path}: expected a CSV file of keypoints, found {error}; correct it") from error
    if not rows or any(len(row) != 3 for row in rows):
        raise BadInput(f"{path}: expected x, y, z in voxels on every line, found other lines; correct it")
    return np.array([_numbers(path, number, row) for number, row in enumerate(rows, start=1)])


def _numbers(path: Path, number: int, texts: list[str]) -> list[float]:
    """The values of point `number`, if all of them are finite."""
    try:
        values = [float(text) for text in texts]
    except (TypeError, ValueError):
        values = [np.nan]
    if not np.isfinite(values).all():
        found = ", ".join(str(t) for t in texts)[:60]
        raise BadInput(f"{path}: expected finite numbers for point {number}, found {found}; correct it")
    return values
