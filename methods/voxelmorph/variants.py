"""The deep rows of Table 1, and the supplement's direct volume loss: a variant is a name and its penalties' weights.

Weights as in the code released with the paper; a combination uses the single ones. That of `volume`, which the paper
does not print, is to be chosen on validation patients so that its volume change matches that of `pc`.
"""

from __future__ import annotations

from collections.abc import Mapping

_WEIGHTS = {"pc": 0.01, "oc": 0.005, "rigid-dice": 0.1, "rigid-field": 0.01, "volume": 0.1}
_ROWS = ("pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice", "pc+rigid-field", "volume")

VARIANTS: Mapping[str, Mapping[str, float]] = {
    "voxelmorph": {},
    **{row: {name: _WEIGHTS[name] for name in row.split("+")} for row in _ROWS},
}
