"""Loss or network: each penalty against no penalty, in the network and in the optimisation of single pairs.

The paper's penalties are the same functions in both families. Intervals and verdicts are those of the other claims. A
verdict that one family has and the other has not does not show that the families differ: that is not tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import numpy as np
import pandas as pd

from reports.frames import quantity
from reports.paper import BASELINE, label
from reports.run_data import DataSet, Row
from reports.stats.claims import CLAIMS, Claim
from reports.stats.comparisons import differences
from reports.stats.intervals import LEAST_PATIENTS, Difference, flip_mean
from reports.stats.verdicts import Verdict, verdicts

PENALTIES = ("pc", "oc", "rigid-dice", "rigid-field", "pc+oc", "pc+rigid-dice", "pc+rigid-field", "volume")
MEASURES = ("dsc", "rigid_dsc", "volume_change_pct", "tre_mm")
OPTIMISED, REFINED = "deformable", "refined"


class Family(NamedTuple):
    """A way to minimise the loss: its name, its row without penalties, and the row of each penalty."""

    name: str
    without: str
    rows: dict[str, str]


NETWORK = Family("network", BASELINE, {name: name for name in PENALTIES})
OPTIMISATION = Family("optimisation", OPTIMISED, {name: f"{OPTIMISED}-{name}" for name in PENALTIES})
# The optimisation of pc+oc that starts from the network's field, against the optimisation without either.
BOTH = Family("both", OPTIMISED, {"pc+oc": REFINED})
FAMILIES = (NETWORK, OPTIMISATION, BOTH)


def has_both(data: DataSet) -> bool:
    """Return whether a run has a penalty, and no penalty, in the network and in the optimisation."""
    if data.find_row(BASELINE) is None or data.find_row(OPTIMISED) is None:
        return False
    return any(all(data.find_row(f.rows[name]) for f in (NETWORK, OPTIMISATION)) for name in PENALTIES)


def effects(data: DataSet) -> pd.DataFrame:
    """Return what each penalty changes, a line for each penalty, family and measure that the run has.

    Returns:
        Columns penalty, family, row, against, metric, mean, low, high (row minus the family's row without penalties, by
        patient, with its 95 % sign-flip interval; NaN for the ends with fewer than LEAST_PATIENTS) and patients.
    """
    lines = []
    for penalty in PENALTIES:
        for family in FAMILIES:
            row, without = data.find_row(family.rows.get(penalty, "")), data.find_row(family.without)
            if row is None or without is None:
                continue
            for key in MEASURES:
                found = _effect(data, row, without, key)
                if found.patients:
                    lines.append({"penalty": penalty, "family": family.name, "row": row.label,
                                  "against": without.label, "metric": key, **found._asdict()})  # fmt: skip
    names = ["penalty", "family", "row", "against", "metric", "mean", "low", "high", "patients"]
    return pd.DataFrame(lines, columns=names)


def _effect(data: DataSet, row: Row, without: Row, key: str) -> Difference:
    by_patient = differences(data, row, without, key)
    return flip_mean(by_patient.to_numpy().T if len(by_patient) else np.array([]))


def verdicts_of_both(data: DataSet) -> list[tuple[Verdict, Verdict]]:
    """Return the verdicts of the network and of the optimisation on each of the paper's statements about a penalty.

    Both families are judged together, so that Holm's correction counts every test of this chapter.
    """
    asked = [claim for claim in CLAIMS if claim.method in PENALTIES]
    judged = verdicts(data, [*asked, *(_in_optimisation(claim) for claim in asked)])
    return list(zip(judged[: len(asked)], judged[len(asked) :], strict=True))


def sentences(judged: Sequence[tuple[Verdict, Verdict]]) -> pd.DataFrame:
    """Return a sentence for each of the paper's statements about a penalty.

    Args:
        judged: Of `verdicts_of_both`.

    Returns:
        Columns statement (the paper's sentence), question (in the network's rows), network and optimisation (verdicts),
        and conclusion, one sentence.
    """
    lines = []
    for deep, classical in judged:
        lines.append({
            "statement": deep.claim.sentence, "question": deep.claim.question, "network": deep.verdict,
            "optimisation": classical.verdict, "conclusion": conclusion(deep, classical),
        })  # fmt: skip
    return pd.DataFrame(lines)


def _in_optimisation(claim: Claim) -> Claim:
    """The claim about the rows that optimise each pair."""
    other = OPTIMISATION.without if claim.other == BASELINE else OPTIMISATION.rows[claim.other]
    return replace(claim, method=OPTIMISATION.rows[claim.method], other=other)


def conclusion(deep: Verdict, classical: Verdict) -> str:
    """Return what the verdicts of the network and of the optimisation say together, as one sentence."""
    subject = f"{deep.claim.question}:"
    found = (deep.verdict, classical.verdict)
    if "too few" in found:
        most = max(deep.ours.patients, classical.ours.patients)
        return f"{subject} too few patients ({quantity(most, 'patient', 'patients')}; {LEAST_PATIENTS} are needed)."
    if found == ("not testable", "not testable"):
        return f"{subject} cannot be said: {_why(deep)}."
    if "not testable" in found:
        known, other, names = (classical, deep, ("optimisation", "network"))
        if deep.verdict != "not testable":
            known, other, names = deep, classical, ("network", "optimisation")
        return f"{subject} {known.verdict} in the {names[0]}; not testable in the {names[1]} ({_why(other)})."
    return f"{subject} {_TOGETHER[found]}."


_ALIKE = {"shown": "shown with both", "not shown": "shown with neither", "opposite": "opposite with both"}
_TOGETHER = {
    (deep, classical): _ALIKE[deep] if deep == classical else f"{deep} in the network, {classical} in the optimisation"
    for deep, classical in product(_ALIKE, repeat=2)
}


def _why(verdict: Verdict) -> str:
    return verdict.why or f"no result of {label(verdict.claim.method)}"


def counts(table: pd.DataFrame, words: Sequence[str] = tuple(_TOGETHER.values())) -> str:
    """Return how many conclusions of `sentences` say each of `words`, as one clause; "" for none."""
    number = {word: int(table["conclusion"].str.endswith(f": {word}.").sum()) for word in words}
    return ", ".join(f"{count} {word}" for word, count in number.items() if count)
