"""The paper's numeric claims, each compared with a run: the value of its Table 1, ours, and a verdict.

The values of the table count; where the paper's text gives another number, a note says so. A verdict compares our 95 %
interval (bootstrap by patient) with the side of the claim. The size of the effect is printed, but does not count.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from reports.paper import TABLE1, label
from reports.run_data import DataSet, Row
from reports.stats.comparisons import differences, mean_interval
from reports.stats.tests import Difference, bootstrap_mean, bootstrap_ratio

Kind = Literal["more", "less", "at most", "same", "faster", "less at equal volume"]
# The table gives DSC to two decimals, and its largest difference from the baseline prints as 0.01.
SAME_DSC = 0.015
# The table gives SD log|J| to two decimals: a smaller rise than half the last decimal does not count.
SAME_SD = 0.005
# Two volume changes are alike where they differ by at most a fifth of the smaller one.
SAME_VOLUME = 0.2
_UNITS = {"dsc": "", "rigid_dsc": "", "volume_change_pct": " %", "properness": "", "seconds": ""}
_NAMES = {"dsc": "DSC", "rigid_dsc": "rigid DSC", "volume_change_pct": "%Δvol", "properness": "PC", "seconds": "time",
          "sd_log_jacobian_l2r": "SD log|J| l2r"}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """One comparison that a sentence of the paper makes: `method` against `other` in one column.

    Attributes:
        sentence: The paper's claim.
        method: The method that the claim is about.
        other: The method that it is compared with.
        key: The column.
        kind: `more` or `less` than the other; `at most` as much (within SAME_SD); the `same` within SAME_DSC; `faster`
            (the other's time over the method's); `less at equal volume`, where both change volume alike.
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
        # The paper's SD log|J| is what its released code computes, l2r.
        column = "sd_log_jacobian" if self.key == "sd_log_jacobian_l2r" else self.key
        ours, others = (TABLE1.get(name, {}).get(column) for name in (self.method, self.other))
        if ours is None or others is None:
            return None
        return others[0] / ours[0] if self.kind == "faster" else round(ours[0] - others[0], 4)

    @property
    def question(self) -> str:
        """The comparison in a few words."""
        words = {
            "more": ">",
            "less": "<",
            "at most": "≤",
            "same": "≈",
            "faster": "faster than",
            "less at equal volume": "<",
        }
        return f"{_NAMES[self.key]}: {label(self.method)} {words[self.kind]} {label(self.other)}"


_BASE = "voxelmorph"
_SAME = "The anatomy-aware losses keep the accuracy untouched."
_RIGID = "rigid dice, rigid field and oc attain a higher rigid DSC than the baseline."
_HIGHEST = "Among them rigid dice is the most rigid."
_COMBINED = "Combined with pc, the penalties reduce the volume change and keep the rigidity."
_SMOOTH = "The combinations yield smooth fields."
CLAIMS = (
    Claim("The baseline is more accurate than Staring.", _BASE, "staring", "dsc", "more",
          "the text says 1.5 %, the table's 0.77 to 0.78 is 1.3 %"),
    Claim("The baseline is faster than Staring.", _BASE, "staring", "seconds", "faster",
          "the text says 100 times, the table's 243 s to 3.5 s is 69 times"),
    Claim("The baseline does not keep the vertebrae rigid.", _BASE, "staring", "rigid_dsc", "less"),
    Claim("The baseline changes the vertebrae's volume drastically.", _BASE, "staring", "volume_change_pct", "more"),
    Claim("pc preserves the volume.", "pc", _BASE, "volume_change_pct", "less",
          'the text says "only 4.8 % loss", the table\'s 4.80 is an absolute change, gain or loss'),
    Claim(_RIGID, "rigid-dice", _BASE, "rigid_dsc", "more", "the text says 5.7 %, the table's 0.86 to 0.90 is 4.7 %"),
    Claim(_RIGID, "rigid-field", _BASE, "rigid_dsc", "more"),
    Claim(_RIGID, "oc", _BASE, "rigid_dsc", "more"),
    Claim(_HIGHEST, "rigid-dice", "rigid-field", "rigid_dsc", "more"),
    Claim(_HIGHEST, "rigid-dice", "oc", "rigid_dsc", "more"),
    *(Claim(_COMBINED, m, _BASE, "volume_change_pct", "less") for m in ("pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    *(Claim(_COMBINED, m, _BASE, "rigid_dsc", "more") for m in ("pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    *(Claim(_SMOOTH, m, _BASE, "sd_log_jacobian_l2r", "at most") for m in ("pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    *(Claim(_SAME, m, _BASE, "dsc", "same", "the text says comparable accuracy: here within ±0.015")
      for m in ("pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice", "pc+rigid-field")),
    Claim("At equal volume change pc leaves a lower properness error than the direct volume loss.", "pc", "volume",
          "properness", "less at equal volume", "the paper's values are in its supplement only"),
    Claim("oc lowers the properness error too.", "oc", _BASE, "properness", "less",
          "the paper's values are in its supplement only"),
)  # fmt: skip


NO_RESULT = "no result of "


class Verdict(NamedTuple):
    """A claim compared with a run. verdict: `shown`, `not shown` or `opposite`; why: what prevents a verdict, or ""."""

    claim: Claim
    ours: Difference
    verdict: str
    why: str
    weights: str


def verdicts(data: DataSet) -> list[Verdict]:
    """Return the verdict on every claim of CLAIMS; a claim about a row without a result is `not shown`."""
    return [_judge(data, claim) for claim in CLAIMS]


def _judge(data: DataSet, claim: Claim) -> Verdict:
    row, other = data.find_row(claim.method), data.find_row(claim.other)
    if row is None or other is None:
        absent = ", ".join(label(m) for m, r in ((claim.method, row), (claim.other, other)) if r is None)
        return Verdict(claim, Difference(np.nan, np.nan, np.nan, 0), "not shown", f"{NO_RESULT}{absent}", "")
    ours = _difference(data, claim, row, other)
    weights = "for these weights" if data.from_one_training(row) or data.from_one_training(other) else ""
    if ours.patients == 0:
        return Verdict(claim, ours, "not shown", "no patient in common", weights)
    if np.isnan(ours.low):
        return Verdict(claim, ours, "not shown", "no interval from one patient", weights)
    if claim.kind == "less at equal volume" and not _alike(data, row, other):
        return Verdict(claim, ours, "not shown", "their volume changes are not alike", weights)
    return Verdict(claim, ours, decide(claim.kind, ours), "", weights)


def decide(kind: Kind, ours: Difference) -> str:
    """Return `shown` for an interval entirely on the claim's side, `opposite` on the other, else `not shown`.

    Args:
        kind: The kind of the claim, which determines the side.
        ours: Our difference (or ratio of times for `faster`) with its interval.
    """
    if kind == "same":
        if ours.low >= -SAME_DSC and ours.high <= SAME_DSC:
            return "shown"
        return "opposite" if ours.high < -SAME_DSC or ours.low > SAME_DSC else "not shown"
    if kind == "at most":
        return "shown" if ours.high <= SAME_SD else "opposite" if ours.low > SAME_SD else "not shown"
    no_effect = 1.0 if kind == "faster" else 0.0
    above, below = ours.low > no_effect, ours.high < no_effect
    if kind in ("less", "less at equal volume"):
        above, below = below, above
    return "shown" if above else "opposite" if below else "not shown"


def _difference(data: DataSet, claim: Claim, row: Row, other: Row) -> Difference:
    if claim.kind == "faster":
        both = pd.concat([data.by_patient(r, "seconds") for r in (row, other)], axis=1, join="inner")
        return bootstrap_ratio(both.iloc[:, 1].to_numpy(), both.iloc[:, 0].to_numpy())
    return bootstrap_mean(differences(data, row, other, claim.key).to_numpy().T)


def _alike(data: DataSet, row: Row, other: Row) -> bool:
    changes = [mean_interval(data, r, "volume_change_pct").mean for r in (row, other)]
    return abs(changes[0] - changes[1]) <= SAME_VOLUME * min(changes)


def claims_table(judged: list[Verdict]) -> pd.DataFrame:
    """Return verdicts as texts, a line per claim.

    Returns:
        Columns claim, question, paper (its table's difference), ours (with its interval), paper_value (whether the
        paper's difference lies `inside`, `below` or `above` our interval, "–" for none), verdict, patients and note.
    """
    return pd.DataFrame([
        {
            "claim": v.claim.sentence,
            "question": v.claim.question,
            "paper": _amount(v.claim, v.claim.printed),
            "ours": _with_interval(v),
            "paper_value": _place(v),
            "verdict": " ".join(filter(None, (v.verdict, v.weights if v.verdict != "not shown" else ""))),
            "patients": v.ours.patients,
            "note": "; ".join(filter(None, (v.why, v.claim.note))),
        }
        for v in judged
    ])  # fmt: skip


def _amount(claim: Claim, value: float | None) -> str:
    if value is None or np.isnan(value):
        return "–"
    if claim.kind == "faster":
        return f"{value:.0f}x" if value >= 10 else f"{value:.2f}x"
    decimals = 2 if claim.key == "volume_change_pct" else 5 if claim.key == "properness" else 3
    return f"{value:+.{decimals}f}{_UNITS.get(claim.key, '')}"


def _with_interval(v: Verdict) -> str:
    if np.isnan(v.ours.low):
        return _amount(v.claim, v.ours.mean)
    low, high = (_amount(v.claim, end) for end in (v.ours.low, v.ours.high))
    return f"{_amount(v.claim, v.ours.mean)} [{low}, {high}]"


def _place(v: Verdict) -> str:
    printed = v.claim.printed
    if printed is None or np.isnan(v.ours.low):
        return "–"
    return "below" if printed < v.ours.low else "above" if printed > v.ours.high else "inside"
