"""Vertebra ids against anatomy: label maps whose ids are no vertebrae, or contradict the order of the spine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy import ndimage

from methods.base import Grid, vertebra_ids
from methods.vertebrae import T13, VERTEBRAE, named

# What VerSe and SPINEPS label beside vertebrae: (first, last, noun), from Vertebra_Instance and Location of TPTBox.
COMPANIONS = ((26, 26, "sacrum"), (27, 27, "coccyx"), (60, 60, "cord"), (61, 61, "canal"), (101, 128, "disc"),
              (201, 228, "endplate"))  # fmt: skip
OUT_OF_ORDER_MM = 5.0  # a lower vertebra lies above an upper one by more than the error of a centroid
# Parts of one label that are two vertebrae: both at least a fragment's size, and farther apart than the parts of one.
PART_MM3, PART_SHARE, PARTS_APART_MM = 500.0, 0.25, 20.0  # along the spine
ELSEWHERE_MM = 60.0  # in any direction
TALL = 1.7  # times the median height of the other labels
NEAR, FAR = 0.65, 1.6  # times the median distance of neighbours


@dataclass(frozen=True)
class Label:
    """One label of a map. parts_apart_mm: distance of its two largest parts, 0 where they may be of one vertebra."""

    id: int
    centre_mm: np.ndarray
    height_mm: float
    parts_apart_mm: float


def foreign_ids(labels: np.ndarray) -> list[int]:
    """List the ids of a label map that are no vertebrae, ascending."""
    return [v for v in vertebra_ids(labels) if v not in VERTEBRAE]


def companion(number: int) -> str | None:
    """Return what VerSe and SPINEPS label with an id that is no vertebra, such as `sacrum`, or None."""
    return next((noun for first, last, noun in COMPANIONS if first <= number <= last), None)


def contradictions(labels: np.ndarray, grid: Grid, cut: frozenset[int] = frozenset()) -> tuple[list[str], list[str]]:
    """Compare the ids of a label map with the order of the spine.

    Args:
        labels: uint16 (z, y, x), VerSe ids.
        grid: of the labels; its LPS z runs from foot to head.
        cut: vertebrae that the border of the scan cuts; their sizes and positions are no measure for the others.

    Returns:
        What cannot be right, and what may be right but is improbable, one clause each.
    """
    return contradictions_of(measure_labels(labels, grid), cut)


def contradictions_of(measured: Sequence[Label], cut: frozenset[int] = frozenset()) -> tuple[list[str], list[str]]:
    """As `contradictions`, of labels that are measured already."""
    known = sorted((m for m in measured if m.id in VERTEBRAE), key=lambda m: VERTEBRAE.index(m.id))
    return [*_disordered(known), *_doubled(known), *_stray_t13(known)], [*_tall(known, cut), *_uneven(known, cut)]


def are_consecutive(measured: Sequence[Label]) -> bool:
    """Whether labels are vertebrae without gap, from the head down, without any contradiction."""
    known = sorted((m for m in measured if m.id in VERTEBRAE), key=lambda m: VERTEBRAE.index(m.id))
    gaps = any(_levels(a.id, b.id) > 1 for a, b in pairwise(known))
    return len(known) > 1 and not gaps and not any(contradictions_of(known))


def measure_labels(labels: np.ndarray, grid: Grid) -> list[Label]:
    """Measure position, height and parts of every label.

    Args:
        labels: uint16 (z, y, x).
        grid: of the labels.

    Returns:
        One entry for each id, ascending.
    """
    entries = []
    for v, box in enumerate(ndimage.find_objects(labels.astype(np.int32)), start=1):
        if box is None:
            continue
        mask = labels[box] == v
        start = [s.start for s in box]
        z = _positions(mask, start, grid)[:, 2]
        entries.append(Label(v, _centre(mask, start, grid), float(np.ptp(z)), _parts_apart(mask, start, grid)))
    return entries


def _positions(mask: np.ndarray, start: Sequence[int], grid: Grid) -> np.ndarray:
    """LPS positions (N, 3) of the voxels of a mask whose box begins at index `start`."""
    return grid.to_points_mm((np.argwhere(mask) + start)[:, ::-1])


def _centre(mask: np.ndarray, start: Sequence[int], grid: Grid) -> np.ndarray:
    return grid.to_points_mm((np.argwhere(mask).mean(axis=0) + start)[::-1])


def _parts_apart(mask: np.ndarray, start: Sequence[int], grid: Grid) -> float:
    """Distance of the two largest connected parts, where both are too large and too far apart for one vertebra."""
    parts, number = ndimage.label(mask, np.ones((3, 3, 3)))
    if number < 2:
        return 0.0
    sizes = np.bincount(parts.ravel())[1:]
    first, second = (int(i) + 1 for i in np.argsort(sizes)[::-1][:2])
    smallest = max(PART_MM3 / float(np.prod(grid.spacing_mm)), PART_SHARE * sizes[first - 1])
    if sizes[second - 1] < smallest:
        return 0.0
    one, other = (_centre(parts == part, start, grid) for part in (first, second))
    distance = float(np.linalg.norm(one - other))
    return distance if abs(one[2] - other[2]) > PARTS_APART_MM or distance > ELSEWHERE_MM else 0.0


def _disordered(spine: Sequence[Label]) -> list[str]:
    """Lower vertebrae that lie above upper ones."""
    wrong = [(a, b) for a, b in pairwise(spine) if b.centre_mm[2] - a.centre_mm[2] > OUT_OF_ORDER_MM]
    if not wrong:
        return []
    if len(wrong) == len(spine) - 1 and len(spine) > 2:
        return [f"ids numbered from the bottom up: {named(spine[0].id)} lies lowest, {named(spine[-1].id)} highest"]
    upper, lower = wrong[0]
    rise = lower.centre_mm[2] - upper.centre_mm[2]
    return [f"{named(lower.id)} {rise:.0f} mm above {named(upper.id)}"]


def _doubled(spine: Sequence[Label]) -> list[str]:
    """Ids that two vertebrae have."""
    return [
        f"{named(label.id)} on two structures {label.parts_apart_mm:.0f} mm apart"
        for label in spine if label.parts_apart_mm
    ]  # fmt: skip


def _stray_t13(spine: Sequence[Label]) -> list[str]:
    """A T13 whose neighbours T12 and L1 are both absent, as in maps of another scheme."""
    ids = {label.id for label in spine}
    return [f"{named(T13)} without T12 (19) and L1 (20)"] if T13 in ids and not ids & {19, 20} else []


def _tall(spine: Sequence[Label], cut: frozenset[int]) -> list[str]:
    """Labels much taller than the whole others, which may cover two vertebrae."""
    doubts = []
    for label in spine:
        others = [other.height_mm for other in spine if other is not label and other.id not in cut]
        if len(others) >= 2 and label.height_mm > TALL * np.median(others):
            doubts.append(f"{named(label.id)} is {label.height_mm:.0f} mm tall, the others {np.median(others):.0f}: "
                          "two vertebrae?")  # fmt: skip
    return doubts


def _uneven(spine: Sequence[Label], cut: frozenset[int]) -> list[str]:
    """Neighbouring ids that lie too far apart, and ids with a gap that lie too close."""
    steps = [(a, b, _levels(a.id, b.id), float(np.linalg.norm(a.centre_mm - b.centre_mm))) for a, b in pairwise(spine)]
    doubts = []
    for a, b, levels, distance in steps:
        others = [d for p, q, n, d in steps if n == 1 and (p, q) != (a, b) and not cut & {p.id, q.id}]
        if not others:
            continue
        step = float(np.median(others))
        if levels == 1 and distance > FAR * step:
            doubts.append(f"{named(a.id)} and {named(b.id)} lie {distance:.0f} mm apart, others {step:.0f}: a vertebra "
                          "without label between them?")  # fmt: skip
        if levels > 1 and distance < NEAR * levels * step:
            doubts.append(f"{named(b.id)} follows {named(a.id)} after {distance:.0f} mm, a step of one vertebra: an id "
                          "is skipped?")  # fmt: skip
    return doubts


def _levels(upper: int, lower: int) -> int:
    """Number of steps from one vertebra to another. T13 is rare and T12 may be absent: neither makes a step."""
    levels = VERTEBRAE.index(lower) - VERTEBRAE.index(upper)
    return levels - (upper <= 19 and 20 <= lower < T13) - (upper == 18 and 20 <= lower < T13)
