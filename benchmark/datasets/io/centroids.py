"""Annotated vertebra centroids: this project's JSON in millimetres, VerSe's in voxels, and TPTBox's POI files.

TPTBox (`POI.save`) writes a list that begins with an object of the geometry. Its points are in voxels, as VerSe's, or
in millimetres (format POI_GLOBAL). A point belongs to a vertebra and a subregion; the body (50) is read.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from benchmark.datasets.io.documents import read_json
from benchmark.errors import BadInput
from methods.base import Grid
from methods.vertebrae import VERTEBRAE, vertebra_name

OPPOSITE = dict(zip("LRPASI", "RLAPIS", strict=True))
AXES = ("X", "Y", "Z")
ISO = "_iso-ctd.json"  # the end of the name of VerSe's files in millimetres along the axes, from the first voxel
BODY, LABELS_OF_A_SUBREGION = 50, 256  # TPTBox: label = 256 * subregion + vertebra; VerSe gives the vertebra alone
BODY_NAMES = ("50", "Vertebra_Corpus")

Centroids = Mapping[int, np.ndarray]  # vertebra -> LPS mm (3,)


def read_annotation(path: Path, grid: Grid) -> tuple[Centroids, bool]:
    """Read annotated centroids in any of the formats; the content says which.

    Args:
        path: the file.
        grid: of the image that was annotated.

    Returns:
        VerSe id -> LPS mm, float64 (3,); and whether the points mark vertebral bodies by their format.

    Raises:
        BadInput: as `read_centroids` and `read_verse_centroids`.
    """
    content = read_json(path, "an object or a list of centroids", object)
    if isinstance(content, list):
        return read_verse_centroids(path, grid), True
    return read_centroids(path), False


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
    centroid with NaN was not annotated and is not returned. TPTBox's files are read alike.

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
    if isinstance(first, dict) and first.get("format") == "POI_GLOBAL":
        sign = np.array([1, 1, 1] if first.get("coordinate_system") == "itk" else [-1, -1, 1])
        return {v: np.array(p) * sign for v, p in _points(path, entries)}
    if not isinstance(first, dict) or "direction" not in first:
        raise BadInput(f"{path}: expected {expected}, found no direction in its first entry; correct it")
    order = _stored_order(path, first["direction"], grid)
    size = grid.shape[::-1]
    factors = _factors(path, first, order, grid)
    centroids = {}
    for label, position in _points(path, entries):
        oriented = [p * f for p, f in zip(position, factors, strict=True)]
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


def _factors(path: Path, header: dict[str, Any], order: list[tuple[int, bool]], grid: Grid) -> list[float]:
    """Voxels of the image per unit of X, Y, Z: 1, unless the points are of an image with other voxels."""
    spacing = [next(s for s, (k, _) in zip(grid.spacing_mm, order, strict=True) if k == axis) for axis in range(3)]
    zoom = [1.0, 1.0, 1.0] if path.name.endswith(ISO) else header.get("zoom")
    if zoom is None:
        return [1.0, 1.0, 1.0]
    if not isinstance(zoom, list) or len(zoom) != 3 or not all(isinstance(z, int | float) and z > 0 for z in zoom):
        raise BadInput(f"{path}: expected a zoom of three millimetres, found {json.dumps(zoom)[:60]}; correct it")
    factors = [z / s for z, s in zip(zoom, spacing, strict=True)]
    return [1.0 if abs(f - 1) < 1e-3 else f for f in factors]  # a zoom is rounded


def _points(path: Path, entries: list[Any]) -> Iterator[tuple[int, list[float]]]:
    """The vertebra and the position of each annotated body, from entries of VerSe or TPTBox."""
    for entry in entries:
        if isinstance(entry, dict) and "label" not in entry and entry:
            yield from _named_points(path, entry)
            continue
        label, position = _entry(path, entry)
        subregion, vertebra = divmod(label, LABELS_OF_A_SUBREGION)
        if subregion in (0, BODY) and not any(math.isnan(v) for v in position):
            yield vertebra, position


def _named_points(path: Path, vertebrae: dict[str, Any]) -> Iterator[tuple[int, list[float]]]:
    """The same from an object {vertebra: {subregion: [x, y, z]}}, with names or ids."""
    ids = {vertebra_name(v): v for v in VERTEBRAE}
    for name, subregions in vertebrae.items():
        if not isinstance(subregions, dict):
            raise BadInput(
                f'{path}: expected a vertebra with points such as {{"L1": {{"50": [1, 2, 3]}}}}, found '
                f"{json.dumps({name: subregions})[:60]}; correct it"
            )
        position = next((subregions[key] for key in BODY_NAMES if key in subregions), None)
        vertebra = ids.get(name, int(name) if name.isdecimal() else None)
        if position is not None and vertebra is not None:
            yield _entry(path, {"label": vertebra, **dict(zip(AXES, position, strict=False))})


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
