"""Matches of vertebrae that agree with the images and with each other along the spine.

A disc joins two vertebrae, so that the transforms of both move the middle between their centres almost alike: the gap.
On validation phantoms it is 0.4 to 1.7 mm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from methods.vertebrae import place_in_spine

# A gap of this length between two neighbours costs as much as the usual image distance. Correct matches
# of neighbours have a small gap, since a disc joins them; a match of the wrong level is off by 20 to 40 mm.
GAP_MM = 10.0
# Cost of a vertebra without a match, in usual image distances; correct matches cost about 1.
LEFT_OUT = 3.0
# A larger gap is a doubt: a shift of neighbours by more than 3 to 4.5 mm is called instability in adults.
APART_MM = 3.0
T12_AND_L1 = (19, 20)


def choose(centres_mm: np.ndarray, matches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int | None]:
    """Choose the chain of matches with the least cost, by dynamic programming.

    The cost is the sum of distance / usual over the vertebrae, LEFT_OUT for one without a match, and
    (gap / GAP_MM)^2 between neighbours that both have one. `usual` is the median over vertebrae of their least
    distance. The gap is the distance between the points to which the two transforms map the midpoint of the two
    centres. A single vertebra always gets a match.

    Args:
        centres_mm: (n, 3), LPS centres of n vertebrae in spinal order, moving domain.
        matches: for each vertebra, k transforms moving -> fixed (k, 4, 4) in LPS millimetres and their image
            distances (k,), at least 0.

    Returns:
        For each vertebra the index of its match, or None for no match.
    """
    usual = max(float(np.median([distance.min() for _, distance in matches])), 1e-6)
    costs = [np.append(distance / usual, LEFT_OUT) for _, distance in matches]
    total, best_previous = costs[0], []
    for i in range(1, len(matches)):
        midpoint = np.append((centres_mm[i - 1] + centres_mm[i]) / 2, 1.0)
        previous, current = ((transforms @ midpoint)[:, :3] for transforms, _ in matches[i - 1 : i + 1])
        gaps = np.linalg.norm(previous[:, None] - current[None], axis=-1)
        through = total[:, None] + np.pad((gaps / GAP_MM) ** 2, [(0, 1), (0, 1)])
        best_previous.append(through.argmin(axis=0))
        total = through.min(axis=0) + costs[i]
    chosen = [int(total.argmin())]
    for best in reversed(best_previous):
        chosen.append(int(best[chosen[-1]]))
    return [k if k < len(transforms) else None for k, (transforms, _) in zip(chosen[::-1], matches, strict=True)]


def gaps_mm(centres_mm: Mapping[int, np.ndarray], to_fixed: Mapping[int, np.ndarray]) -> dict[tuple[int, int], float]:
    """Return the distance between the points to which two neighbours move the middle of their centres.

    Args:
        centres_mm: by VerSe id from the head down, LPS, moving domain.
        to_fixed: transforms of some of them, moving -> fixed, 4 x 4, LPS millimetres.

    Returns:
        By neighbours that both have a transform, the upper one first: mm.
    """
    gaps = {}
    for v, w in pairwise(v for v in centres_mm if v in to_fixed):
        if are_neighbours(v, w):
            middle = np.append((centres_mm[v] + centres_mm[w]) / 2, 1.0)
            gaps[v, w] = float(np.linalg.norm((to_fixed[v] @ middle - to_fixed[w] @ middle)[:3]))
    return gaps


def are_neighbours(upper: int, lower: int) -> bool:
    """Return whether no vertebra lies between two vertebrae; T13, between T12 and L1, is rare."""
    return (upper, lower) == T12_AND_L1 or place_in_spine(lower) - place_in_spine(upper) == 1
