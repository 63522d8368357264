"""Further measures: every column of a metric that Table 1 does not show, by row, and by vertebra level.

A new column appears here as soon as its metric declares it.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import pandas as pd

from benchmark.results.columns import Column
from methods.vertebrae import vertebra_name
from reports.paper import COLUMNS
from reports.printing import PrintedTable, TableCell, arrow, heading, render
from reports.run_data import DataSet
from reports.table1.values import REFERENCES, number

_SUMMARY = ("unit", "better", "mean", "sd", "median", "n", "all")
_IDENTITY = f"({REFERENCES['identity']})"


def further_columns(data: DataSet) -> list[Column]:
    """Return the columns that Table 1 does not show and that have a value of some row, in the order of the tables."""
    shown = {column.key for column in COLUMNS}
    values = {"vertebra": data.vertebra_values, "case": data.patient_values}
    return [c for c in data.measures if c.name not in shown and values[c.per][c.name].notna().any()]


def measures(data: DataSet) -> pd.DataFrame:
    """Return the mean of each further column over each row.

    Args:
        data: One data set and split of a run.

    Returns:
        A line per row and column, the identity field last: row, method, device, column, unit, better (`higher`, `lower`
        or null), mean, sd (n - 1, null for fewer than two values), median, n (how many values: vertebrae or patients,
        by `per`) and all (how many there are).
    """
    everything = {"vertebra": len(data.counted_pairs), "case": len(data.patients)}
    lines = []
    for column in further_columns(data):
        for label, method, device, values in _values(data, column):
            line = {"row": label, "method": method, "device": device, "column": column.name, "per": column.per,
                    "unit": column.unit, "better": column.better}  # fmt: skip
            lines.append(line | _mean(values[column.name]) | {"all": everything[column.per]})
    names = ["row", "method", "device", "column", "per", *_SUMMARY]
    return pd.DataFrame(lines, columns=names)


def measures_by_level(data: DataSet) -> pd.DataFrame:
    """Return the mean of each further column per vertebra over each row and vertebra level.

    Returns:
        The columns of `measures`, with vertebra (VerSe id) and level (`L3`) after the column's name; `n` and `all`
        count the vertebrae of that level.
    """
    counted = data.counted_pairs["vertebra"].astype(int).value_counts()
    lines = []
    for column in (column for column in further_columns(data) if column.per == "vertebra"):
        for label, method, device, values in _values(data, column):
            by_level = values.astype({"vertebra": int}).groupby("vertebra")[column.name]
            for vertebra, level in by_level:
                line = {"row": label, "method": method, "device": device, "column": column.name,
                        "vertebra": int(str(vertebra)), "level": vertebra_name(int(str(vertebra))),
                        "unit": column.unit, "better": column.better}  # fmt: skip
                lines.append(line | _mean(level) | {"all": int(counted[vertebra])})
    names = ["row", "method", "device", "column", "vertebra", "level", *_SUMMARY]
    return pd.DataFrame(lines, columns=names)


def _values(data: DataSet, column: Column) -> list[tuple[str, str, str, pd.DataFrame]]:
    """Label, method, device and values of each row but Initial, and of the identity field where it was run."""
    values = data.vertebra_values if column.per == "vertebra" else data.patient_values
    rows = [
        (f"({row.label})" if row.oracle else row.label, row.method, row.device, row.of(values))
        for row in data.table_rows[1:]
    ]
    identity = data.identity_values[column.per]
    return [*rows, *([(_IDENTITY, "identity", "", identity)] if len(identity) else [])]


def _mean(values: pd.Series) -> dict[str, float | int]:
    known = values.astype(float).dropna()
    return {"mean": known.mean(), "sd": known.std(ddof=1), "median": known.median(), "n": len(known)}


def measure_tables(data: DataSet) -> list[PrintedTable]:
    """Return the printed tables: all further columns by row, then each column per vertebra by row and level."""
    columns = further_columns(data)
    if not columns:
        return []
    table = measures(data)
    heads = [heading(column) + arrow(column) for column in columns]
    tables = [_table("Further measures", table, "column", dict(zip([c.name for c in columns], heads, strict=True)))]
    by_level = measures_by_level(data)
    for column in columns:
        part = by_level[by_level["column"] == column.name]
        if len(part):
            levels = {vertebra: vertebra_name(vertebra) for vertebra in sorted(set(part["vertebra"]))}
            tables.append(_table(f"{heading(column)} by vertebra level{arrow(column)}", part, "vertebra", levels))
    return tables


def _table(title: str, table: pd.DataFrame, by: str, heads: dict[str, str] | dict[int, str]) -> PrintedTable:
    """A line per row and a column for each of `heads`: the values of `by` with their heads."""
    cells = {(line["row"], line[by]): _cell(line) for line in table.to_dict("records")}
    empty = TableCell("–", "value")
    lines = [
        [TableCell(row, "name"), *(cells.get((row, key), empty) for key in heads)]
        for row in dict.fromkeys(table["row"])
    ]
    return PrintedTable(title, ["Method", *heads.values()], [False] + [True] * len(heads), lines)


def _cell(line: Mapping[Hashable, Any]) -> TableCell:
    over = "" if line["n"] in (0, line["all"]) else f" n={line['n']}"
    return TableCell(measure_text(line["mean"], line["sd"], line["unit"]) + over, "value", number(line["mean"]))


def measure_text(mean: float, sd: float, unit: str) -> str:
    """Return `mean(SD)`, a dash for null: two decimals with a unit, else three significant digits; none from 100 on."""
    if pd.isna(mean):
        return "–"
    form = ".0f" if abs(mean) >= 100 else ".2f" if unit else ".3g"
    return format(mean, form) + ("" if pd.isna(sd) else f"({format(sd, form)})")


def measures_latex(data_sets: Sequence[DataSet]) -> str:
    r"""Return the printed tables of each data set as LaTeX, to be \input like Table 1."""
    return render("measures.tex", data_sets=[(data.name, measure_tables(data)) for data in data_sets])
