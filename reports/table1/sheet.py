"""Table 1 of one data set ready to print: cells, marks of significance, and the notes around it.

The numbers come from values.py, the notes from footnotes.py; render.py and reports.html print a sheet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import pandas as pd

from reports.frames import quantity
from reports.paper import BASELINE, Table1Column
from reports.printing import PrintedTable, TableCell, arrow, heading
from reports.run_data import DataSet
from reports.stats.comparisons import against_baseline
from reports.table1.footnotes import COLUMN_NOTES, comparisons, footnotes, incomplete, marks_note
from reports.table1.values import REFERENCES, count_texts, mean_sd, number, table1, texts

NOTE_MARKS = "¹²³⁴⁵⁶"
BETTER, WORSE = "⁺", "⁻"


@dataclass(frozen=True)
class Sheet:
    """One data set's Table 1 with everything that is printed around it.

    Attributes:
        title: Its title, with the number of vertebrae and patients.
        table: The values, from `values.table1`.
        with_paper: Whether the paper's values are printed beside ours.
        incomplete: Lines on what is missing from the means.
        notes: Notes below the table.
        comparisons: Each row's DSC minus Initial's, as lines.
        marks: (row's label, column) -> whether the row is significantly better (or worse) than the baseline.
        data: The data set.
        tests: The comparisons with the baseline, of `comparisons.against_baseline`.
    """

    title: str
    table: pd.DataFrame
    with_paper: bool
    incomplete: list[str]
    notes: list[str]
    comparisons: list[str]
    marks: Mapping[tuple[str, str], bool]
    data: DataSet
    tests: pd.DataFrame

    @cached_property
    def column_notes(self) -> list[str]:
        """The footnotes of its columns and of row Initial, with their marks."""
        return column_notes(self.data.table_columns)

    @cached_property
    def printed(self) -> PrintedTable:
        """The table: Method, Table 1's columns (each with `paper` after it on request), Vertebrae, Patients."""
        heads = _heads(self)
        return PrintedTable(self.title, heads, [False] + [True] * (len(heads) - 1), _lines(self))


def make_sheet(data: DataSet, with_paper: bool = False, references: bool = False, baseline: str = BASELINE) -> Sheet:
    """Return Table 1 of a data set with everything that is printed around it.

    Args:
        data: One data set and split of a run.
        with_paper: Whether the paper's values are printed beside ours.
        references: Whether reference rows follow the methods (`values.table1`).
        baseline: The method against whose row significance is marked; without that row nothing is marked.
    """
    table = table1(data, with_paper, references)
    tests = against_baseline(data, baseline)
    decided = tests[tests["better"].notna()]
    marks = {(str(t.row), str(t.metric)): bool(t.better) for t in decided.itertuples()}
    shown = set(table["method"]) & set(REFERENCES)
    notes = [*footnotes(data, with_paper, shown), *marks_note(data, tests, baseline)]
    around = (incomplete(data), notes, comparisons(data))
    return Sheet(_title(data, table), table, with_paper, *around, marks, data, tests)


def note_marks(columns: Sequence[Table1Column]) -> dict[str, str]:
    """Return the mark of each footnote of a table, those of its columns and of row Initial, numbered without gaps."""
    used = {*(column.note for column in columns), "initial"}
    return dict(zip([name for name in COLUMN_NOTES if name in used], NOTE_MARKS, strict=False))


def column_notes(columns: Sequence[Table1Column]) -> list[str]:
    """Return the footnotes of a table's columns and of row Initial, with their marks."""
    return [f"{mark} {COLUMN_NOTES[name]}" for name, mark in note_marks(columns).items()]


def _title(data: DataSet, table: pd.DataFrame) -> str:
    scans = "" if data.scans.as_in_the_paper else f" ({data.scans.moving} to {data.scans.fixed})"
    vertebrae, patients = (int(n) for n in table[["all_vertebrae", "all_patients"]].iloc[0])
    of = quantity(patients, "patient", "patients")
    if _share_patients(data):
        of = f"{patients} cases of {quantity(data.independent_patients, 'patient', 'patients')}"
    return f"Table 1: {data.name}{scans}, {quantity(vertebrae, 'vertebra', 'vertebrae')} of {of}"


def _share_patients(data: DataSet) -> bool:
    """Whether some patient has several cases."""
    return data.independent_patients < len(data.patients)


def _heads(sheet: Sheet) -> list[str]:
    names, marks = ["Method"], note_marks(sheet.data.table_columns)
    for column in sheet.data.table_columns:
        name = head(sheet.data, column, marks)
        names += [name, "paper"] if has_paper(sheet, column) else [name]
    return [*names, "Vertebrae", "Cases" if _share_patients(sheet.data) else "Patients"]


def _lines(sheet: Sheet) -> list[list[TableCell]]:
    table = sheet.table
    columns = [[TableCell(name, "name") for name in _row_names(sheet)]]
    for column in sheet.data.table_columns:
        ours = []
        printed = texts(table, sheet.data.columns[column.key])
        for row, text, mean in zip(table["row"], printed, table[f"{column.key}_mean"], strict=True):
            better = sheet.marks.get((row, column.key))
            mark = "" if better is None else BETTER if better else WORSE
            ours.append(TableCell(text.text, "value", number(mean), text.best, mark))
        columns.append(ours)
        if has_paper(sheet, column):
            means = table[f"paper_{column.paper}_mean"]
            pairs = zip(paper_texts(table, column), means, strict=True)
            columns.append([TableCell(text, "paper", number(mean)) for text, mean in pairs])
    for counted in ("vertebrae", "patients"):
        pairs = zip(count_texts(table, counted), table[counted], strict=True)
        columns.append([TableCell(text, "count", float(count)) for text, count in pairs])
    return [list(line) for line in zip(*columns, strict=True)]


def has_paper(sheet: Sheet, column: Table1Column) -> bool:
    """Return whether the paper's values are printed beside a column."""
    return sheet.with_paper and column.paper is not None


def paper_texts(table: pd.DataFrame, column: Table1Column) -> list[str]:
    """Return the paper's values of a column as printed, a text per row."""
    pairs = zip(table[f"paper_{column.paper}_mean"], table[f"paper_{column.paper}_sd"], strict=True)
    return [mean_sd(column.key, mean, sd) for mean, sd in pairs]


def head(data: DataSet, column: Table1Column, marks: Mapping[str, str]) -> str:
    """Return a column's head: its title, which end is better, and the mark of its footnote, one of `note_marks`."""
    declared = data.columns[column.key]
    return heading(declared) + arrow(declared) + marks[column.note]


def _row_names(sheet: Sheet) -> list[str]:
    mark = note_marks(sheet.data.table_columns)["initial"]

    def named(name: str, method: str, bracketed: bool) -> str:
        return name + mark if method == "initial" else f"({name})" if bracketed else name

    return [named(*line) for line in sheet.table[["row", "method", "bracketed"]].itertuples(index=False)]
