"""The paper's numeric claims, each a comparison of two rows in one column.

The values of its Table 1 count; where the paper's text gives another number, a note says so. `verdicts` compares the
claims with a run.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from reports.paper import BASELINE, TABLE1, label
from reports.stats.intervals import Difference

Kind = Literal["more", "more at equal DSC", "less", "at most", "not worse", "faster", "less at equal volume"]
# The table gives DSC to two decimals, and its largest difference from the baseline prints as 0.01.
DSC_MARGIN = 0.015
# The table gives SD log|J| to two decimals: half the last decimal, 0.005 of the baseline's 0.13, does not count.
SD_MARGIN = 0.04
# Two volume changes are alike where they differ by at most a fifth of the smaller one.
SAME_VOLUME = 0.2
# A target registration error is as large as the baseline's where it is less than a tenth larger.
TRE_MARGIN = 0.1
_NAMES = {"soft_dsc": "soft DSC", "soft_rigid_dsc": "soft rigid DSC", "volume_change_pct": "%Δvol", "properness": "PC",
          "seconds": "time", "sd_log_jacobian_l2r": "SD log|J| l2r", "tre_mm": "TRE",
          "landmark_tre_mm": "landmark TRE"}  # fmt: skip
_UNITS = {"volume_change_pct": " %", "tre_mm": " mm", "landmark_tre_mm": " mm"}
# The paper's column of ours: its table is on the scale of its released code.
PAPERS = {"soft_dsc": "dsc", "soft_rigid_dsc": "rigid_dsc", "sd_log_jacobian_l2r": "sd_log_jacobian"}


@dataclass(frozen=True)
class Claim:
    """One comparison that a sentence of the paper makes: `method` against `other` in one column.

    Attributes:
        sentence: The paper's claim.
        method: The method that the claim is about.
        other: The method that it is compared with.
        key: The column.
        kind: `more` or `less` than the other; `at most` as much (the other's value plus the share SD_MARGIN or
            TRE_MARGIN of it);
            `not worse` (less than DSC_MARGIN below the other: non-inferiority); `faster` (the other's time over the
            method's); `more at equal DSC`, of the penalties' curves (`curves`); `less at equal volume`, where both
            change volume alike.
        note: Where the paper's text differs from its table.
    """

    sentence: str
    method: str
    other: str
    key: str
    kind: Kind
    note: str = ""

    @property
    def printed(self) -> float | None:
        """The paper's own difference (or ratio of times), from its table; None where the table lacks it."""
        ours, others = (TABLE1.get(name, {}).get(PAPERS.get(self.key, self.key)) for name in (self.method, self.other))
        if ours is None or others is None:
            return None
        return others[0] / ours[0] if self.kind == "faster" else round(ours[0] - others[0], 4)

    @property
    def above(self) -> bool:
        """Whether the claim holds where our difference lies above its limit."""
        return self.kind in ("more", "more at equal DSC", "not worse", "faster")

    def limit(self, others: float) -> float:
        """Return the difference (or ratio of times) from which on the claim holds.

        Args:
            others: The mean of the row that the method is compared with.
        """
        share = SD_MARGIN if self.key == "sd_log_jacobian_l2r" else TRE_MARGIN
        return {"faster": 1.0, "not worse": -DSC_MARGIN, "at most": share * others}.get(self.kind, 0.0)

    @property
    def question(self) -> str:
        """The comparison in a few words."""
        words = {
            "more": ">",
            "more at equal DSC": "> (at equal DSC)",
            "less": "<",
            "at most": "≤",
            "not worse": "not worse than",
            "faster": "faster than",
            "less at equal volume": "<",
        }
        return f"{_NAMES[self.key]}: {label(self.method)} {words[self.kind]} {label(self.other)}"


_BASE = BASELINE
_SAME = "The anatomy-aware losses keep the accuracy untouched."
_RIGID = "rigid dice, rigid field and oc attain a higher rigid DSC than the baseline."
_HIGHEST = "Among them rigid dice is the most rigid."
_COMBINED = "Combined with pc, the penalties reduce the volume change and keep the rigidity."
_SMOOTH = "The combinations yield smooth fields."
CLAIMS = (
    Claim("The baseline is more accurate than Staring.", _BASE, "staring", "soft_dsc", "more",
          "the text says 1.5 %, the table's 0.77 to 0.78 is 1.3 %"),
    Claim("The baseline is faster than Staring.", _BASE, "staring", "seconds", "faster",
          "the text says 100 times, the table's 243 s to 3.5 s is 69 times"),
    Claim("The baseline does not keep the vertebrae rigid.", _BASE, "staring", "soft_rigid_dsc", "less"),
    Claim("The baseline changes the vertebrae's volume drastically.", _BASE, "staring", "volume_change_pct", "more"),
    Claim("pc preserves the volume.", "pc", _BASE, "volume_change_pct", "less",
          'the text says "only 4.8 % loss", the table\'s 4.80 is an absolute change, gain or loss'),
    Claim(_RIGID, "rigid-dice", _BASE, "soft_rigid_dsc", "more",
          "the text says 5.7 %, the table's 0.86 to 0.90 is 4.7 %"),
    Claim(_RIGID, "rigid-field", _BASE, "soft_rigid_dsc", "more"),
    Claim(_RIGID, "oc", _BASE, "soft_rigid_dsc", "more"),
    Claim(_HIGHEST, "rigid-dice", "rigid-field", "soft_rigid_dsc", "more at equal DSC"),
    Claim(_HIGHEST, "rigid-dice", "oc", "soft_rigid_dsc", "more at equal DSC"),
    *(Claim(_COMBINED, m, _BASE, "volume_change_pct", "less") for m in ("pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    *(Claim(_COMBINED, m, _BASE, "soft_rigid_dsc", "more") for m in ("pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    *(Claim(_SMOOTH, m, _BASE, "sd_log_jacobian_l2r", "at most") for m in ("pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    *(Claim(_SAME, m, _BASE, "soft_dsc", "not worse", "the text says comparable accuracy: here at most 0.015 worse")
      for m in ("pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    Claim("At equal volume change pc leaves a lower properness error than the direct volume loss.", "pc", "volume",
          "properness", "less at equal volume", "the paper's values are in its supplement only"),
    Claim("oc lowers the properness error too.", "oc", _BASE, "properness", "less",
          "the paper's values are in its supplement only"),
)  # fmt: skip
_NO_TRE = "the paper has no landmarks; asked where truth or landmarks are known"
_OF_ERRORS = (
    Claim("The baseline is more accurate than Staring.", _BASE, "staring", "tre_mm", "less", _NO_TRE),
    *(Claim(_SAME, m, _BASE, "tre_mm", "at most", _NO_TRE)
      for m in ("pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice", "pc+rigid-field")),
)  # fmt: skip


def claims_of(columns: Collection[str]) -> list[Claim]:
    """Return the claims that a run is asked: CLAIMS, and those on accuracy by the errors that it knows.

    Args:
        columns: The columns of its Table 1.
    """
    known = [key for key in ("tre_mm", "landmark_tre_mm") if key in columns]
    return [*CLAIMS, *(replace(claim, key=key) for key in known for claim in _OF_ERRORS)]


def amount(claim: Claim, value: float | None) -> str:
    """Return a claim's difference, or ratio of times, with its unit; a dash for null."""
    if value is None or np.isnan(value):
        return "–"
    if claim.kind == "faster":
        return f"{value:.0f}x" if value >= 10 else f"{value:.2f}x"
    decimals = 2 if claim.key in _UNITS else 5 if claim.key == "properness" else 3
    return f"{value:+.{decimals}f}{_UNITS.get(claim.key, '')}"


def with_interval(claim: Claim, ours: Difference) -> str:
    """Return a claim's difference, or ratio of times, with its 95 % interval where there is one."""
    if np.isnan(ours.low):
        return amount(claim, ours.mean)
    return f"{amount(claim, ours.mean)} [{amount(claim, ours.low)}, {amount(claim, ours.high)}]"
