"""The rows are names with penalties, whose weights stand in one table."""

from __future__ import annotations

import pytest

from methods.deformable.variants import ROWS, WEIGHTS, weights_of
from methods.registry import METHODS, PENALTIES, create_method
from methods.voxelmorph.variants import VARIANTS


def test_every_row_is_registered_with_its_settings() -> None:
    assert {"deformable", "deformable-pc+oc", "refined"} <= set(ROWS)
    for name, settings in ROWS.items():
        assert METHODS[name].settings == settings
        assert create_method(name).settings.penalties == settings["penalties"]


def test_every_penalty_has_a_row_and_a_weight() -> None:
    built_in = [entry.name for entry in PENALTIES if entry.origin == "built in"]
    assert sorted(WEIGHTS) == sorted(built_in)
    assert {f"deformable-{name}" for name in built_in} <= set(ROWS)
    assert set(WEIGHTS) <= set(VARIANTS), "each has a deep row too"


def test_weights_are_the_rows_own_or_given() -> None:
    assert weights_of({"pc": None, "oc": 0.7}) == {"pc": WEIGHTS["pc"], "oc": 0.7}
    with pytest.raises(ValueError, match=r"penalties.mine: expected a weight, got none; pc, oc, .* have a default"):
        create_method("deformable", {"penalties": {"mine": None}})
