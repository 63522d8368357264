"""Which match of each vertebra: the ones that agree best with the images and with each other, down the spine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A gap of so much between two neighbours, where they were one, weighs as much as the usual image distance. Neighbours
# hang together by a disc; the next level is 20 to 40 mm away.
GAP_MM = 10.0
# Of a vertebra without a match, in usual image distances: right matches lie about 1.
MISSING = 3.0


def choose(centres_mm: np.ndarray, matches: Sequence[tuple[np.ndarray, np.ndarray]]) -> list[int | None]:
    """For each of n vertebrae in spinal order the index of one of its matches, or None if it is better left out.

    centres_mm: (n, 3), moving domain. matches: per vertebra the transforms moving -> fixed (k, 4, 4), in millimetres,
    and their image distances (k,), at least 0.
    The chain, found by dynamic programming, minimises the sum of distance / median least distance, MISSING for one left
    out, and (gap / GAP_MM)^2 between neighbours that are in: how far apart their two transforms take the point halfway
    between their centres. A single vertebra is never left out.
    """
    usual = max(float(np.median([distance.min() for _, distance in matches])), 1e-6)
    costs = [np.append(distance / usual, MISSING) for _, distance in matches]
    total, back = costs[0], []
    for i in range(1, len(matches)):
        halfway = np.append((centres_mm[i - 1] + centres_mm[i]) / 2, 1.0)
        before, here = ((m[0] @ halfway)[:, :3] for m in matches[i - 1 : i + 1])
        gaps = np.linalg.norm(before[:, None] - here[None], axis=-1)
        through = total[:, None] + np.pad((gaps / GAP_MM) ** 2, [(0, 1), (0, 1)])
        back.append(through.argmin(axis=0))
        total = through.min(axis=0) + costs[i]
    chosen = [int(total.argmin())]
    for best in reversed(back):
        chosen.append(int(best[chosen[-1]]))
    return [k if k < len(m[0]) else None for k, m in zip(chosen[::-1], matches, strict=True)]
