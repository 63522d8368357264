"""Vertebra labels of a scan, checked against anatomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.datasets.io.anatomy import companion, contradictions, foreign_ids
from benchmark.datasets.io.label_maps import label_map_names
from benchmark.errors import BadInput
from methods.base import Grid
from methods.vertebrae import SCHEME, VERTEBRAE

Notes = tuple[str, ...]


def check_vertebrae(
    path: Path, labels: np.ndarray, grid: Grid, label_map: str | None = None, any_structure: bool = False
) -> tuple[np.ndarray, Notes]:
    """Check vertebra labels. Sacrum, coccyx, cord, canal, discs and endplates become background, with a note.

    Args:
        path: of the label map, for messages.
        labels, grid: VerSe ids, (z, y, x), and where they lie.
        label_map: name of the scheme that the ids were translated from, or None.
        any_structure: the labels need not be vertebrae: what contradicts anatomy is a note, not an error.

    Returns:
        VerSe ids, uint16 (z, y, x), and what is doubtful about them, one sentence each.

    Raises:
        BadInput: if ids are no vertebrae or contradict the anatomy.
    """
    foreign = foreign_ids(labels)
    if any_structure and foreign:
        return labels, ()
    nouns = {v: companion(v) for v in foreign}
    unknown = [v for v in foreign if nouns[v] is None]
    if unknown or len(foreign) == len(np.unique(labels)) - 1 > 0:
        raise _refused(path, SCHEME, f"{_listed(unknown or foreign)}, which are no vertebrae", label_map)
    notes = []
    if foreign:
        kinds = ", ".join(f"{v} ({nouns[v]})" for v in foreign[:6]) + (", ..." if len(foreign) > 6 else "")
        notes.append(f"{path}: {kinds} {'is no vertebra' if len(foreign) == 1 else 'are no vertebrae'} and left out; "
                     "another scheme needs a label_map")  # fmt: skip
        labels = np.where(np.isin(labels, VERTEBRAE), labels, 0).astype(np.uint16)
    wrong, improbable = contradictions(labels, grid)
    if wrong and not any_structure:
        raise _refused(path, "vertebrae numbered from the head down, one id for each", wrong[0], label_map)
    return labels, (*notes, *(f"{path}: {doubt}" for doubt in [*wrong, *improbable]))


def _refused(path: Path, expected: str, found: str, label_map: str | None) -> BadInput:
    """The error for ids that cannot be VerSe's, with the next step."""
    maps = ", ".join(label_map_names())
    read_as = "" if label_map is None else f" after label_map {label_map}"
    other = "" if label_map is None else "another "
    return BadInput(
        f"{path}: expected {expected}, found {found}{read_as}; correct the labels, or name {other or 'the '}scheme of "
        f"their ids as label_map (--label-map): {maps} or a YAML file"
    )


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
