"""Doubts about the matches of vertebrae, which a cell prints and notes."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from support.bone_pairs import PLAIN, moved_pair, register, spine

from methods.base import Pair
from methods.bones.doubts import doubts
from methods.bones.search import BoneMatches

STILL = np.eye(4)


def shifted(*mm: float) -> np.ndarray:
    """A shift, fixed -> moving."""
    result = np.eye(4)
    result[:3, 3] = mm
    return result


def test_neighbours_that_move_alike_are_no_doubt() -> None:
    matches = BoneMatches({20: shifted(9, 0, 0), 21: shifted(9, 0, 2)}, {}, {})
    assert doubts(matches, spine(PLAIN), PLAIN) == []


def test_neighbours_that_are_moved_apart_are_named() -> None:
    (doubt,) = doubts(BoneMatches({20: STILL, 21: shifted(0, 3, 4)}, {}, {}), spine(PLAIN), PLAIN)
    assert doubt == "moved apart at their disc, so that one may be misplaced: L1 and L2 (5.0 mm)"


def test_a_vertebra_that_was_not_found_is_named_and_not_compared() -> None:
    matches = BoneMatches({20: STILL, 21: shifted(0, 3, 4)}, {}, {21: 20})
    assert doubts(matches, spine(PLAIN), PLAIN) == ["not found, moved as a neighbour: L2 (as L1)"]


def test_a_doubt_is_printed_and_noted(capsys: pytest.CaptureFixture[str]) -> None:
    """The fixture moves its two bones 7 mm apart, as no spine does."""
    registration = register("polyrigid", moved_pair(PLAIN))
    assert str(registration.notes["warning"]).startswith("moved apart at their disc")
    assert f"small: {registration.notes['warning']}" in capsys.readouterr().err


def test_a_single_vertebra_has_no_doubt() -> None:
    pair = moved_pair(PLAIN, keep=(20,))
    assert "warning" not in register("edt-interpolation", Pair("p", replace(pair.fixed), pair.moving)).notes


def test_a_vertebra_borrows_from_its_neighbour_in_the_spine() -> None:
    """T13 (28) from T12 or L1, whose ids are far from its own, and not from L5 (24)."""
    found = dict.fromkeys((18, 19, 24), STILL)
    assert BoneMatches.completed(found, [18, 19, 28, 24]).borrowed == {28: 19}
