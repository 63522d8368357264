"""The rows that optimise each pair: a name, its penalties and its start.

A penalty without a weight has the one of `WEIGHTS`, which was chosen on validation patients
(tests/checks/tuning/deformable.md). A combination has the weights of its single penalties.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

WEIGHTS: Mapping[str, float] = {"pc": 0.1, "oc": 0.1, "rigid-dice": 0.1, "rigid-field": 0.02, "volume": 1.0}
_PENALISED = ("pc", "oc", "rigid-dice", "rigid-field", "volume", "pc+oc")

ROWS: Mapping[str, Mapping[str, Any]] = {
    "deformable": {"penalties": {}},
    **{f"deformable-{name}": {"penalties": dict.fromkeys(name.split("+"))} for name in _PENALISED},
    "refined": {"penalties": {"pc": None, "oc": None}, "start": "voxelmorph"},
}


def weights_of(penalties: Mapping[str, float | None]) -> dict[str, float]:
    """The weight of each penalty.

    Args:
        penalties: weights by name; None selects the one of `WEIGHTS`.

    Raises:
        ValueError: a penalty without a weight has none in `WEIGHTS`.
    """
    for name, weight in penalties.items():
        if weight is None and name not in WEIGHTS:
            raise ValueError(
                f"penalties.{name}: expected a weight, got none; {', '.join(WEIGHTS)} alone have a default"
            )
    return {name: WEIGHTS[name] if weight is None else weight for name, weight in penalties.items()}
