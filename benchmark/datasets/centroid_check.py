"""Annotated centroids against the labels of their scan: frame, unit, and the part of the vertebra that they mark.

Annotators mark vertebral bodies (VerSe, TPTBox) or whole vertebrae. Pre-alignment compares points of one kind.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.datasets.io.centroids import Centroids
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.datasets.vertebral_bodies import bodies_by_cut
from benchmark.errors import BadInput
from methods.base import Grid

Part = Literal["vertebrae", "bodies"]

ANNOTATION_MM = 3.0  # error of an annotated point (1 to 3 mm)
# Median distance from the labels: with a doubt, refused where another frame or unit explains it, and refused. A
# vertebra's height is about 30 mm.
DOUBTFUL_MM, EXPLAINED_MM, REFUSED_MM = 5.0, 8.0, 30.0
READING_MM = 15.0  # median distance from the labels in another frame or unit that explains the points
OUTSIDE_MM = 20.0  # from the border of the image


def check_centroids(
    path: Path, points: Centroids, labels: np.ndarray, grid: Grid, trusted: bool = False
) -> tuple[Part, tuple[str, ...]]:
    """Compare annotated centroids with the labels of their scan.

    Args:
        path: of the centroids, for messages.
        points: vertebra -> LPS mm (3,).
        labels: uint16 (z, y, x), VerSe ids.
        grid: of the labels.
        trusted: an offset is intended, as in simulated patients; only frame and unit are checked.

    Returns:
        The part of the vertebrae that the points mark, and doubts, one sentence each.

    Raises:
        BadInput: if the points fit the labels in another frame or unit, or do not fit them at all.
    """
    whole = centroids_mm(labels, grid)
    common = sorted(set(points) & set(whole))
    offset = _median_distance(points, whole, common)
    if not common or (trusted and offset <= REFUSED_MM):
        return "vertebrae", ()
    if offset <= ANNOTATION_MM:
        return "vertebrae", _outliers(path, points, whole, common)
    bodies = _bodies(labels, grid, common)
    nearest = min(offset, _median_distance(points, bodies, common))
    reading, distance = _nearest_reading(points, (whole, bodies), grid, common)
    explained = nearest > ANNOTATION_MM and distance < min(READING_MM, nearest / 2)
    if explained and nearest > EXPLAINED_MM:
        raise BadInput(
            f"{path}: expected LPS millimetres, found points {nearest:.0f} mm off the labels that fit them as "
            f"{reading} ({distance:.0f} mm); convert them"
        )
    if nearest > REFUSED_MM and not trusted:
        raise BadInput(
            f"{path}: expected points in the labelled vertebrae, found them {nearest:.0f} mm off (median); give the "
            "file that belongs to this scan"
        )
    part: Part = "bodies" if nearest < offset / 2 else "vertebrae"
    if trusted:
        return part, ()
    if explained:
        doubt = f"points lie {nearest:.0f} mm off the labels, and {distance:.0f} mm as {reading}"
        return part, (f"{path}: {doubt}: convert them if they are; pre-aligned on them",)
    if part == "vertebrae" and offset > DOUBTFUL_MM:
        doubt = f"points lie {offset:.0f} mm off the centroids of the scan's labels (median)"
        return part, (f"{path}: {doubt}; pre-aligned on them",)
    return part, _outliers(path, points, bodies if part == "bodies" else whole, common)


def _nearest_reading(
    points: Centroids, parts: tuple[Centroids, Centroids], grid: Grid, ids: list[int]
) -> tuple[str, float]:
    """The frame or unit in which points fit some part of the vertebrae best, and their median distance then, mm."""
    distances = {
        name: min(_median_distance({v: convert(points[v]) for v in ids}, part, ids) for part in parts)
        for name, convert in _readings(grid).items()
    }
    name = min(distances, key=lambda name: distances[name])
    return name, distances[name]


def _outliers(path: Path, points: Centroids, other: Centroids, ids: list[int]) -> tuple[str, ...]:
    """A doubt about single points far from their labels, which the median does not show."""
    distances = {v: float(np.linalg.norm(points[v] - other[v])) for v in ids if v in other}
    far = {v: distance for v, distance in distances.items() if distance > EXPLAINED_MM}
    if not far:
        return ()
    listed = ", ".join(f"{v} ({distance:.0f} mm)" for v, distance in far.items())
    return (
        f"{path}: points of {len(far)} of {len(ids)} vertebrae lie off their labels: {listed}; pre-aligned on them",
    )


def check_inside(path: Path, points: Centroids, grid: Grid) -> None:
    """Refuse annotated centroids most of which lie outside their scan, where it has no labels.

    Args:
        path: of the centroids.
        points: vertebra -> LPS mm (3,).
        grid: of the scan.

    Raises:
        BadInput: the message says in which frame or unit the points would lie inside, if in any.
    """
    positions = np.array(list(points.values()))
    if _share_inside(positions, grid) >= 0.5:
        return
    fits = [n for n, convert in _readings(grid).items() if _share_inside(convert(positions), grid) == 1]
    reading = f"; as {' or '.join(fits)} they lie inside: convert them" if fits else "; give the file of this scan"
    raise BadInput(f"{path}: expected LPS millimetres inside the scan, found most points outside{reading}")


def _readings(grid: Grid) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
    """What points may be if they are not LPS millimetres; each function converts (..., 3) to LPS millimetres."""
    return {
        "RAS millimetres": lambda p: p * [-1, -1, 1],
        "voxels (x, y, z)": grid.to_points_mm,
        "voxels (z, y, x)": lambda p: grid.to_points_mm(p[..., ::-1]),
        "millimetres from the first voxel": lambda p: grid.to_points_mm(p / np.array(grid.spacing_mm)),
    }


def _share_inside(positions: np.ndarray, grid: Grid) -> float:
    """Share of points (N, 3) within the grid and a margin."""
    index = grid.to_indices_xyz(positions)
    margin = OUTSIDE_MM / np.array(grid.spacing_mm)
    return float(np.all((index > -margin) & (index < np.array(grid.shape[::-1]) + margin), axis=1).mean())


def _bodies(labels: np.ndarray, grid: Grid, ids: list[int]) -> Centroids:
    return centroids_mm(bodies_by_cut(np.where(np.isin(labels, ids), labels, 0).astype(np.uint16), grid), grid)


def _median_distance(points: Centroids, other: Centroids, ids: list[int]) -> float:
    """Median distance of points of the same vertebra; infinite where there is none."""
    distances = [float(np.linalg.norm(points[v] - other[v])) for v in ids if v in other]
    return float(np.median(distances)) if distances else np.inf
