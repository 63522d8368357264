"""Table 1 in print: Markdown, CSV and the terminal (LaTeX: latex.py, HTML: reports.html).

The numbers come from values.py, the notes from footnotes.py. Each printer takes one data set's part of a run and
the lines of `tables.table1` that belong to it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from reports.paper import BASELINE, COLUMNS, Column
from reports.run_data import Frames, by_dataset, counted
from reports.stats.comparisons import Measured, against_baseline
from reports.table1.footnotes import COLUMN_NOTES, comparisons, footnotes, incomplete, marks_note
from reports.table1.values import REFERENCES, count_texts, figure_text, table1, texts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

NOTE_MARKS = dict(zip(COLUMN_NOTES, "¹²³⁴", strict=True))
# A terminal narrower than the first drops the counts, which the table's head and its n= give too; one narrower than
# the second breaks each figure before its SD.
_FULL_WIDTH, _PLAIN_WIDTH = 110, 96
BETTER, WORSE = "⁺", "⁻"


@dataclass(frozen=True)
class Sheet:
    """One data set's Table 1 with everything a printer puts around it.

    marks: (row's label, column) -> whether the row is significantly better than the baseline, or worse; from `tests`,
    which `comparisons.against_baseline` made of `measured`.
    """

    title: str
    table: pd.DataFrame
    with_paper: bool
    incomplete: list[str]
    notes: list[str]
    comparisons: list[str]
    marks: Mapping[tuple[str, str], bool]
    measured: Measured
    tests: pd.DataFrame


@dataclass(frozen=True)
class Cell:
    """A cell as it is printed. number: what it is sorted by, None for no figure. kind: name, figure, paper or count."""

    text: str
    kind: str
    number: float | None = None
    best: bool = False
    mark: str = ""


def sheets(
    pairs: pd.DataFrame, vertebrae: pd.DataFrame, cases: pd.DataFrame, with_paper: bool = False,
    references: bool = False, baseline: str = BASELINE,
) -> list[Sheet]:  # fmt: skip
    """What there is to print of a run, a sheet for each data set and split. Options: as for `tables.table1`.

    baseline: the row against which significance is marked; without it nothing is.
    """
    table = table1(pairs, vertebrae, cases, with_paper, references)
    found = []
    for frames in by_dataset(pairs, vertebrae, cases):
        lines = table[(table["dataset"] == frames.dataset) & (table["split"] == frames.split)].reset_index(drop=True)
        measured = Measured(frames)
        tests = against_baseline(measured, baseline)
        decided = tests[tests["better"].notna()]
        marks = {(str(t.row), str(t.metric)): bool(t.better) for t in decided.itertuples()}
        notes = [*footnotes(frames, with_paper, references), *marks_note(measured, tests, baseline)]
        around = (incomplete(frames), notes, comparisons(frames))
        found.append(Sheet(_title(frames, lines), lines, with_paper, *around, marks, measured, tests))
    return found


def _title(frames: Frames, table: pd.DataFrame) -> str:
    vertebrae, patients = (int(n) for n in table[["all_vertebrae", "all_patients"]].iloc[0])
    return (
        f"Table 1: {frames.name}, {counted(vertebrae, 'vertebra', 'vertebrae')} of "
        f"{counted(patients, 'patient', 'patients')}"
    )


def heads(sheet: Sheet) -> list[str]:
    """The heads of `cells`' columns: Method, Table 1's columns (each with `paper` after it), Vertebrae, Patients."""
    names = ["Method"]
    for column in COLUMNS:
        names += [head(column), "paper"] if _has_paper(sheet, column) else [head(column)]
    return [*names, "Vertebrae", "Patients"]


def cells(sheet: Sheet) -> list[list[Cell]]:
    """The table's lines, a cell for each of `heads`."""
    table = sheet.table
    columns = [[Cell(name, "name") for name in _row_names(table)]]
    for column in COLUMNS:
        ours = []
        for row, text, mean in zip(table["row"], texts(table, column), table[f"{column.key}_mean"], strict=True):
            better = sheet.marks.get((row, column.key))
            mark = "" if better is None else BETTER if better else WORSE
            ours.append(Cell(text.text, "figure", None if pd.isna(mean) else float(mean), text.best, mark))
        columns.append(ours)
        if _has_paper(sheet, column):
            means = table[f"paper_{column.paper}_mean"]
            columns.append([
                Cell(text, "paper", None if pd.isna(mean) else float(mean))
                for text, mean in zip(_paper_texts(table, column), means, strict=True)
            ])  # fmt: skip
    for what in ("vertebrae", "patients"):
        columns.append([Cell(t, "count", float(n)) for t, n in zip(count_texts(table, what), table[what], strict=True)])
    return [list(line) for line in zip(*columns, strict=True)]


def csv(table: pd.DataFrame) -> str:
    """A table as CSV: numbers at six significant digits, an empty field where there is no figure."""
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def markdown(sheet: Sheet) -> str:
    """A sheet as Markdown: what is missing, the table, the comparisons and the notes."""
    lines = ["## " + plain(sheet.title), ""]
    if sheet.incomplete:
        lines += [
            "**Incomplete run.** Not in the averages:",
            "",
            *(f"- {plain(line)}" for line in sheet.incomplete),
            "",
        ]
    printed = [[marked_down(cell) for cell in line] for line in cells(sheet)]
    names = [plain(name) for name in heads(sheet)]
    lines += [bar(names), bar([":---"] + ["---:"] * (len(names) - 1)), *map(bar, printed), ""]
    if sheet.comparisons:
        lines += ["DSC minus Initial's, paired by patient, with the 95 % bootstrap interval:", ""]
        lines += [*(f"- {plain(line)}" for line in sheet.comparisons), ""]
    lines += [f"{NOTE_MARKS[name]} {plain(note)}  " for name, note in COLUMN_NOTES.items()]
    return "\n".join([*lines, "", *(f"- {plain(note)}" for note in sheet.notes), ""])


def marked_down(cell: Cell) -> str:
    """A cell in Markdown: bold where it is the best, with its mark."""
    text = plain(cell.text)
    return (f"**{text}**" if cell.best else text) + cell.mark


def markdown_table(table: pd.DataFrame) -> str:
    """Any frame of texts as a Markdown table, escaped; numbers right."""
    numeric = [pd.api.types.is_numeric_dtype(table[name]) for name in table]
    rule = ["---:" if right else ":---" for right in numeric]
    lines = [[plain(str(value)) for value in line] for line in table.itertuples(index=False)]
    return "\n".join([bar([plain(str(name)) for name in table]), bar(rule), *map(bar, lines), ""])


def terminal(sheet: Sheet, width: int = _FULL_WIDTH) -> RenderableType:
    """A sheet for a terminal of `width` columns, the paper's figures dim on a line below ours."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    def block(title: str, lines: list[str]) -> list[RenderableType]:
        return [Text(title), *(Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines), Text()]

    parts: list[RenderableType] = [Text(sheet.title, "bold"), Text()]
    if sheet.incomplete:
        parts += block("Incomplete run. Not in the averages:", sheet.incomplete)
    parts += [_rich_table(sheet, width), Text()]
    if sheet.comparisons:
        parts += block("DSC minus Initial's, paired by patient, with the 95 % bootstrap interval:", sheet.comparisons)
    parts += [Text(f"{NOTE_MARKS[name]} {note}", "dim") for name, note in COLUMN_NOTES.items()]
    return Group(*parts, *(Text(f"- {note}", "dim") for note in sheet.notes))


def _rich_table(sheet: Sheet, width: int) -> Table:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    def fitted(text: str) -> str:
        text = text.replace(" n=", "\nn=")
        return text if width >= _PLAIN_WIDTH else text.replace("(", " (")

    table = Table(box=box.SIMPLE_HEAD, padding=0, pad_edge=False, show_edge=False)
    table.add_column("Method", no_wrap=True)
    for column in COLUMNS:
        table.add_column(Text(_broken(head(column))), justify="right", overflow="fold")
    wide = width >= _FULL_WIDTH
    for name in ("Vert.", "Pat.") if wide else ():
        table.add_column(name, justify="right")
    paper = [_paper_texts(sheet.table, column) if _has_paper(sheet, column) else None for column in COLUMNS]
    for number, line in enumerate(cells(sheet)):
        figures = [cell for cell in line if cell.kind == "figure"]
        counts = [cell.text for cell in line if cell.kind == "count"] if wide else []
        shown = [Text(fitted(cell.text) + cell.mark, "bold" * cell.best) for cell in figures]
        table.add_row(Text(line[0].text), *shown, *counts)
        printed = [fitted(texts_of[number]) if texts_of else "" for texts_of in paper]
        if any(text not in ("", "–") for text in printed):
            table.add_row("  paper", *printed, style="dim")
    return table


def _broken(name: str) -> str:
    """A column's head on two lines, so that the figures below decide its width."""
    first, _, second = name.replace("SD log", "SD_log").replace("DSC ↑", "DSC_↑").partition(" ")
    return f"{first}\n{second}".replace("_", " ").strip()


def _row_names(table: pd.DataFrame) -> list[str]:
    def named(name: str, method: str) -> str:
        return name + NOTE_MARKS["initial"] if method == "initial" else f"({name})" if method in REFERENCES else name

    return [named(name, method) for name, method in zip(table["row"], table["method"], strict=True)]


def _has_paper(sheet: Sheet, column: Column) -> bool:
    return sheet.with_paper and column.paper is not None


def _paper_texts(table: pd.DataFrame, column: Column) -> list[str]:
    pairs = zip(table[f"paper_{column.paper}_mean"], table[f"paper_{column.paper}_sd"], strict=True)
    return [figure_text(column.key, mean, sd) for mean, sd in pairs]


def head(column: Column) -> str:
    """A column's head: its title, which end is better, and its footnote."""
    return f"{column.title} {'↑' if column.best == 'max' else '↓'}{NOTE_MARKS[column.note]}"


def bar(parts: tuple[str, ...] | list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(parts)} |"


def plain(text: str) -> str:
    """Text on one line, for Markdown in which bars, stars, underscores, angle brackets and links mean themselves."""
    return re.sub(r"([|*_<>`\\]|(?<=\])\()", r"\\\1", " ".join(text.split()))
