"""`Column`: the declaration of one column of the results tables, with its title, unit and better end.

A metric declares its column where it is registered (methods/registry.py), so the class is in this package too.
Readers import it from `benchmark.results.columns`, which adds the columns that no metric computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

Per = Literal["vertebra", "case"]
Better = Literal["higher", "lower"]
DTYPES = ("Float64", "Int64", "boolean", "string")


@dataclass(frozen=True)
class Column:
    """A declared column.

    Args:
        name: the column's name in pairs.parquet, vertebrae.parquet or cases.parquet.
        per: whether there is one value for each vertebra or one for each case.
        dtype: the pandas type, one of `Float64`, `Int64`, `boolean` and `string`. Each has a null.
        unit: "" for a number without unit, else as printed: "mm", "%", "s", "deg", "MB".
        title: the heading in tables and figures, without unit.
        better: which end is better; None where neither is.
        description: one sentence for readers.
        metric: whether a registered metric computes it.

    Raises:
        ValueError: a field has a value that it cannot have.
    """

    name: str
    per: Per
    dtype: str = "Float64"
    unit: str = ""
    title: str = ""
    better: Better | None = None
    description: str = ""
    metric: bool = False

    def __post_init__(self) -> None:
        if not self.title:
            object.__setattr__(self, "title", self.name)
        allowed = {"per": get_args(Per), "dtype": DTYPES, "better": (*get_args(Better), None)}
        for field, values in allowed.items():
            value = getattr(self, field)
            if value not in values:
                expected = ", ".join(map(repr, values))
                raise ValueError(f"column {self.name!r}: {field}: expected one of {expected}, got {value!r}")
        for field in ("name", "unit", "title", "description"):
            if not isinstance(getattr(self, field), str):
                raise ValueError(f"column {self.name!r}: {field}: expected text, got {getattr(self, field)!r}")
