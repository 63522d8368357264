"""Table 1 in print: Markdown, CSV and the terminal (LaTeX: latex.py, HTML: reports.html)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pandas as pd

from reports.paper import COLUMNS
from reports.table1.footnotes import COLUMN_NOTES
from reports.table1.sheet import NOTE_MARKS, Sheet, TableCell, cells, has_paper, head, heads, paper_texts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

# A terminal narrower than the first drops the counts, which the table's head and its n= give too; one narrower than
# the second breaks each figure before its SD.
_FULL_WIDTH, _PLAIN_WIDTH = 110, 96


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


def marked_down(cell: TableCell) -> str:
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
    paper = [paper_texts(sheet.table, column) if has_paper(sheet, column) else None for column in COLUMNS]
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


def bar(parts: tuple[str, ...] | list[str]) -> str:
    """A line of a Markdown table."""
    return f"| {' | '.join(parts)} |"


def plain(text: str) -> str:
    """Text on one line, for Markdown in which bars, stars, underscores, angle brackets and links mean themselves."""
    return re.sub(r"([|*_<>`\\]|(?<=\])\()", r"\\\1", " ".join(text.split()))
