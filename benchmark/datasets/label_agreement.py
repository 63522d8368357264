"""The labels of two scans of one patient against each other: volumes of the same vertebrae, and numbering."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmark.datasets.io.centroids import Centroids
from benchmark.datasets.numbering import numbering_doubt
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.datasets.vertebral_bodies import ATLAS, bodies_by_cut
from methods.base import Grid

LARGEST_BODY_SHARE = 0.8  # of a vertebra's volume; bodies have about 60 %
BODY_RATIO = (0.7, 1.4)  # volume of a body label over that of the moving scan's body
DOUBTFUL_RATIO = 1.6  # of the volumes of one vertebra in two scans, either way round
Labelled = tuple[np.ndarray, Grid]  # integer (z, y, x), and the grid


@dataclass(frozen=True)
class Agreement:
    """What the comparison found.

    Attributes:
        doubts: one clause each.
        body_centroids: of the fixed labels and of the bodies of the moving ones, LPS mm by vertebra, if the fixed
            labels are vertebral bodies and are compared with whole vertebrae; else None.
    """

    doubts: tuple[str, ...]
    body_centroids: tuple[Centroids, Centroids] | None = None


def compare_labels(
    fixed: Labelled, moving: Labelled, bodies: np.ndarray | None = None, cut: frozenset[int] = frozenset()
) -> Agreement:
    """Compare the label maps of two scans.

    Args:
        fixed, moving: VerSe ids, each on its own grid.
        bodies: the part of the moving labels that is compared with the fixed ones, on the grid of `moving`; None for
            all of them.
        cut: vertebrae that the border of a scan cuts; their volumes are not compared.
    """
    compared = moving if bodies is None else (bodies, moving[1])
    own_bodies: np.ndarray | None = None
    doubts: tuple[str, ...] = ()
    share = _ratio(fixed, compared, {ATLAS} | cut)
    if share is not None and bodies is None and share <= LARGEST_BODY_SHARE:
        own_bodies = bodies_by_cut(*moving)
        ratio = _ratio(fixed, (own_bodies, moving[1]), {ATLAS} | cut)
        if ratio is None or not BODY_RATIO[0] < ratio < BODY_RATIO[1]:
            own_bodies = None
    if own_bodies is not None:  # like is compared with like
        compared = own_bodies, moving[1]
        doubts = (f"fixed labels have {100 * (share or 0):.0f} % of the volume of the moving ones, like vertebral "
                  "bodies alone; `evaluate: bodies` (--evaluate bodies) compares like with like",)  # fmt: skip
    elif share is not None and not 1 / DOUBTFUL_RATIO <= share <= DOUBTFUL_RATIO:
        doubts = (_volume_doubt(share, bodies is not None),)
    numbering = numbering_doubt(*fixed, *compared, cut)
    points = None if own_bodies is None else (centroids_mm(*fixed), centroids_mm(*compared))
    return Agreement(doubts if numbering is None else (*doubts, numbering), points)


def _volume_doubt(share: float, of_bodies: bool) -> str:
    """The clause for volumes that differ. share: fixed over moving; of_bodies: bodies of the moving labels."""
    part = "vertebral bodies of the moving labels" if of_bodies else "moving labels of the same vertebrae"
    found = f"fixed labels have {100 * share:.0f} % of the volume of the {part} (median)"
    if of_bodies and share > 1:
        return f"{found}; whole vertebrae? `evaluate: vertebrae` compares these"
    return f"{found}; bodies against whole vertebrae, or other structures? Their overlap cannot be high"


def _ratio(fixed: Labelled, moving: Labelled, without: Iterable[int]) -> float | None:
    """The median over common vertebrae of the fixed over the moving volume, or None without a common one."""
    a, b = _volumes_mm3(*fixed), _volumes_mm3(*moving)
    common = sorted(set(a) & set(b) - set(without)) or sorted(set(a) & set(b) - {ATLAS})
    return float(np.median([a[v] / b[v] for v in common])) if common else None


def _volumes_mm3(labels: np.ndarray, grid: Grid) -> dict[int, float]:
    ids, counts = np.unique(labels[labels > 0], return_counts=True)
    return {int(v): float(n * np.prod(grid.spacing_mm)) for v, n in zip(ids, counts, strict=True)}
