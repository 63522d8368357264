"""The report's chapter on penalties at several weights: the curves as a table, and comparisons at equal DSC."""

from __future__ import annotations

import pandas as pd

from reports.paper import label
from reports.printing import heading, text_table
from reports.run_data import DataSet
from reports.sections import Section, powerless_family
from reports.stats.curves import SAME_DSC, comparisons_at_equal_dsc, curve_table, curves
from reports.stats.intervals import ALPHA, LEAST_PATIENTS

_TEXT = (
    "Each penalty at several weights. Factor: the weight over that of the penalty's row.",
    "Which penalty is best is asked at equal DSC: the largest mean DSC that both penalties reach, each at its strongest"
    " weight there, interpolated between neighbouring weights. The DSC of a penalty is higher where its strongest"
    " weight still has more. Means are over the cases that every weight of both has a result of. Difference: by"
    " patient, with the 95 % sign-flip interval at the weights found; p after Holm's correction over all lines. Better:"
    f" the penalty whose interval lies on its side with p < {ALPHA:g}, or neither; unequal DSC: that penalty has a DSC"
    f" lower by more than {SAME_DSC:g}; too few: fewer than {LEAST_PATIENTS} patients.",
)


def curves_section(data: DataSet) -> Section | None:
    """Return the chapter on curves; None where the run has no penalty at several weights."""
    if not curves(data):
        return None
    table, compared = curve_table(data), comparisons_at_equal_dsc(data)
    keys = [str(name) for name in table if name not in ("name", "penalty", "factor")]
    shown = pd.DataFrame(
        {"Penalty": table["penalty"], "Factor": [f"{factor:g}" for factor in table["factor"]]}
        | {heading(data.columns[key]): [f"{value:.3f}" for value in table[key]] for key in keys}
    )
    tables = [text_table("Penalties by weight", shown)]
    if len(compared):
        tables.append(text_table("Penalties at equal DSC", _compared_text(data, compared)))
    tested = compared.loc[compared["p_holm"].notna(), "patients"]
    return Section(
        "curves",
        "Curves of the penalties",
        [*_TEXT, *powerless_family(list(tested))],
        tables,
        {"curves": table, "equal-dsc": compared},
    )


def _compared_text(data: DataSet, compared: pd.DataFrame) -> pd.DataFrame:
    lines = []
    for line in compared.to_dict("records"):
        interval = "" if pd.isna(line["low"]) else f" [{line['low']:+.3f}, {line['high']:+.3f}]"
        lines.append({
            "Penalties": f"{label(line['first'])} minus {label(line['second'])}",
            "Column": heading(data.columns[line["metric"]]),
            "DSC": f"{line['first_dsc']:.3f}, {line['second_dsc']:.3f}",
            "Factors": f"{line['first_factor']:.2g}, {line['second_factor']:.2g}",
            "Difference [95 %]": f"{line['mean']:+.3f}{interval}",
            "p (Holm)": "–" if pd.isna(line["p_holm"]) else f"{line['p_holm']:.3f}",
            "Better": label(line["better"]), "Patients": line["patients"],
        })  # fmt: skip
    return pd.DataFrame(lines)
