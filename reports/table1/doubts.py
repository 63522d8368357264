"""The notes under Table 1 on inputs and results that are used with doubt."""

from __future__ import annotations

from reports.frames import quantity
from reports.paper import label
from reports.run_data import DataSet

SHOWN = 3  # patients that a note names


def doubts(data: DataSet) -> list[str]:
    """Return a note on doubtful files, one on truths that the labels contradict, and one for each row with warnings.

    Args:
        data: One data set and split of a run.
    """
    return [*_doubtful_files(data), *_contradicted_truths(data), *_warnings(data)]


def _doubtful_files(data: DataSet) -> list[str]:
    """A note on patients whose files are used with doubt, with the doubts of the first ones."""
    if "notes" not in data.pairs:  # a run of an earlier version
        return []
    doubtful = data.pairs.dropna(subset="notes").drop_duplicates("case")
    if doubtful.empty:
        return []
    listed = "; ".join(f"{p.case}: {p.notes}" for p in doubtful.head(SHOWN).itertuples())
    more = f"; and {len(doubtful) - SHOWN} more, see pairs.parquet" if len(doubtful) > SHOWN else ""
    return [f"{quantity(len(doubtful), 'patient is', 'patients are')} used with doubt ({listed}{more})."]


def _contradicted_truths(data: DataSet) -> list[str]:
    """A note on patients whose true displacement scores below Initial for every vertebra."""
    known = data.counted_pairs.dropna(subset=["true_dsc", "initial_dsc"])
    below = (known["true_dsc"].astype(float) < known["initial_dsc"].astype(float)).groupby(known["case"]).all()
    patients = sorted(below[below].index)
    if not patients:
        return []
    count = quantity(len(patients), "patient", "patients")
    return [
        f"Doubtful truth: the given true displacement scores below Initial for every vertebra of {count}"
        f" ({_first(patients)}); check displacement.nii.gz (mm, LPS, fixed to moving point). Errors against it mean"
        " nothing."
    ]


def _warnings(data: DataSet) -> list[str]:
    """A note for each row whose method noted a warning, with the first one."""
    if "warning" not in data.cases:  # a run of an earlier version
        return []
    warned = data.cases[data.cases["warning"].fillna("") != ""]
    notes = []
    for method, cells in warned.groupby("method"):
        patients = sorted(set(cells["case"]))
        count = quantity(len(patients), "patient", "patients")
        first = cells.sort_values("case").iloc[0]
        notes.append(f"Doubtful {label(str(method))}, {count} ({_first(patients)}): {first['warning']}.")
    return notes


def _first(patients: list[str]) -> str:
    """The first names of a list, and how many more there are."""
    more = f" and {len(patients) - SHOWN} more" if len(patients) > SHOWN else ""
    return ", ".join(patients[:SHOWN]) + more
