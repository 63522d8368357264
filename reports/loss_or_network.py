"""The chapter "Loss or network": each penalty in the network, in the optimisation of single pairs, and in both."""

from __future__ import annotations

from math import isnan

import pandas as pd

from reports.paper import label
from reports.printing import heading, text_table
from reports.run_data import DataSet
from reports.sections import Section, powerless_family
from reports.stats.loss_or_network import (
    FAMILIES,
    MEASURES,
    PENALTIES,
    counts,
    effects,
    has_both,
    sentences,
    verdicts_of_both,
)
from reports.stats.verdicts import outside_paper

_TEXT = (
    "The penalties are the same functions in both families: the network is trained with them, and rows Deformable"
    " minimise them for one pair at a time. Differences are taken per vertebra from the row of the same family without"
    " a penalty, then averaged per patient; the interval is a 95 % sign-flip interval by patient. Both: row Refined,"
    " the optimisation of pc+oc that starts from the network's field, minus Deformable.",
    "Shown: our interval lies entirely on the statement's side, and p < 0.05 after Holm's correction over all tests of"
    " this chapter. Opposite: the same on the other side. Not shown: neither; the statement may be true all the same.",
    "Verdicts on networks hold for the trainings of this run only. A gain in the network must also beat row smoothed,"
    " if the run has it; the optimisation has no such control. A verdict in one family alone does not show that the"
    " families differ, which is not tested.",
)


def loss_or_network_section(data: DataSet) -> Section | None:
    """Return the chapter; None where the run does not have both families, or is not the paper's comparison."""
    if outside_paper(data) or not has_both(data):
        return None
    judged = verdicts_of_both(data)
    table, said = effects(data), sentences(judged)
    known = said[~said["conclusion"].str.contains("cannot be said")]
    listed = counts(known)
    text = [*([f"Statements of the paper about a penalty: {listed}."] if listed else []), *_TEXT]
    shown = known.rename(columns={
        "statement": "Statement", "network": "Network", "optimisation": "Optimisation", "conclusion": "Conclusion",
    }).drop(columns="question")  # fmt: skip
    text += powerless_family([v.ours.patients for both in judged for v in both if not isnan(v.p)])
    absent = len(said) - len(known)
    if absent:
        text.append(f"{absent} of {len(said)} statements cannot be tested in either family: rows are missing.")
    tables = [text_table("Difference from no penalty [95 %]", _effects_text(data, table))]
    if len(shown):
        tables.append(text_table("Statements of the paper", shown))
    numbers = {"penalties": table, "loss-or-network": said}
    return Section("loss-or-network", "Loss or network", text, tables, numbers)


def _effects_text(data: DataSet, table: pd.DataFrame) -> pd.DataFrame:
    """`effects` as texts: a line for each penalty and measure, a column for each family."""
    lines = []
    for penalty in PENALTIES:
        for key in MEASURES:
            part = table[(table["penalty"] == penalty) & (table["metric"] == key)].set_index("family")
            if part.empty:
                continue
            decimals = 2 if key == "volume_change_pct" else 4
            values = {family.name.capitalize(): _text(part, family.name, decimals) for family in FAMILIES}
            lines.append({"Penalty": label(penalty), "Measure": heading(data.columns[key]), **values,
                          "Patients": int(part["patients"].max())})  # fmt: skip
    return pd.DataFrame(lines)


def _text(part: pd.DataFrame, family: str, decimals: int) -> str:
    if family not in part.index:
        return "–"
    mean, low, high = (float(part[name].to_dict()[family]) for name in ("mean", "low", "high"))
    shown = f"{mean:+.{decimals}f}"
    return shown if isnan(low) else f"{shown} [{low:+.{decimals}f}, {high:+.{decimals}f}]"
