"""The scheme under which ids are consecutive is found among the project's maps."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.io.other_schemes import fitting_schemes, names_more
from methods.base import Grid

GRID = Grid((104, 12, 12))


def column(*ids: int) -> np.ndarray:
    """Blocks of 14 mm, one above the other, from the bottom up."""
    labels = np.zeros(GRID.shape, np.uint16)
    for i, v in enumerate(ids):
        labels[2 + 16 * i : 16 + 16 * i, 3:9, 3:9] = v
    return labels


@pytest.mark.parametrize(
    ("ids", "chosen", "schemes"),
    [
        ((43, 44, 45), None, ("totalsegmentator-2",)), ((18, 19), None, ("totalsegmentator-1", "totalsegmentator-mr")),
        ((27, 28, 29), None, ("totalsegmentator-1", "totalsegmentator-2")), ((24, 23, 22), "spider", ("verse",)),
        ((27, 28, 30), None, ()), ((27,), None, ()), ((29, 28, 27), "totalsegmentator", ()),
        ((24, 23, 200), "spider", ()),
    ],
)  # fmt: skip
def test_the_schemes_of_a_column(ids: tuple[int, ...], chosen: str | None, schemes: tuple[str, ...]) -> None:
    assert fitting_schemes(column(*ids), GRID, chosen) == schemes


def test_the_named_vertebrae_are_counted() -> None:
    stored = column(24, 25, 26, 27)
    assert names_more("totalsegmentator-1", stored, np.where(stored == 27, 24, 0)) == 3
