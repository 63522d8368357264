"""Names of vertebrae."""

from __future__ import annotations

import pytest

from methods.vertebrae import VERTEBRAE, named, place_in_spine, vertebra_name


@pytest.mark.parametrize(
    ("number", "name"), [(1, "C1"), (7, "C7"), (8, "T1"), (19, "T12"), (20, "L1"), (25, "L6"), (28, "T13"), (26, "26")]
)
def test_an_id_has_its_anatomical_name(number: int, name: str) -> None:
    assert vertebra_name(number) == name


def test_t13_lies_between_t12_and_l1() -> None:
    assert [vertebra_name(v) for v in VERTEBRAE[17:21]] == ["T11", "T12", "T13", "L1"]


def test_an_id_in_a_message_has_its_name() -> None:
    assert (named(22), named(52)) == ("L3 (22)", "52")


def test_vertebrae_are_ordered_from_the_head_down_and_other_numbers_follow() -> None:
    assert sorted([100, 28, 20, 26, 7, 19], key=place_in_spine) == [7, 19, 28, 20, 26, 100]
