"""The scheme under which ids are consecutive is found among the project's maps."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.io import other_schemes
from benchmark.datasets.io.other_schemes import fitting_schemes
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


def test_schemes_that_name_too_few_ids_are_left_out() -> None:
    stored = column(24, 25, 26, 27)
    assert fitting_schemes(stored, GRID, "totalsegmentator-2", least=4) == ("totalsegmentator-1",)
    assert fitting_schemes(stored, GRID, "totalsegmentator-2", least=5) == ()


def test_large_files_are_measured_on_every_second_voxel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(other_schemes, "MANY_VOXELS", 1000)
    assert fitting_schemes(column(43, 44, 45), GRID, None) == ("totalsegmentator-2",)
    assert fitting_schemes(column(43, 45, 44), GRID, None) == ()
