"""Doubts about matches: vertebrae that are moved apart from their neighbours, and those that were not found."""

from __future__ import annotations

import numpy as np

from methods.base import Grid
from methods.bones.chain import APART_MM, gaps_mm
from methods.bones.lattice import frame_of
from methods.bones.search import BoneMatches
from methods.vertebrae import vertebra_name


def doubts(matches: BoneMatches, labels: np.ndarray, grid: Grid) -> list[str]:
    """Return what makes the matches doubtful, one clause each.

    Args:
        matches: of every vertebra of `labels`.
        labels: moving labels (z, y, x).
        grid: of the labels.
    """
    names = [f"{vertebra_name(v)} (as {vertebra_name(w)})" for v, w in matches.borrowed.items()]
    found = [f"not found, moved as a neighbour: {', '.join(names)}"] if names else []
    centres = {v: frame_of(labels, v, grid).centre_mm for v in matches.to_moving}
    own = {v: np.linalg.inv(matrix) for v, matrix in matches.to_moving.items() if v not in matches.borrowed}
    apart = [
        f"{vertebra_name(v)} and {vertebra_name(w)} ({gap:.1f} mm)"
        for (v, w), gap in gaps_mm(centres, own).items()
        if gap > APART_MM
    ]
    if apart:
        found.append(f"moved apart at their disc, so that one may be misplaced: {', '.join(apart)}")
    return found
