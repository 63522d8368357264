"""Vertebrae that the border of a scan cuts, on the grid on which the scan was stored."""

from __future__ import annotations

import numpy as np


def cut_vertebrae(labels: np.ndarray, image: np.ndarray | None = None) -> frozenset[int]:
    """List the labels in the first or last slice of a scan along any axis.

    Slices of one value at the ends are padding; the scan begins behind them.

    Args:
        labels: integer (z, y, x), 0 = background.
        image: (z, y, x), the scan on the same grid; None for a scan without padding.

    Returns:
        The ids.
    """
    ids: set[int] = set()
    for axis in range(3):
        for index in (0, labels.shape[axis] - 1) if image is None else _ends(image, axis):
            ids.update(int(v) for v in np.unique(np.take(labels, index, axis)))
    return frozenset(ids - {0})


def _ends(image: np.ndarray, axis: int) -> tuple[int, int]:
    """The first and the last slice along `axis` that has more than one value."""
    size = image.shape[axis]
    first = next((i for i in range(size) if np.ptp(np.take(image, i, axis))), 0)
    last = next((i for i in reversed(range(size)) if np.ptp(np.take(image, i, axis))), size - 1)
    return first, last
