"""Choose one match for each vertebra so that matches agree with the images and with each other along the spine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

# A gap of this length between two neighbours costs as much as the usual image distance. Correct matches
# of neighbours have a small gap, since a disc joins them; a match of the wrong level is off by 20 to 40 mm.
GAP_MM = 10.0
# Cost of a vertebra without a match, in usual image distances; correct matches cost about 1.
LEFT_OUT = 3.0


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
