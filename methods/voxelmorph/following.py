"""Whether the displacement of a method follows a shift of the CT.

The mean displacement of a method that uses the images grows by the shift (1.00); that of a method that predicts the
same displacement for every input does not change (0.00). Pre-alignment leaves little motion along the spine, so a
network may not learn to follow there. Fixed labels are not used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np

from methods.base import Pair

SHIFTS_MM = (-4.0, 4.0)
AXES = ("along the spine", "front to back", "left to right")
Fields = Callable[[Iterable[Pair]], Iterable[np.ndarray]]


def shifted(pair: Pair, axis: int, voxels: int) -> Pair:
    """The pair, its moving scan shifted by `voxels` along an axis (z, y, x), with periodic borders."""
    scan = pair.moving
    arrays = (scan.image, scan.labels, scan.inside)
    image, labels, inside = (None if a is None else np.roll(a, voxels, axis) for a in arrays)
    assert image is not None
    return replace(pair, moving=replace(scan, image=image, labels=labels, inside=inside))


def follows(fields: Fields, pairs: Sequence[Pair], shifts_mm: Sequence[float] = SHIFTS_MM) -> np.ndarray:
    """Measure the growth of the mean displacement on the moving labels per mm of shift.

    Args:
        fields: gives the displacement of each pair, in order, in mm (z, y, x, 3), components x, y, z in LPS.
        pairs: registration pairs.
        shifts_mm: two or more different shifts, each rounded to whole voxels, at least one unless it is 0.

    Returns:
        (3,), for the axes z, y and x of the grids; the mean over the pairs, 1 for a displacement that follows.
    """
    cases = [
        (pair, axis, _voxels(mm, pair.grid.spacing_mm[2 - axis]))
        for pair in pairs for axis in range(3) for mm in shifts_mm
    ]  # fmt: skip
    applied_mm, found_mm = [], []
    for (pair, axis, voxels), field in zip(cases, fields(shifted(*case) for case in cases), strict=True):
        assert pair.moving.labels is not None
        along_axes = field[pair.moving.labels > 0] @ pair.grid.matrix
        applied_mm.append(voxels * pair.grid.spacing_mm[2 - axis])
        found_mm.append(along_axes.mean(0)[2 - axis])
    of_axes = np.reshape([applied_mm, found_mm], (2, len(pairs) * 3, len(shifts_mm)))
    slopes = [np.polyfit(applied, found, 1)[0] for applied, found in zip(*of_axes, strict=True)]
    return np.reshape(slopes, (len(pairs), 3)).mean(0)


def _voxels(shift_mm: float, spacing_mm: float) -> int:
    """A shift in whole voxels, away from 0."""
    return int(np.sign(shift_mm)) * max(1, round(abs(shift_mm) / spacing_mm))
