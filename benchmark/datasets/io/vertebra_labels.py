"""Vertebra labels of a scan, checked against anatomy."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.datasets.io.anatomy import companion, contradictions, foreign_ids, measure_labels
from benchmark.datasets.io.label_files import holds_structures, in_verse_ids
from benchmark.datasets.io.label_maps import known_label_maps
from benchmark.datasets.io.other_schemes import fitting_schemes
from benchmark.datasets.io.scan_border import cut_vertebrae
from benchmark.errors import BadInput
from methods.base import Grid
from methods.vertebrae import SCHEME, VERTEBRAE

Notes = tuple[str, ...]
TALLEST_ATLAS_MM = 40.0
CLEARLY_MORE = 2  # vertebrae; a sacrum may be a vertebra of another scheme


def interpret_labels(
    path: Path, stored: np.ndarray, grid: Grid, label_map: str | None = None, any_structure: bool = False,
    scan: np.ndarray | None = None,
) -> tuple[np.ndarray, Notes]:  # fmt: skip
    """Translate and check vertebra labels, and name another scheme under which the ids are consecutive.

    Args:
        path: of the labels.
        stored: uint16 (z, y, x), as `read_label_file` returns them.
        grid: of the labels.
        label_map: name of the scheme of the ids, or None for VerSe's.
        any_structure: the labels need not be vertebrae: what contradicts anatomy is a note, not an error.
        scan: the labelled image, (z, y, x), so that padding is not taken for a part of the scan; or None.

    Returns:
        VerSe ids, uint16 (z, y, x), and what is doubtful about them, one sentence each.

    Raises:
        BadInput: if ids are no vertebrae or contradict the anatomy.
    """
    label_map = None if holds_structures(path) else label_map
    try:
        labels = in_verse_ids(path, stored, label_map)
        labels, notes = check_vertebrae(path, labels, grid, label_map, any_structure, cut_vertebrae(labels, scan))
    except BadInput as error:
        other = " or ".join(fitting_schemes(stored, grid, label_map))
        raise BadInput(f"{error}{other and f'. As {other} the ids are consecutive'}") from error
    skipped = any("skipped?" in note for note in notes)
    if not any_structure and (label_map is not None or skipped):
        least = int(np.count_nonzero(np.unique(labels))) + (0 if skipped else CLEARLY_MORE)
        other = " or ".join(fitting_schemes(stored, grid, label_map, least))
        if other:
            notes += (f"{path}: as {other} the ids are consecutive; name the label_map of their scheme",)
    return labels, notes


def check_vertebrae(
    path: Path, labels: np.ndarray, grid: Grid, label_map: str | None = None, any_structure: bool = False,
    cut: frozenset[int] = frozenset(),
) -> tuple[np.ndarray, Notes]:  # fmt: skip
    """Check vertebra labels. Sacrum, coccyx, cord, canal, discs and endplates become background, with a note.

    Args:
        path: of the label map, for messages.
        labels, grid: VerSe ids, (z, y, x), and where they lie.
        label_map: name of the scheme that the ids were translated from, or None.
        any_structure: the labels need not be vertebrae: what contradicts anatomy is a note, not an error.
        cut: vertebrae that the border of the scan cuts.

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
    wrong, improbable = contradictions(labels, grid, cut)
    if not any_structure and labels.max() == 1:
        improbable += _lone_value(path, labels, grid, label_map)
    if wrong and not any_structure:
        raise _refused(path, "vertebrae numbered from the head down, one id for each", wrong[0], label_map)
    return labels, (*notes, *(f"{path}: {doubt}" for doubt in [*wrong, *improbable]))


def _lone_value(path: Path, labels: np.ndarray, grid: Grid, label_map: str | None) -> list[str]:
    """A doubt about labels of the value 1 alone. Raises BadInput if they are too tall for C1."""
    height = measure_labels(labels, grid)[0].height_mm
    if height > TALLEST_ATLAS_MM:
        raise _refused(path, SCHEME, f"the value 1 alone on {height:.0f} mm, a mask without vertebra ids", label_map)
    return ["the value 1 alone, read as C1; the mask of another vertebra needs its VerSe id"]


def _refused(path: Path, expected: str, found: str, label_map: str | None) -> BadInput:
    """The error for ids that cannot be VerSe's, with the next step."""
    read_as = "" if label_map is None else f" after label_map {label_map}"
    other = "" if label_map is None else "another "
    return BadInput(
        f"{path}: expected {expected}, found {found}{read_as}; correct the labels, or name {other or 'the '}scheme of "
        f"their ids as label_map (--label-map): {known_label_maps()} or a YAML file"
    )


def _listed(ids: list[int]) -> str:
    return ", ".join(map(str, ids[:8])) + (", ..." if len(ids) > 8 else "")
