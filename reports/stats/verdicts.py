"""Verdicts on the paper's claims: each claim compared with a run, as far as the run can test it.

A claim is `shown` where our 95 % interval by patient lies entirely on its side and its p value is below 0.05 after
Holm's correction over all claims tested in the run; `opposite` where the same holds for the other side; else `not
shown`. The size of the effect is printed, but does not count. `too few`: fewer than LEAST_PATIENTS patients. `not
testable`: a row has no result, a network in the comparison does not register (`failed_gates`), or the comparison
needs equal volume changes and the run has unequal ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from methods.voxelmorph.following import AXES
from reports.paper import BASELINE, TABLE1, label
from reports.run_data import DataSet, Row, quantity
from reports.stats.claims import CLAIMS, SAME_VOLUME, Claim
from reports.stats.comparisons import differences, mean_interval
from reports.stats.intervals import ALPHA, LEAST_PATIENTS, Difference, flip_mean, flip_ratio, mean_p, ratio_p
from reports.stats.tests import holm

Judgement = Literal["shown", "not shown", "opposite", "too few", "not testable"]
NO_RESULT = "no result of "
NOT_CHECKED = "not checked against row rigid (no result)"
SMOOTHING = "explained by smoothing alone"
# A field that follows a shift of the moving scan along an axis by less than this is predicted, not registered.
LEAST_FOLLOWING = 0.5
_NOTHING = Difference(np.nan, np.nan, np.nan, 0)
_UNITS = {"dsc": "", "rigid_dsc": "", "volume_change_pct": " %", "properness": "", "seconds": ""}


class Verdict(NamedTuple):
    """A claim compared with a run.

    ours: our difference, or ratio of times. p: after Holm's correction; NaN where nothing was tested. why: what the
    verdict depends on, or prevents it; "" for nothing. weights: "for these weights", where a row has one training.
    """

    claim: Claim
    ours: Difference
    verdict: Judgement
    p: float
    why: str
    weights: str


def outside_paper(data: DataSet) -> str:
    """Return why a run is not the paper's comparison, in one clause; "" where it is."""
    if not data.scans.as_in_the_paper:
        return f"it registers {data.scans.moving} to {data.scans.fixed}, and the paper CT to MR"
    if data.find_row(BASELINE) is None:
        return f"it has no result of {label(BASELINE)}, the paper's baseline"
    papers = [row for row in data.measured_rows if row.method in TABLE1 and row.method not in ("initial", BASELINE)]
    return "" if papers else f"{label(BASELINE)} is its only row of the paper"


def verdicts(data: DataSet, claims: Sequence[Claim] = CLAIMS) -> list[Verdict]:
    """Return the verdict on every claim, with Holm's correction over all of them that are tested."""
    judged = [_judge(data, claim) for claim in claims]
    tested = sum(not np.isnan(v.p) for v in judged)
    adjusted = holm([v.p for v in judged])
    return [_corrected(data, v._replace(p=float(p)), tested) for v, p in zip(judged, adjusted, strict=True)]


def _judge(data: DataSet, claim: Claim) -> Verdict:
    """The verdict by the interval alone, with the p value before the correction."""
    row, other = data.find_row(claim.method), data.find_row(claim.other)
    if row is None or other is None:
        absent = ", ".join(label(m) for m, r in ((claim.method, row), (claim.other, other)) if r is None)
        return Verdict(claim, _NOTHING, "not testable", np.nan, f"{NO_RESULT}{absent}", "")
    limit = claim.limit(float(data.values(other, claim.key).mean()))
    ours, p = _difference(data, claim, row, other, limit)
    weights = "for these weights" if data.from_one_training(row) or data.from_one_training(other) else ""
    timed = " timed in both rows" if claim.kind == "faster" else ""
    if ours.patients == 0:
        return Verdict(claim, ours, "not testable", np.nan, f"no patient{timed or ' in common'}", weights)
    if ours.patients < LEAST_PATIENTS:
        few = f"{quantity(ours.patients, 'patient', 'patients')}{timed}; a verdict needs {LEAST_PATIENTS}"
        return Verdict(claim, ours, "too few", np.nan, few, weights)
    failed = [reason for each in (row, other) for reason in failed_gates(data, each)]
    if claim.kind == "less at equal volume":
        failed += _unlike_volumes(data, row, other)
    if failed:
        return Verdict(claim, ours, "not testable", np.nan, "; ".join(failed), weights)
    checked = "" if data.find_row("rigid") is not None else NOT_CHECKED
    return Verdict(claim, ours, decide(claim, ours, limit), p, checked, weights)


def _corrected(data: DataSet, v: Verdict, tested: int) -> Verdict:
    """The verdict after Holm's correction and the comparison with smoothed fields."""
    if v.verdict in ("shown", "opposite") and not v.p < ALPHA:
        why = f"the interval lies on one side, p = {v.p:.3f} after Holm's correction over {tested} claims"
        return v._replace(verdict="not shown", why="; ".join(filter(None, (why, v.why))))
    if v.verdict == "shown" and _explained_by_smoothing(data, v.claim):
        return v._replace(verdict="not shown", why="; ".join(filter(None, (SMOOTHING, v.why))))
    return v


def decide(claim: Claim, ours: Difference, limit: float) -> Judgement:
    """Return `shown` for an interval on the claim's side of a limit, `opposite` on the other side, else `not shown`.

    Args:
        claim: The claim, which determines the side.
        ours: Our difference (or ratio of times) with its interval.
        limit: The value from which on the claim holds, of `Claim.limit`.
    """
    above, below = ours.low > limit, ours.high < limit
    if not claim.above:
        above, below = below, above
    return "shown" if above else "opposite" if below else "not shown"


def failed_gates(data: DataSet, row: Row) -> list[str]:
    """Return why a row's network does not register the pairs, so that no comparison with it says anything.

    Its DSC must be above that of row `rigid` (95 % interval), and where the run measured it, its field must follow a
    shift of the moving scan by LEAST_FOLLOWING along each axis. A row that is no network, or a run without row `rigid`,
    has nothing to fail.
    """
    if row.method not in data.networks:
        return []
    failed = []
    rigid = data.find_row("rigid")
    if rigid is not None:
        gain = flip_mean(differences(data, row, rigid, "dsc").to_numpy().T)
        if not gain.low > 0:
            shown = "no interval" if np.isnan(gain.low) else f"{gain.mean:+.3f} [{gain.low:+.3f}, {gain.high:+.3f}]"
            failed.append(f"DSC of {row.label} is not above that of {rigid.label} ({shown})")
    slow = [
        f"{slope:.2f} {axis}"
        for slope, axis in zip(data.following.get(row.method, ()), AXES, strict=False)
        if slope < LEAST_FOLLOWING
    ]
    if slow:
        failed.append(f"{row.label} follows a shift by only {', '.join(slow)} ({LEAST_FOLLOWING:g} is needed)")
    return failed


def _difference(data: DataSet, claim: Claim, row: Row, other: Row, limit: float) -> tuple[Difference, float]:
    """Row minus other (or other's time over the row's) with its interval, and the p value that it is `limit`."""
    if claim.kind == "faster":
        both = pd.concat([data.by_patient(r, "seconds") for r in (other, row)], axis=1, join="inner")
        theirs, own = both.to_numpy().T
        return flip_ratio(theirs, own), ratio_p(theirs, own, limit)
    by_patient = differences(data, row, other, claim.key).to_numpy().T
    return flip_mean(by_patient), mean_p(by_patient, limit)


def _unlike_volumes(data: DataSet, row: Row, other: Row) -> list[str]:
    changes = {r.label: mean_interval(data, r, "volume_change_pct").mean for r in (row, other)}
    least, most = sorted(changes.values())
    if most - least <= SAME_VOLUME * least:
        return []
    listed = ", ".join(f"{name} {change:.2f} %" for name, change in changes.items())
    return [f"volume changes differ ({listed}); a comparison at equal volume needs each penalty at several weights"]


def _explained_by_smoothing(data: DataSet, claim: Claim) -> bool:
    """Whether a claim about a penalty does not hold against every row `smoothed`: the baseline's field, smoothed."""
    row = data.find_row(claim.method)
    if row is None or claim.other != BASELINE or claim.kind not in ("more", "less"):
        return False
    controls = [each for each in data.measured_rows if each.method.startswith("smoothed")]
    return any(decide(claim, _difference(data, claim, row, each, 0.0)[0], 0.0) != "shown" for each in controls)


def claims_table(judged: list[Verdict]) -> pd.DataFrame:
    """Return verdicts as texts, a line per claim.

    Returns:
        Columns claim, question, paper (its table's difference), ours (with its interval), paper_value (whether the
        paper's difference lies `inside`, `below` or `above` our interval, "–" for none), verdict, p (after Holm's
        correction), patients and note.
    """
    return pd.DataFrame([
        {
            "claim": v.claim.sentence,
            "question": v.claim.question,
            "paper": _amount(v.claim, v.claim.printed),
            "ours": _with_interval(v),
            "paper_value": _place(v),
            "verdict": " ".join(filter(None, (v.verdict, v.weights if v.verdict in ("shown", "opposite") else ""))),
            "p": "–" if np.isnan(v.p) else "< 0.001" if v.p < 0.001 else f"{v.p:.3f}",
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
