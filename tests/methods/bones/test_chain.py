"""The chain of matches agrees with the images and with the neighbours."""

from __future__ import annotations

import numpy as np
import pytest

from methods.bones.chain import are_neighbours, choose, gaps_mm


def shifted(*heights: float) -> np.ndarray:
    """Translations along z as transforms (k, 4, 4)."""
    result = np.tile(np.eye(4), (len(heights), 1, 1))
    result[:, 2, 3] = heights
    return result


def test_neighbours_decide_between_two_matches() -> None:
    """The middle bone matches better 25 mm away, but there it does not agree with its neighbours."""
    centres = np.array([[0, 0, 0], [0, 0, 30], [0, 0, 60.0]])
    sure = (shifted(1.0), np.array([0.1]))
    assert choose(centres, [sure, (shifted(26, 2), np.array([0.1, 0.15])), sure]) == [0, 1, 0]
    assert choose(centres, [sure, (shifted(4, 2), np.array([0.1, 0.15])), sure]) == [0, 0, 0]
    assert choose(centres[:1], [(shifted(26, 2), np.array([0.1, 0.15]))]) == [0]


def test_a_vertebra_whose_match_disagrees_with_its_neighbours_is_left_out() -> None:
    """A gap of 25 mm costs 6.25 on each side and leaving out costs 3; a gap of 10 mm to one neighbour costs 1."""
    centres = np.array([[0, 0, 0], [0, 0, 30], [0, 0, 60.0]])
    sure, away, near = ((shifted(h), np.array([0.1])) for h in (1.0, 26.0, 11.0))
    assert choose(centres, [sure, away, sure]) == [0, None, 0]
    assert choose(centres, [sure, sure, near]) == [0, 0, 0]


def test_the_gap_is_the_distance_at_the_middle_between_two_centres() -> None:
    """A turn about that middle makes no gap."""
    centres = {20: np.array([0.0, 0, 30]), 21: np.zeros(3), 23: np.array([0.0, 0, -60])}
    turn = np.array([[1, 0, 0, 0], [0, 0, -1, 15], [0, 1, 0, 15], [0, 0, 0, 1.0]])
    still, away = shifted(0.0, 2.0)
    assert gaps_mm(centres, {20: still, 21: away, 23: still}) == pytest.approx({(20, 21): 2})
    assert gaps_mm(centres, {20: turn, 21: still}) == pytest.approx({(20, 21): 0})


@pytest.mark.parametrize(
    ("upper", "lower", "expected"), [(19, 20, True), (19, 28, True), (28, 20, True), (20, 22, False), (20, 19, False)]
)
def test_neighbours_are_those_of_the_spine(upper: int, lower: int, expected: bool) -> None:
    """T13 (28) lies between T12 (19) and L1 (20)."""
    assert are_neighbours(upper, lower) == expected
