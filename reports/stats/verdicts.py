"""Verdicts on the paper's claims: each claim compared with a run, as far as the run can test it.

A claim is `shown` where our 95 % interval by patient lies entirely on its side and its p value is below 0.05 after
Holm's correction over all claims tested in the run; `opposite` where the same holds for the other side; else `not
shown`. The size of the effect is printed, but does not count. `too few`: fewer than LEAST_PATIENTS patients. `not
testable`: a row has no result, a network in the comparison does not register (`failed_gates`), times are of different
machines, or the comparison needs equal DSC or volume changes that the run lacks. Patients that the favoured row failed
on must not change the verdict where they count as its worst (`failures`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import pandas as pd

from reports.frames import quantity
from reports.paper import BASELINE, TABLE1, label
from reports.run_data import DataSet, Row
from reports.stats.claims import SAME_VOLUME, Claim, amount, claims_of, with_interval
from reports.stats.comparisons import differences, mean_interval
from reports.stats.curves import Point, at_equal, curves, unequal
from reports.stats.failures import failures, with_failures
from reports.stats.gates import explained_by_smoothing, failed_gates, unchecked_gates
from reports.stats.intervals import ALPHA, LEAST_PATIENTS, Difference, flip_mean, flip_ratio, mean_p, ratio_p
from reports.stats.tests import holm

Judgement = Literal["shown", "not shown", "opposite", "too few", "not testable"]
NO_RESULT = "no result of "
# The column that is equal in a comparison of curves, by kind of claim; its name and decimals.
_EQUAL = {"more at equal DSC": "dsc", "less at equal volume": "volume_change_pct"}
_NAMES_OF_LEVELS = {"dsc": ("DSC", 3), "volume_change_pct": ("%Δvol", 2)}
_NOTHING = Difference(np.nan, np.nan, np.nan, 0)


class Verdict(NamedTuple):
    """A claim compared with a run.

    ours: our difference, or ratio of times. p: after Holm's correction; NaN where nothing was tested. why: what the
    verdict depends on, or prevents it; "" for nothing. weights: the trainings for which it holds (`of_trainings`).
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


def verdicts(data: DataSet, claims: Sequence[Claim] | None = None) -> list[Verdict]:
    """Return the verdict on every claim, with Holm's correction over all of them that are tested.

    Args:
        data: of one data set.
        claims: None: those that the run is asked (`claims_of`).
    """
    asked = claims_of([column.key for column in data.table_columns]) if claims is None else claims
    judged = [_judge(data, claim) for claim in asked]
    tested = sum(not np.isnan(v.p) for v in judged)
    adjusted = holm([v.p for v in judged])
    return [_corrected(data, v._replace(p=float(p)), tested) for v, p in zip(judged, adjusted, strict=True)]


def _judge(data: DataSet, claim: Claim) -> Verdict:
    """The verdict by the interval alone, with the p value before the correction."""
    row, other = data.find_row(claim.method), data.find_row(claim.other)
    if row is None or other is None:
        absent = ", ".join(label(m) for m, r in ((claim.method, row), (claim.other, other)) if r is None)
        return Verdict(claim, _NOTHING, "not testable", np.nan, f"{NO_RESULT}{absent}", "")
    if claim.key not in data.columns or any(data.values(each, claim.key).empty for each in (row, other)):
        return Verdict(claim, _NOTHING, "not testable", np.nan, f"no value of {claim.key}", "")
    limit = claim.limit(float(data.values(other, claim.key).mean()))
    points = _of_curves(data, claim)
    ours, p = _between(*points) if points else _difference(data, claim, row, other, limit)
    weights = of_trainings(data, row, other)
    timed = " timed in both rows" if claim.kind == "faster" else ""
    if ours.patients == 0:
        return Verdict(claim, ours, "not testable", np.nan, f"no patient{timed or ' in common'}", weights)
    if ours.patients < LEAST_PATIENTS:
        few = f"{quantity(ours.patients, 'patient', 'patients')}{timed}; a verdict needs {LEAST_PATIENTS}"
        return Verdict(claim, ours, "too few", np.nan, few, weights)
    failed = [reason for each in (row, other) for reason in failed_gates(data, each)]
    if claim.kind == "more at equal DSC" and points is None:
        failed.append("a comparison at equal DSC needs each penalty at several weights")
    if claim.kind == "faster" and (unlike := data.timed_unlike([row, other])):
        failed.append(unlike)
    if claim.kind == "less at equal volume" and points is None:
        failed += _unlike_volumes(data, row, other)
    if failed:
        return Verdict(claim, ours, "not testable", np.nan, "; ".join(failed), weights)
    v = Verdict(claim, ours, decide(claim, ours, limit), p, unchecked_gates(data, row, other), weights)
    return _on_curves(data, v, points) if points else _with_failures(data, v, row, other, limit)


def _on_curves(data: DataSet, v: Verdict, points: tuple[Point, Point]) -> Verdict:
    """A verdict from curves, with levels and weights; not testable where the better one has the worse level."""
    by = _EQUAL[v.claim.kind]
    rows = zip((v.claim.method, v.claim.other), points, strict=True)
    title, decimals = _NAMES_OF_LEVELS[by]
    levels = ", ".join(f"{label(name)} {p.level:.{decimals}f} at {p.factor:.2g} times its weight" for name, p in rows)
    better, worse = points if v.verdict == "shown" else points[::-1]
    if v.verdict in ("shown", "opposite") and unequal(data, better, worse, by):
        return v._replace(verdict="not testable", p=np.nan, why=f"the better one has the worse {title} ({levels})")
    return v._replace(why="; ".join(filter(None, (f"{title}: {levels}", v.why))))


def _with_failures(data: DataSet, v: Verdict, row: Row, other: Row, limit: float) -> Verdict:
    """A verdict that also holds where the patients that the favoured row failed on count as its worst."""
    failed = failures(data, row, other)
    if not failed:
        return v
    why = "; ".join(filter(None, (f"{failed}, which are left out", v.why)))
    if v.verdict not in ("shown", "opposite") or v.claim.kind == "faster":
        return v._replace(why=why)
    shown = v.verdict == "shown"
    pair = (row, other) if shown else (other, row)
    by_patient = differences(data, row, other, v.claim.key).to_numpy().T
    filled = with_failures(data, by_patient, limit, *pair, worse=-1 if v.claim.above == shown else 1)
    if decide(v.claim, flip_mean(filled), limit) == v.verdict:
        return v._replace(p=mean_p(filled, limit), why=why)
    return v._replace(verdict="not shown", why=f"{failed}; not {v.verdict} where these count as its worst")


def _corrected(data: DataSet, v: Verdict, tested: int) -> Verdict:
    """The verdict after Holm's correction and the comparison with smoothed fields."""
    if v.verdict in ("shown", "opposite") and not v.p < ALPHA:
        why = f"the interval lies on one side, p = {v.p:.3f} after Holm's correction over {tested} claims"
        return v._replace(verdict="not shown", why="; ".join(filter(None, (why, v.why))))
    if v.verdict == "shown" and _is_of_a_penalty(v.claim):
        explained, notes = explained_by_smoothing(data, v.claim)
        why = "; ".join(filter(None, (*explained, v.why, *notes)))
        return v._replace(verdict="not shown" if explained else v.verdict, why=why)
    return v


def of_trainings(data: DataSet, *rows: Row) -> str:
    """Return for which trainings a verdict on rows holds: those of the run, and not trainings in general; "" for none.

    Two or three trainings say too little of others: where all that differs between two equal rows is the luck of their
    trainings, the interval over two seeds excludes 0 in every second run, over three in every fourth.
    """
    known = [number for row in rows if (number := data.trainings(row))]
    if not known:
        return ""
    return "for these weights" if min(known) == 1 else f"for these {min(known)} trainings"


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


def _difference(data: DataSet, claim: Claim, row: Row, other: Row, limit: float) -> tuple[Difference, float]:
    """Row minus other (or other's time over the row's) with its interval, and the p value that it is `limit`."""
    if claim.kind == "faster":
        both = pd.concat([data.by_patient(r, "seconds") for r in (other, row)], axis=1, join="inner")
        theirs, own = both.to_numpy().T
        return flip_ratio(theirs, own), ratio_p(theirs, own, limit)
    by_patient = differences(data, row, other, claim.key).to_numpy().T
    return flip_mean(by_patient), mean_p(by_patient, limit)


def _of_curves(data: DataSet, claim: Claim) -> tuple[Point, Point] | None:
    """The points of both curves at an equal level; None for another kind of claim, or without both curves."""
    found = {curve.name: curve for curve in curves(data)} if claim.kind in _EQUAL else {}
    if claim.method not in found or claim.other not in found:
        return None
    return at_equal(data, found[claim.method], found[claim.other], _EQUAL[claim.kind], claim.key)


def _between(ours: Point, theirs: Point) -> tuple[Difference, float]:
    """The difference of two points with its interval, and the p value that it is 0."""
    difference = (ours.values - theirs.values).dropna().to_numpy()
    return flip_mean(difference), mean_p(difference)


def _unlike_volumes(data: DataSet, row: Row, other: Row) -> list[str]:
    changes = {r.label: mean_interval(data, r, "volume_change_pct").mean for r in (row, other)}
    least, most = sorted(changes.values())
    if most - least <= SAME_VOLUME * least:
        return []
    listed = ", ".join(f"{name} {change:.2f} %" for name, change in changes.items())
    return [f"volume changes differ ({listed}); a comparison at equal volume needs each penalty at several weights"]


def _is_of_a_penalty(claim: Claim) -> bool:
    """Whether a claim says that a penalty improves on the baseline."""
    return claim.other == BASELINE and claim.kind in ("more", "less")


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
            "paper": amount(v.claim, v.claim.printed),
            "ours": with_interval(v.claim, v.ours),
            "paper_value": _place(v),
            "verdict": " ".join(filter(None, (v.verdict, v.weights if v.verdict in ("shown", "opposite") else ""))),
            "p": "–" if np.isnan(v.p) else "< 0.001" if v.p < 0.001 else f"{v.p:.3f}",
            "patients": v.ours.patients,
            "note": "; ".join(filter(None, (v.why, v.claim.note))),
        }
        for v in judged
    ])  # fmt: skip


def _place(v: Verdict) -> str:
    printed = v.claim.printed
    if printed is None or np.isnan(v.ours.low):
        return "–"
    return "below" if printed < v.ours.low else "above" if printed > v.ours.high else "inside"
