"""Table 1 as numbers, and which of them are bold; reports.table1.render prints it."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from benchmark.results.columns import Column
from benchmark.results.store import STATUSES
from reports.paper import TABLE1, Table1Column
from reports.run_data import DataSet, Row

# Reference rows, which are not methods: name -> label. They follow the rows of methods.
REFERENCES = {"identity": "Identity", "rigid-fit": "SSD-closest rigid fit", "truth": "True field"}


def table1(data: DataSet, with_paper: bool = False, references: bool = False) -> pd.DataFrame:
    """Return Table 1 of one data set, a line per row, in the paper's order.

    Args:
        data: One data set and split of a run.
        with_paper: Whether the paper's values are included.
        references: Whether up to three reference lines follow, where the run knows them: `identity` (the identity
            field, measured as every row is), `rigid-fit` (DSC of each fixed label and its moving label under the rigid
            transform of least squared differences) and `truth` (the true field).

    Returns:
        Columns dataset, split, row (the label), method, device, bracketed (reference lines and oracles, which are no
        methods and follow them); for each column of the table `<column>_mean`,
        `<column>_sd` (sample SD, null for fewer than two values), `<column>_median` and `<column>_n` (how many values:
        vertebrae for columns per vertebra, else patients), and with the paper `paper_<column>_mean` and `_sd`; then
        vertebrae and patients of the row, all_vertebrae and all_patients of the data set, and how many cells have each
        status (`missing`: never run).
    """
    lines = []
    for row in data.table_rows:
        values = {"vertebra": row.of(data.vertebra_values), "case": row.of(data.patient_values)}
        line: dict[str, object] = {
            "dataset": data.dataset,
            "split": data.split,
            "row": row.label,
            "method": row.method,
            "device": row.device,
            "bracketed": row.oracle,
        }
        for column in data.table_columns:
            line |= _summary(column.key, values[data.columns[column.key].per][column.key])
            if with_paper and column.paper:
                line |= _paper_values(row, column)
        lines.append(line | _counts(data, row, values["vertebra"], values["case"]))
    return pd.DataFrame(lines + (_reference_lines(data) if references else []))


def _summary(key: str, values: pd.Series) -> dict[str, object]:
    measured = pd.to_numeric(values).astype(float).dropna()
    return {
        f"{key}_mean": measured.mean(),
        f"{key}_sd": measured.std(ddof=1),
        f"{key}_median": measured.median(),
        f"{key}_n": len(measured),
    }


def _reference_lines(data: DataSet) -> list[dict[str, object]]:
    """The lines of REFERENCES for which the run has a value."""
    pairs = data.counted_pairs
    labels, identity = data.identity_values["vertebra"], data.identity_values["case"]
    label_columns = [column.key for column in data.table_columns if data.columns[column.key].per == "vertebra"]
    field_columns = ("folding_voxels", "sd_log_jacobian", "sd_log_jacobian_l2r")
    sources: dict[str, dict[str, pd.Series]] = {
        "identity": {key: labels[key] for key in label_columns} | {key: identity[key] for key in field_columns},
        "rigid-fit": {
            key: pairs[name]
            for key, name in (("dsc", "rigid_fit_dsc"), ("soft_dsc", "soft_rigid_fit_dsc"))
            if name in pairs
        },
        "truth": {key: pairs[f"true_{key}"] for key in label_columns if f"true_{key}" in pairs},
    }
    everyone = {"all_vertebrae": len(pairs), "all_patients": len(data.patients)}
    lines = []
    for method, columns in sources.items():
        found = [key for key in label_columns if key in columns and columns[key].notna().any()]
        if found:
            line: dict[str, object] = {
                "dataset": data.dataset, "split": data.split, "row": REFERENCES[method], "method": method,
                "device": "", "bracketed": True,
            }  # fmt: skip
            for column in data.table_columns:
                line |= _summary(column.key, columns.get(column.key, pd.Series(dtype=float)))
            known = (labels if method == "identity" else pairs)[columns[found[0]].notna()]
            counts = {"vertebrae": len(known), "patients": known["case"].nunique()}
            lines.append(line | counts | everyone | dict.fromkeys((*STATUSES, "missing"), 0))
    return lines


def _paper_values(row: Row, column: Table1Column) -> dict[str, float | None]:
    printed = TABLE1.get(row.method, {}).get(column.paper or "")
    # The paper timed on a CPU.
    if printed is None or (column.key == "seconds" and row.device != "cpu"):
        printed = (float("nan"), None)
    return {f"paper_{column.paper}_mean": printed[0], f"paper_{column.paper}_sd": printed[1]}


def _counts(data: DataSet, row: Row, per_vertebra: pd.DataFrame, per_patient: pd.DataFrame) -> dict[str, int]:
    everyone = len(data.patients)
    total = {"all_vertebrae": len(data.counted_pairs), "all_patients": everyone}
    if row.method == "initial":
        cells = data.cases[data.cases["method"] == "initial"]
        seen = {"vertebrae": len(per_vertebra), "patients": everyone}
        # Initial's values need no cell, so one that was never run is not missing.
        return seen | total | _statuses(cells) | {"missing": 0}
    cells = row.of(data.cases)
    seen = {"vertebrae": len(per_vertebra), "patients": len(per_patient)}
    return seen | total | _statuses(cells) | {"missing": everyone - cells["case"].nunique()}


def _statuses(cells: pd.DataFrame) -> dict[str, int]:
    return {status: int((cells["status"] == status).sum()) for status in STATUSES}


def complete(table: pd.DataFrame) -> pd.Series:
    """Return which rows of a table have every vertebra and patient; only those can have the best value."""
    return (table["vertebrae"] == table["all_vertebrae"]) & (table["patients"] == table["all_patients"])


@dataclass(frozen=True)
class Text:
    """A value as it is printed, and whether it is the best of its column."""

    text: str
    best: bool = False


def mean_sd(column: str, mean: float | None, sd: float | None) -> str:
    """Return `mean(SD)` at the paper's precision, a dash for null.

    Two decimals; one for seconds from 1 on; none from 100 on. A count of exactly 0 is `0`, as the paper prints it.
    """
    if mean is None or pd.isna(mean):
        return "–"
    decimals = 0 if abs(mean) >= 100 else 1 if column == "seconds" and mean >= 1 else 2
    if column == "folding_voxels" and mean == 0:
        return "0"
    return f"{mean:.{decimals}f}" + ("" if sd is None or pd.isna(sd) else f"({sd:.{decimals}f})")


def number(value: float | None) -> float | None:
    """Return a value by which cells are sorted; None for null."""
    return None if value is None or pd.isna(value) else float(value)


def texts(table: pd.DataFrame, column: Column) -> list[Text]:
    """Return a column of one data set's table as printed, with `n=` where values are missing, and the best marked.

    Values are compared as printed, so that equal texts are marked alike. Initial, rows in brackets and rows that lack a
    vertebra or a patient are never the best: a row that fails on difficult patients would have a better mean.
    """
    mean, sd, counts = (table[f"{column.name}_{part}"] for part in ("mean", "sd", "n"))
    everything = table["all_vertebrae" if column.per == "vertebra" else "all_patients"]
    candidates = complete(table) & ~table["bracketed"] & (table["method"] != "initial") & mean.notna()
    # A contended cell lacks seconds for a reason other than the patient. Means over fewer patients than other rows have
    # are still not compared: the patients may be the small ones.
    most = counts[candidates].max() if column.name == "seconds" else everything
    candidates &= counts == most
    best = None
    if candidates.sum() > 1:
        winner = mean[candidates].max() if column.better == "higher" else mean[candidates].min()
        best = mean_sd(column.name, float(winner), None)
    printed = []
    for value, spread, count, total, candidate in zip(mean, sd, counts, everything, candidates, strict=True):
        over = "" if count in (0, total) else f" n={count}"
        is_best = bool(candidate) and mean_sd(column.name, value, None) == best
        printed.append(Text(mean_sd(column.name, value, spread) + over, is_best))
    return printed


def count_texts(table: pd.DataFrame, what: str) -> list[str]:
    """Return the count of `vertebrae` or `patients` of each row: `125`, or `118/125` where some are missing."""
    return [
        str(seen) if seen == total else f"{seen}/{total}"
        for seen, total in zip(table[what], table[f"all_{what}"], strict=True)
    ]
