"""The start is kept where the end is not better by mutual information in the voxels that both scans saw."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.shifted_pair import shifted_pair

from benchmark.datasets.resampling import fill_unseen
from methods.base import Grid, Pair, Registration
from methods.kept_start import better_of_start_and_end, kept_start

GRID = Grid((32, 40, 36))
SHIFT = (1.0, -2.0, 1.5)  # voxels z, y, x: the true displacement


def pair_in_slab(seen: bool = True) -> Pair:
    """A shifted pair, both scans seen between 8 voxels from the sides along y."""
    pair = shifted_pair(GRID, SHIFT)
    inside = np.zeros(GRID.shape, bool)
    inside[:, 8:-8] = True
    scans = [replace(s, image=fill_unseen(s.image, inside), inside=inside) for s in (pair.fixed, pair.moving)]
    return Pair("p", *scans) if seen else pair


def field(z: float, y: float, x: float) -> Registration:
    return Registration(np.broadcast_to(np.float32([x, y, z]), (*GRID.shape, 3)).copy(), {"library": "1"})


def test_a_better_end_is_kept_with_both_values() -> None:
    result = better_of_start_and_end(field(*SHIFT), pair_in_slab())
    assert np.array_equal(result.displacement_mm, field(*SHIFT).displacement_mm)
    assert result.notes["own_metric_end"] > result.notes["own_metric_start"] and "warning" not in result.notes
    assert result.notes["library"] == "1"


def test_a_worse_end_gives_the_start_and_a_printed_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    wrong = field(-SHIFT[0] * 2, -SHIFT[1] * 2, -SHIFT[2] * 2)
    result = better_of_start_and_end(wrong, pair_in_slab())
    assert not result.displacement_mm.any()
    assert result.notes["own_metric_end"] < result.notes["own_metric_start"]
    assert "it lowered mutual information in the field of view" in str(result.notes["warning"])
    assert "p: the start was kept" in capsys.readouterr().err


def test_an_end_out_of_view_gives_the_start() -> None:
    result = better_of_start_and_end(field(0, 20, 0), pair_in_slab())
    assert not result.displacement_mm.any()
    assert "out of each other's view, of 83% of what both saw" in str(result.notes["warning"])


def test_what_no_scan_saw_does_not_count() -> None:
    """Other values outside of the slab do not change the comparison."""
    pair = pair_in_slab()
    noise = np.random.default_rng(0).random(GRID.shape, np.float32)
    other = replace(pair.fixed, image=np.where(pair.fixed.inside, pair.fixed.image, noise))
    first, second = (better_of_start_and_end(field(*SHIFT), p).notes for p in (pair, replace(pair, fixed=other)))
    assert first == second


def test_without_limits_the_end_is_returned_unchecked() -> None:
    end = field(0, 20, 0)
    assert better_of_start_and_end(end, pair_in_slab(seen=False)) is end


def test_the_kept_start_is_no_displacement() -> None:
    result = kept_start(pair_in_slab(), "it failed", {"a": 1.0})
    assert not result.displacement_mm.any() and result.displacement_mm.dtype == np.float32
    assert result.notes == {"a": 1.0, "warning": "the start was kept in place of the registration: it failed"}


def test_a_narrow_common_view_is_a_printed_doubt(capsys: pytest.CaptureFixture[str]) -> None:
    pair = pair_in_slab()
    inside = np.zeros(GRID.shape, bool)
    inside[:, 10:-10] = True
    narrow = replace(pair, fixed=replace(pair.fixed, inside=inside))
    result = better_of_start_and_end(field(*SHIFT), narrow)
    assert result.displacement_mm.any()
    assert str(result.notes["warning"]).startswith("the common field of view is 20 voxels wide, and 24 are needed")
    assert "p: the common field of view" in capsys.readouterr().err
