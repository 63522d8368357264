"""Annotated vertebra centroids: this project's JSON in millimetres, and VerSe's in voxels."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.datasets.io.documents import read_json
from benchmark.errors import BadInput
from methods.base import Grid

OPPOSITE = dict(zip("LRPASI", "RLAPIS", strict=True))
AXES = ("X", "Y", "Z")

Centroids = Mapping[int, np.ndarray]  # vertebra -> LPS mm (3,)


def read_centroids(path: Path) -> Centroids:
    """Read annotated centroids from a JSON file {"20": [x, y, z], ...} in LPS mm.

    Returns:
        VerSe id -> LPS mm, float64 (3,).

    Raises:
        BadInput: if the file has another content, or a number that is not finite.
    """
    content = read_json(path, 'a JSON object such as {"20": [x, y, z]}')
    centroids = {}
    for key, position in content.items():
        numbers = isinstance(position, list) and all(type(v) in (int, float) for v in position)
        if not key.isdecimal() or not numbers or len(position) != 3 or not np.isfinite(position).all():
            raise BadInput(
                f"{path}: expected a VerSe id and three finite LPS millimetres for each vertebra, "
                f"found {key!r}: {json.dumps(position)[:60]}; correct it"
            )
        centroids[int(key)] = np.asarray(position, dtype=float)
    return centroids


def read_verse_centroids(path: Path, grid: Grid) -> Centroids:
    """Read VerSe's centroids (`*_ctd.json`).

    The file is [{"direction": ["P", "I", "R"]}, {"label": 20, "X": ..., "Y": ..., "Z": ...}, ...]. X, Y and Z are voxel
    indices from 0 along the axes of the image after reorientation to `direction`. Each letter is the direction in which
    an axis increases; an axis that the image stores in the opposite direction is counted from its last voxel. A
    centroid with NaN was not annotated and is not returned.

    Args:
        path: the file.
        grid: of the image that was annotated.

    Returns:
        VerSe id -> LPS mm, float64 (3,).

    Raises:
        BadInput: if the file has another content or no centroid, or if a centroid lies outside the image.
    """
    expected = 'a list such as [{"direction": ["P", "I", "R"]}, {"label": 20, "X": 1, "Y": 2, "Z": 3}]'
    first, *entries = read_json(path, expected, list) or [None]
    if not isinstance(first, dict) or "direction" not in first:
        raise BadInput(f"{path}: expected {expected}, found no direction in its first entry; correct it")
    order = _stored_order(path, first["direction"], grid)
    size = grid.shape[::-1]
    centroids = {}
    for entry in entries:
        label, oriented = _entry(path, entry)
        if any(math.isnan(v) for v in oriented):
            continue
        index = [size[axis] - 1 - oriented[k] if flipped else oriented[k] for axis, (k, flipped) in enumerate(order)]
        if not all(-0.5 <= i <= n - 0.5 for i, n in zip(index, size, strict=True)):
            found = ", ".join(f"{v:g}" for v in oriented)
            raise BadInput(
                f"{path}: expected voxels of an image of {' x '.join(map(str, size))}, found label {label} at "
                f"({found}); give the file that belongs to this image"
            )
        centroids[label] = grid.to_points_mm(np.array(index))
    if not centroids:
        raise BadInput(f"{path}: expected at least one centroid, found none; remove the file, or annotate one")
    return centroids


def _stored_order(path: Path, direction: Any, grid: Grid) -> list[tuple[int, bool]]:
    """For each stored axis x, y, z of the image: which of X, Y, Z runs along it, and whether in the other direction."""
    import SimpleITK as sitk

    letters = list(direction) if isinstance(direction, list | str) else []
    if sorted(min(d, OPPOSITE.get(d, d)) for d in letters) != ["A", "I", "L"]:
        raise BadInput(
            f'{path}: expected a direction such as ["P", "I", "R"], found {json.dumps(direction)[:60]}; correct it'
        )
    stored = sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(grid.direction)
    return [
        (next(k for k, d in enumerate(letters) if d in (axis, OPPOSITE[axis])), axis not in letters) for axis in stored
    ]


def _entry(path: Path, entry: Any) -> tuple[int, list[float]]:
    """The label, and X, Y and Z."""
    label, *oriented = [entry.get(key) for key in ("label", *AXES)] if isinstance(entry, dict) else [None]
    numbers = [float(v) for v in oriented if isinstance(v, int | float) and not isinstance(v, bool)]
    if not isinstance(label, int | float) or label != int(label) or label < 1 or len(numbers) != 3:
        raise BadInput(
            f"{path}: expected a label with X, Y and Z in voxels for each vertebra, found {json.dumps(entry)[:60]}; "
            "correct it"
        )
    return int(label), numbers
