"""Landmarks of a pair: points that an expert marked in both scans, for a registration error on real data."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmark.errors import BadInput
from methods.base import Grid
from methods.text_files import read_text

COLUMNS = ("fixed_x", "fixed_y", "fixed_z", "moving_x", "moving_y", "moving_z")
SEPARATORS = (";", "\t", ",")  # in this order: a decimal comma is no separator where one of the others is


def read_landmarks(path: Path) -> np.ndarray:
    """Read landmarks from a table with columns fixed_x, fixed_y, fixed_z, moving_x, moving_y, moving_z in LPS mm.

    Values are separated by commas, semicolons, tabs or blanks; all but the first allow decimal commas. Other columns,
    such as a name, and empty rows are ignored.

    Returns:
        Matching points, float64 (2, N, 3), LPS mm: of the fixed MR, then of the moving CT.

    Raises:
        BadInput: if a column is missing or doubled, a row has more values than the header, a value is not a finite
            number, or the file has no point.
    """
    tables = [(head, rows) for head, *rows in _tables(path)]
    complete = [(head, rows) for head, rows in tables if set(COLUMNS) <= set(_names(head))]
    columns, rows = (complete or tables or [([], [])])[0]
    names = _names(columns)
    for column in COLUMNS:
        if names.count(column) != 1:
            found = "no" if column not in names else "a second"
            raise BadInput(
                f"{path}: expected the columns {', '.join(COLUMNS)} (LPS mm), found {found} {column} in "
                f"{', '.join(names)[:80] or 'an empty file'}; {'add' if found == 'no' else 'remove'} it"
            )
    points = []
    for number, row in enumerate(rows, start=1):
        if len(row) > len(names) and any(row[len(names) :]):
            raise BadInput(
                f"{path}: expected {len(names)} values for point {number}, found {len(row)}; separate them by "
                "semicolons if the decimals have commas"
            )
        points.append(_numbers(path, number, [dict(zip(names, row, strict=False)).get(c, "") for c in COLUMNS]))
    if not points:
        raise BadInput(f"{path}: expected at least one landmark, found none; remove the file, or add one")
    return np.array(points).reshape(-1, 2, 3).swapaxes(0, 1)


def read_keypoints(fixed: Path, fixed_grid: Grid, moving: Path, moving_grid: Grid) -> np.ndarray:
    """Read Learn2Reg's keypoints, one CSV file without a header per scan.

    A line has the voxel indices x, y, z in the image of its scan, separated as in `read_landmarks`; the same line of
    both files is the same point.

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
    rows = next((rows for rows in _tables(path) if all(len(row) == 3 for row in rows)), None)
    if rows is None:
        raise BadInput(f"{path}: expected x, y, z in voxels on every line, found other lines; correct it")
    return np.array([_numbers(path, number, row) for number, row in enumerate(rows, start=1)])


def _tables(path: Path) -> Iterator[list[list[str]]]:
    """The non-empty rows of a text file, for each of the separators in turn, without blanks around a value."""
    try:
        text = read_text(path, single_bytes=True)
        lines = [line for line in text.split("\n") if line.strip()]
        if lines and lines[0].lower().startswith("sep="):  # Excel's mark
            del lines[0]
        split = [list(csv.reader(lines, delimiter=d, skipinitialspace=True)) for d in SEPARATORS]
    except (OSError, csv.Error) as error:
        raise BadInput(
            f"{path}: expected a CSV file, found {' '.join(str(error).split())[:200]}; correct it"
        ) from error
    for rows in (*split, [line.split() for line in lines]):
        stripped = [[value.strip().strip('"') for value in row] for row in rows]
        if filled := [row for row in stripped if any(row)]:
            yield filled


def _names(head: list[str]) -> list[str]:
    """The names of columns, in lower case."""
    return [name.lower() for name in head]


def _numbers(path: Path, number: int, texts: list[str]) -> list[float]:
    """The values of point `number`, if all of them are finite. A single comma is a decimal comma."""
    try:
        values = [float(t.replace(",", ".") if t.count(",") == 1 and "." not in t else t) for t in texts]
    except ValueError:
        values = [np.nan]
    if not np.isfinite(values).all():
        found = ", ".join(str(t) for t in texts)[:60]
        raise BadInput(f"{path}: expected finite numbers for point {number}, found {found}; correct it")
    return values
