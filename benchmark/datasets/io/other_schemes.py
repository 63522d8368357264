"""The label maps under which the ids of a file are those of a spine, to name them where the chosen one is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmark.datasets.io.anatomy import are_consecutive, companion, measure_labels
from benchmark.datasets.io.label_maps import CURRENT, VERSE, label_map_names, read_label_map
from methods.base import Grid
from methods.vertebrae import VERTEBRAE

MANY_VOXELS = 20_000_000  # the whole file of a trunk, whose organs would take many seconds to measure


def fitting_schemes(stored: np.ndarray, grid: Grid, chosen: str | None, least: int = 2) -> tuple[str, ...]:
    """Find the schemes that name most of the stored ids, and under which these are consecutive from the head down.

    Args:
        stored: uint16 (z, y, x), ids as in the file.
        grid: of the labels.
        chosen: the label map under which the ids contradict anatomy, or None for VerSe ids.
        least: number of ids that a scheme has to name.

    Returns:
        Names of the project's maps, or `verse`; several that fit equally well, or none.
    """
    found = set(np.unique(stored[stored > 0]).tolist())
    maps = {name: ids for name, ids in _maps().items() if len(found & set(ids)) >= least}
    maps.pop(VERSE if chosen is None else CURRENT.get(chosen, chosen), None)
    if any(v not in VERTEBRAE and companion(v) is None for v in found):
        maps.pop(VERSE, None)
    if not maps:
        return ()
    every = {number for ids in maps.values() for number in ids}
    if stored.size > MANY_VOXELS:
        stored, grid = _every_second(stored, grid)
    measured = measure_labels(np.where(np.isin(stored, list(every)), stored, 0).astype(np.uint16), grid)
    fitting: dict[str, int] = {}
    for name, ids in maps.items():
        labels = [replace(label, id=ids[label.id]) for label in measured if label.id in ids]
        if are_consecutive(labels):
            fitting[name] = len(labels)
    return tuple(name for name, count in fitting.items() if count == max(fitting.values()))


def _every_second(labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, Grid]:
    """Every second voxel along each axis, which suffices to compare positions of vertebrae."""
    coarse = np.ascontiguousarray(labels[::2, ::2, ::2])
    x, y, z = (2 * s for s in grid.spacing_mm)
    return coarse, Grid(coarse.shape, (x, y, z), grid.origin_mm, grid.direction)


def _maps() -> dict[str, Mapping[int, int]]:
    """The project's maps by name, and VerSe's own ids; a map that equals VerSe's is left out."""
    verse = {v: v for v in VERTEBRAE}
    maps: dict[str, Mapping[int, int]] = {name: read_label_map(name) for name in label_map_names()}
    return {**{name: ids for name, ids in maps.items() if ids != verse}, VERSE: verse}
