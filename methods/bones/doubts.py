"""Doubts about matches: vertebrae that are moved apart from their neighbours, and those that were not found.

A disc joins two vertebrae, so that the transforms of both move the middle between them almost alike. On validation
phantoms the two points lie 0.4 to 1.7 mm apart; a vertebra that is found in a wrong place lies farther from its
neighbours. On the test phantom 0156, whose six thoracic vertebrae are small, one such vertebra is 5 mm off: none of
its matches on the coarse lattice is the right one, though the right place has the least distance on the fine lattice.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from methods.base import Grid
from methods.bones.lattice import frame_of
from methods.bones.search import BoneMatches
from methods.vertebrae import place_in_spine, vertebra_name

T12_AND_L1 = {19, 20}
APART_MM = 3.0  # a shift of neighbours by more than 3 to 4.5 mm is called instability in adults


def doubts(matches: BoneMatches, labels: np.ndarray, grid: Grid) -> list[str]:
    """Return what makes the matches doubtful, one clause each.

    Args:
        matches: of every vertebra of `labels`.
        labels: moving labels (z, y, x).
        grid: of the labels.
    """
    names = [f"{vertebra_name(v)} (as {vertebra_name(w)})" for v, w in matches.borrowed.items()]
    found = [f"not found, moved as a neighbour: {', '.join(names)}"] if names else []
    apart = [
        f"{vertebra_name(v)} and {vertebra_name(w)} ({gap:.1f} mm)"
        for (v, w), gap in gaps_mm(matches, labels, grid).items()
        if gap > APART_MM
    ]
    if apart:
        found.append(f"moved apart at their disc, so that one may be misplaced: {', '.join(apart)}")
    return found


def gaps_mm(matches: BoneMatches, labels: np.ndarray, grid: Grid) -> dict[tuple[int, int], float]:
    """Return the distance between the points to which two neighbours move the middle of their centres.

    Args:
        matches: of every vertebra of `labels`.
        labels: moving labels (z, y, x).
        grid: of the labels.

    Returns:
        By neighbours from the head down, both of which were found: mm.
    """
    to_fixed = {v: np.linalg.inv(matrix) for v, matrix in matches.to_moving.items()}
    centres = {v: frame_of(labels, v, grid).centre_mm for v in to_fixed}
    gaps = {}
    for v, w in pairwise(to_fixed):
        if _are_neighbours(v, w) and not {v, w} & set(matches.borrowed):
            middle = np.append((centres[v] + centres[w]) / 2, 1.0)
            gaps[v, w] = float(np.linalg.norm((to_fixed[v] @ middle - to_fixed[w] @ middle)[:3]))
    return gaps


def _are_neighbours(upper: int, lower: int) -> bool:
    """Whether no vertebra lies between two vertebrae; T13, between T12 and L1, is rare."""
    return {upper, lower} == T12_AND_L1 or place_in_spine(lower) - place_in_spine(upper) == 1
