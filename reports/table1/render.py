"""Print Table 1 as Markdown, as LaTeX and in the terminal; reports.html prints it as HTML.

values.py decides which value is the best of its column and is printed bold.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from reports.paper import Table1Column
from reports.printing import render
from reports.table1.sheet import Sheet, column_notes, has_paper, head, note_marks, paper_texts

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

# A terminal narrower than the first shows one scale of Dice, one narrower than the second drops the counts, which the
# table's head and its n= give too, and one narrower than the third breaks each value before its SD.
_EVERY_SCALE, _FULL_WIDTH, _PLAIN_WIDTH = 145, 110, 96
_HARD, _SOFT = ("dsc", "rigid_dsc"), ("soft_dsc", "soft_rigid_dsc")


def markdown(sheets: Sequence[Sheet], environment: str) -> str:
    """Return sheets as Markdown: what is missing, the table, the comparisons and the notes of each.

    Args:
        sheets: Table 1 of each data set.
        environment: The environment of the run, on one line.
    """
    return render("table1.md", sheets=sheets, environment=environment)


def latex(sheets: Sequence[Sheet]) -> str:
    r"""Return sheets as LaTeX, to be \input into a document that loads booktabs and graphicx.

    Each is a `table` with what is missing in the caption and the notes below the rules.
    """
    return render("table1.tex", sheets=sheets, captions=[_caption(sheet) for sheet in sheets])


def _caption(sheet: Sheet) -> str:
    caption = f"{sheet.title.removeprefix('Table 1: ')}."
    if sheet.incomplete:
        caption += f" Incomplete run, missing from the means: {'; '.join(sheet.incomplete)}."
    return caption


def terminal(sheet: Sheet, width: int = _FULL_WIDTH) -> RenderableType:
    """A sheet for a terminal of `width` columns, the paper's values dim on a line below ours."""
    from rich.console import Group
    from rich.padding import Padding
    from rich.text import Text

    def block(title: str, lines: list[str]) -> list[RenderableType]:
        return [Text(title), *(Padding(Text(line), (0, 0, 0, 2), expand=False) for line in lines), Text()]

    parts: list[RenderableType] = [Text(sheet.title, "bold"), Text()]
    if sheet.incomplete:
        parts += block("Incomplete run. Missing from the means:", sheet.incomplete)
    parts += [_rich_table(sheet, width), Text()]
    if sheet.comparisons:
        parts += block("DSC minus Initial's DSC, paired by patient, with the 95 % interval:", sheet.comparisons)
    parts += [Text(note, "dim") for note in column_notes(_shown(sheet, width))]
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
    columns = _shown(sheet, width)
    marks = note_marks(columns)
    for column in columns:
        table.add_column(Text(_broken(head(sheet.data, column, marks))), justify="right", overflow="fold")
    wide = width >= _FULL_WIDTH
    counted = "Cases" if sheet.printed.heads[-1] == "Cases" else "Pat."
    for name in ("Vert.", counted) if wide else ():
        table.add_column(name, justify="right")
    places = [k for k, column in enumerate(sheet.data.table_columns) if column in columns]
    paper = [paper_texts(sheet.table, column) if has_paper(sheet, column) else None for column in columns]
    for number, line in enumerate(sheet.printed.lines):
        values = [cell for cell in line if cell.kind == "value"]
        counts = [cell.text for cell in line if cell.kind == "count"] if wide else []
        shown = [Text(fitted(values[k].text) + values[k].mark, "bold" * values[k].best) for k in places]
        name = line[0].text.translate(str.maketrans(note_marks(sheet.data.table_columns)["initial"], marks["initial"]))
        table.add_row(Text(name), *shown, *counts)
        printed = [fitted(texts_of[number]) if texts_of else "" for texts_of in paper]
        if any(text not in ("", "–") for text in printed):
            table.add_row("  paper", *printed, style="dim")
    return table


def _shown(sheet: Sheet, width: int) -> list[Table1Column]:
    """The columns that a terminal shows: a narrow one has the scale of the paper's values if they are shown."""
    columns = sheet.data.table_columns
    if width >= _EVERY_SCALE or not any(column.key in _SOFT for column in columns):
        return columns
    return [column for column in columns if column.key not in (_HARD if sheet.with_paper else _SOFT)]


def _broken(name: str) -> str:
    """A column's head on two lines, so that the values below decide its width."""
    first, _, second = name.replace("SD log", "SD_log").replace("DSC ↑", "DSC_↑").partition(" ")
    return f"{first}\n{second}".replace("_", " ").strip()
