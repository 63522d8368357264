"""Table 1 in print: Markdown, CSV and the terminal. The numbers come from reports.tables, the notes from reports.notes.

Each printer takes one data set's part of a run and the lines of `tables.table1` that belong to it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from reports.frames import Frames, by_dataset, counted
from reports.notes import COLUMN_NOTES, comparisons, footnotes, incomplete
from reports.paper import COLUMNS, Column
from reports.tables import count_texts, figure_text, table1, texts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

_MARKS = dict(zip(COLUMN_NOTES, "¹²³⁴", strict=True))
# A terminal narrower than the first drops the counts, which the table's head and its n= give too; one narrower than
# the second breaks each figure before its SD.
_FULL_WIDTH, _PLAIN_WIDTH = 110, 96


@dataclass(frozen=True)
class Sheet:
    """One data set's Table 1 with everything a printer puts around it."""

    title: str
    table: pd.DataFrame
    with_paper: bool
    incomplete: list[str]
    notes: list[str]
    comparisons: list[str]


def sheets(pairs: pd.DataFrame, vertebrae: pd.DataFrame, cases: pd.DataFrame, with_paper: bool = False) -> list[Sheet]:
    """What there is to print of a run, a sheet for each data set and split."""
    table = table1(pairs, vertebrae, cases, with_paper)
    found = []
    for frames in by_dataset(pairs, vertebrae, cases):
        lines = table[(table["dataset"] == frames.dataset) & (table["split"] == frames.split)].reset_index(drop=True)
        notes = footnotes(frames, with_paper)
        found.append(Sheet(_title(frames, lines), lines, with_paper, incomplete(frames), notes, comparisons(frames)))
    return found


def _title(frames: Frames, table: pd.DataFrame) -> str:
    vertebrae, patients = (int(n) for n in table[["all_vertebrae", "all_patients"]].iloc[0])
    return (
        f"Table 1: {frames.name}, {counted(vertebrae, 'vertebra', 'vertebrae')} of "
        f"{counted(patients, 'patient', 'patients')}"
    )


def csv(table: pd.DataFrame) -> str:
    """`tables.table1` as CSV: numbers at six significant digits, an empty field where there is no figure."""
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def markdown(sheet: Sheet) -> str:
    """A sheet as Markdown: what is missing, the table, the comparisons and the notes."""
    heads, columns = ["Method"], [list(map(_plain, _row_names(sheet.table)))]
    for column in COLUMNS:
        heads.append(_plain(_head(column)))
        columns.append([f"**{text.text}**" if text.best else text.text for text in texts(sheet.table, column)])
        if _has_paper(sheet, column):
            heads.append("paper")
            columns.append(_paper_texts(sheet.table, column))
    for what in ("vertebrae", "patients"):
        heads.append(what.capitalize())
        columns.append(count_texts(sheet.table, what))
    lines = ["## " + _plain(sheet.title), ""]
    if sheet.incomplete:
        lines += [
            "**Incomplete run.** Not in the averages:",
            "",
            *(f"- {_plain(line)}" for line in sheet.incomplete),
            "",
        ]
    lines += [_bar(heads), _bar([":---"] + ["---:"] * (len(heads) - 1)), *map(_bar, zip(*columns, strict=True)), ""]
    if sheet.comparisons:
        lines += ["DSC minus Initial's, paired by patient, with the 95 % bootstrap interval:", ""]
        lines += [*(f"- {_plain(line)}" for line in sheet.comparisons), ""]
    lines += [f"{_MARKS[name]} {_plain(note)}  " for name, note in COLUMN_NOTES.items()]
    return "\n".join([*lines, "", *(f"- {_plain(note)}" for note in sheet.notes), ""])


def terminal(sheet: Sheet, width: int = _FULL_WIDTH) -> RenderableType:
    """A sheet for a terminal of `width` columns, the paper's figures dim on a line below ours."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    def block(head: str, lines: list[str]) -> list[RenderableType]:
        return [Text(head), *(Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines), Text()]

    parts: list[RenderableType] = [Text(sheet.title, "bold"), Text()]
    if sheet.incomplete:
        parts += block("Incomplete run. Not in the averages:", sheet.incomplete)
    parts += [_rich_table(sheet, width), Text()]
    if sheet.comparisons:
        parts += block("DSC minus Initial's, paired by patient, with the 95 % bootstrap interval:", sheet.comparisons)
    parts += [Text(f"{_MARKS[name]} {note}", "dim") for name, note in COLUMN_NOTES.items()]
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
        table.add_column(Text(_broken(_head(column))), justify="right")
    counts = []
    if width >= _FULL_WIDTH:
        counts = [count_texts(sheet.table, what) for what in ("vertebrae", "patients")]
        table.add_column("Vert.", justify="right")
        table.add_column("Pat.", justify="right")
    ours = [[Text(fitted(text.text), "bold" * text.best) for text in texts(sheet.table, column)] for column in COLUMNS]
    paper = [_paper_texts(sheet.table, column) if _has_paper(sheet, column) else None for column in COLUMNS]
    for line, name in enumerate(_row_names(sheet.table)):
        table.add_row(Text(name), *(cells[line] for cells in ours), *(cells[line] for cells in counts))
        printed = [fitted(cells[line]) if cells else "" for cells in paper]
        if any(text not in ("", "–") for text in printed):
            table.add_row("  paper", *printed, style="dim")
    return table


def _broken(head: str) -> str:
    """A column's head on two lines, so that the figures below decide its width."""
    first, _, second = head.replace("SD log", "SD_log").replace("DSC ↑", "DSC_↑").partition(" ")
    return f"{first}\n{second}".replace("_", " ").strip()


def _row_names(table: pd.DataFrame) -> list[str]:
    return [
        name + (_MARKS["initial"] if method == "initial" else "")
        for name, method in zip(table["row"], table["method"], strict=True)
    ]


def _has_paper(sheet: Sheet, column: Column) -> bool:
    return sheet.with_paper and column.paper is not None


def _paper_texts(table: pd.DataFrame, column: Column) -> list[str]:
    pairs = zip(table[f"paper_{column.paper}_mean"], table[f"paper_{column.paper}_sd"], strict=True)
    return [figure_text(column.key, mean, sd) for mean, sd in pairs]


def _head(column: Column) -> str:
    return f"{column.title} {'↑' if column.best == 'max' else '↓'}{_MARKS[column.note]}"


def _bar(cells: tuple[str, ...] | list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _plain(text: str) -> str:
    """Text for Markdown in which bars, stars, underscores and angle brackets mean themselves."""
    return re.sub(r"([|*_<>])", r"\\\1", text)
