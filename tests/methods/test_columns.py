"""`Column`: its defaults, and the values that it refuses."""

from __future__ import annotations

from typing import Any

import pytest

from methods.columns import Column


def test_a_column_is_a_number_named_by_its_title() -> None:
    column = Column("gap_mm", "vertebra")
    assert (column.dtype, column.title, column.unit, column.better) == ("Float64", "gap_mm", "", None)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"per": "voxel"}, "column 'x': per: expected one of 'vertebra', 'case', got 'voxel'"),
        ({"per": "case", "dtype": "float"}, "column 'x': dtype: expected one of 'Float64', .*, got 'float'"),
        ({"per": "case", "better": "max"}, "column 'x': better: expected one of 'higher', 'lower', None, got 'max'"),
        ({"per": "case", "unit": None}, "column 'x': unit: expected text, got None"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Column("x", **fields)
