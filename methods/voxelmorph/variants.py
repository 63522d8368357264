"""The deep rows of Table 1 and the supplement's direct volume loss: each variant is a name and its penalties.

The weight of a penalty belongs to the profile of the training. The weights of `paper` are those of the released code.
The weights of `cpu` and `from-scratch` were chosen on validation patients, with a smoothness of a hundred times the
paper's (docs/training.md). A combination uses the weights of its single penalties. The paper prints no weight for
`volume`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

WEIGHTS_FOLDER = Path(__file__).parent / "weights"  # of the released weights, NAME.safetensors for each row
WEIGHTS: Mapping[str, Mapping[str, float]] = {
    "paper": {"pc": 0.01, "oc": 0.005, "rigid-dice": 0.1, "rigid-field": 0.01, "volume": 0.1},
    "cpu": {"pc": 12.0, "oc": 2.0, "rigid-dice": 4.0, "rigid-field": 0.2, "volume": 80.0},
    "from-scratch": {"pc": 2.0, "oc": 1.0, "rigid-dice": 1.0, "rigid-field": 0.03, "volume": 30.0},
}
_ROWS = ("pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice", "pc+rigid-field", "volume")

VARIANTS: Mapping[str, Mapping[str, None]] = {
    "voxelmorph": {},
    **{row: dict.fromkeys(row.split("+")) for row in _ROWS},
}


def weights_of(penalties: Mapping[str, float | None], profile: str) -> dict[str, float]:
    """The weight of each penalty.

    Args:
        penalties: weights by name; None selects the profile's weight.
        profile: cpu, from-scratch or paper.

    Raises:
        ValueError: the profile has no weight for a penalty without one.
    """
    known = WEIGHTS[profile]
    for name, weight in penalties.items():
        if weight is None and name not in known:
            raise ValueError(f"penalties.{name}: expected a weight, got none; the profile {profile} has weights "
                             f"for {', '.join(known)} only")  # fmt: skip
    return {name: known[name] if weight is None else weight for name, weight in penalties.items()}
