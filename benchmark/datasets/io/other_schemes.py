"""The label maps under which the ids of a file are those of a spine, to name them where the chosen one is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from benchmark.datasets.io.anatomy import are_consecutive, companion, measure_labels
from benchmark.datasets.io.label_maps import CURRENT, VERSE, label_map_names, read_label_map
from methods.base import Grid
from methods.vertebrae import VERTEBRAE


def fitting_schemes(stored: np.ndarray, grid: Grid, chosen: str | None) -> tuple[str, ...]:
    """Find the schemes that name most of the stored ids, and under which these are consecutive from the head down.

    Args:
        stored: uint16 (z, y, x), ids as in the file.
        grid: of the labels.
        chosen: the label map under which the ids contradict anatomy, or None for VerSe ids.

    Returns:
        Names of the project's maps, or `verse`; several that fit equally well, or none.
    """
    maps = _maps()
    maps.pop(VERSE if chosen is None else CURRENT.get(chosen, chosen), None)
    every = {number for ids in maps.values() for number in ids}
    measured = measure_labels(np.where(np.isin(stored, list(every)), stored, 0).astype(np.uint16), grid)
    found = set(np.unique(stored[stored > 0]).tolist())
    fitting: dict[str, int] = {}
    for name, ids in maps.items():
        if name == VERSE and any(v not in VERTEBRAE and companion(v) is None for v in found):
            continue
        labels = [replace(label, id=ids[label.id]) for label in measured if label.id in ids]
        if are_consecutive(labels):
            fitting[name] = len(labels)
    return tuple(name for name, count in fitting.items() if count == max(fitting.values()))


def names_more(scheme: str, stored: np.ndarray, labels: np.ndarray) -> int:
    """How many more of the stored ids a scheme names than there are vertebrae in `labels`.

    Args:
        scheme: a result of `fitting_schemes`.
        stored: ids as in the file.
        labels: VerSe ids, as they were read.
    """
    named = np.count_nonzero(np.isin(np.unique(stored), list(_maps()[scheme])))
    return int(named - np.count_nonzero(np.isin(np.unique(labels), VERTEBRAE)))


def _maps() -> dict[str, Mapping[int, int]]:
    """The project's maps by name, and VerSe's own ids; a map that equals VerSe's is left out."""
    verse = {v: v for v in VERTEBRAE}
    maps: dict[str, Mapping[int, int]] = {name: read_label_map(name) for name in label_map_names()}
    return {**{name: ids for name, ids in maps.items() if ids != verse}, VERSE: verse}
