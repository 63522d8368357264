"""The teacher's displacements: what the row found at the network's resolution, computed once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from methods.base import Case, Method, Pair, Registration
from methods.initial import Initial
from methods.registry import METHODS
from methods.voxelmorph import teacher
from methods.voxelmorph.teacher import Teacher


class Shift(Method):
    """A constant displacement of 1, 2 and 3 mm along x, y and z; `asked` are the pairs that it has registered."""

    asked: list[Pair] = []  # noqa: RUF012

    def register(self, pair: Pair) -> Registration:
        self.asked.append(pair)
        return Registration(np.broadcast_to(np.float32([1, 2, 3]), (*pair.grid.shape, 3)).copy())


class Alone(Initial):
    """A row that needs a new process for each case."""

    fresh_process = True


@pytest.fixture(autouse=True)
def rows(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, factory in (("shift", Shift), ("alone", Alone)):
        monkeypatch.setitem(METHODS._added, name, replace(METHODS["initial"], name=name, factory=factory, settings={}))
    Shift.asked.clear()


def test_the_displacement_is_given_in_voxels_of_the_half_resolution(cache_folder: Path, pairs: list[Pair]) -> None:
    for shrink_factor, size in ((1, 16), (2, 16 // 2)):
        found = Teacher("shift", pairs, shrink_factor, 0)(0)
        assert found.shape == (1, 3, size, size, size) and found.dtype == torch.float32
        expected = torch.tensor([3.0, 2.0, 1.0]) / (2 * shrink_factor)
        torch.testing.assert_close(found.amax((0, 2, 3, 4)), expected)
        torch.testing.assert_close(found.amin((0, 2, 3, 4)), expected)


def test_a_pair_is_registered_once_for_all_trainings(cache_folder: Path, pairs: list[Pair]) -> None:
    first = Teacher("shift", pairs, 1, 0)
    found = [first(0), first(0), Teacher("shift", pairs, 1, 0)(0)]
    assert len(Shift.asked) == 1 and torch.equal(found[0], found[2])


def test_what_determines_the_displacement_is_in_the_name_of_its_file(
    cache_folder: Path, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    Teacher("shift", pairs, 1, 0)(0)
    image = pairs[0].fixed.image + np.float32(1e-3)
    changed = replace(pairs[0], fixed=replace(pairs[0].fixed, image=image))
    others = (Teacher("shift", [changed], 1, 0), Teacher("shift", pairs, 2, 0), Teacher("shift", pairs, 1, 7))
    for count, other in enumerate(others, 2):
        other(0)
        assert len(Shift.asked) == count
    monkeypatch.setattr(Shift, "fingerprint", lambda _: "other weights")
    Teacher("shift", pairs, 1, 0)(0)
    monkeypatch.setattr(teacher, "_code", lambda _: "other code")
    Teacher("shift", pairs, 1, 0)(0)
    assert len(Shift.asked) == 6


def test_the_row_does_not_see_fixed_labels(cache_folder: Path, pairs: list[Pair], cases: list[Case]) -> None:
    Teacher("shift", pairs, 1, 0)(1)
    assert cases[1].pair.fixed.labels is not None
    assert Shift.asked[0].fixed.labels is None


def test_without_a_cache_the_displacement_stays_in_memory(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGIDBENCH_CACHE", "off")
    shift = Teacher("shift", pairs, 1, 0)
    assert torch.equal(shift(0), shift(0)) and len(Shift.asked) == 1


def test_a_pair_without_a_displacement_is_named(pairs: list[Pair], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIGIDBENCH_CACHE", "off")
    monkeypatch.setattr(Shift, "register", lambda _, pair: Registration(np.zeros((1, 1, 1, 3), np.float32)))
    with pytest.raises(ValueError, match=r"teacher shift: expected a displacement of block-2, got: displacement_mm"):
        Teacher("shift", pairs, 1, 0)(2)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("deformabel", "unknown method 'deformabel'"),
        ("precomputed", "teacher: expected a row that can register training pairs, got precomputed: "),
        ("alone", "got alone: it does not register pair after pair within one process on the CPU"),
    ],
)
def test_a_row_that_cannot_teach_is_refused(row: str, message: str, pairs: list[Pair]) -> None:
    with pytest.raises(ValueError, match=r"method|teacher") as caught:
        Teacher(row, pairs, 1, 0)
    assert message in str(caught.value)
