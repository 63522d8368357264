"""Tables as they are printed, and the text files made from them: Markdown and LaTeX from templates, and CSV.

The templates are in `reports/templates`. Values reach them unescaped; the filters `md` and `tex` escape them there.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.results.columns import Column
from methods.atomic import atomic_write

_FOLDER = Path(__file__).parent / "templates"
_LATEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "≤": r"$\leq$", "≈": r"$\approx$", "Δ": r"$\Delta$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "±": r"$\pm$", "·": r"$\cdot$", "¹": r"\textsuperscript{1}", "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}", "⁴": r"\textsuperscript{4}", "⁵": r"\textsuperscript{5}", "⁶": r"\textsuperscript{6}",
    "⁺": r"\textsuperscript{+}",
    # After a line end \\\\, LaTeX would read [ as an optional argument, and * as the starred form of the line end.
    "[": "{[}", "]": "{]}", "*": "{*}", "⁻": r"\textsuperscript{$-$}", '"': "''", "−": "$-$", "→": r"$\rightarrow$",
}  # fmt: skip

# Code between backquotes, without a character that would end it, or a table's cell, in Markdown.
_CODE = re.compile(r"`(?! )([^`|<>\\]+)(?<! )`")


@dataclass(frozen=True)
class TableCell:
    """A table's cell as it is printed.

    Attributes:
        text: What is printed.
        kind: `name` (of a row), `value`, `paper` (a value of the paper), `count` or `text`.
        number: What the cell is sorted by; None for no value, or where the text is sorted itself.
        best: Whether the value is the best of its column.
        mark: A mark of significance after the text, or "".
    """

    text: str
    kind: str
    number: float | None = None
    best: bool = False
    mark: str = ""


@dataclass(frozen=True)
class PrintedTable:
    """A table ready to print: its title, a head and an alignment for each column, and its lines of cells."""

    title: str
    heads: Sequence[str]
    right: Sequence[bool]
    lines: Sequence[Sequence[TableCell]]


def text_table(title: str, frame: pd.DataFrame) -> PrintedTable:
    """Return a frame of texts as a table; columns of numbers are aligned to the right."""
    lines = [[TableCell(str(value), "text") for value in line] for line in frame.itertuples(index=False)]
    right = [pd.api.types.is_numeric_dtype(frame[name]) for name in frame]
    return PrintedTable(title, [str(name) for name in frame], right, lines)


def heading(column: Column) -> str:
    """Return a column's title with its unit, which a title like `%Δvol` already has."""
    return column.title if not column.unit or column.unit in column.title else f"{column.title} [{column.unit}]"


def arrow(column: Column) -> str:
    """Return which end of a column is better: ` ↑`, ` ↓`, or nothing where neither is."""
    return {"higher": " ↑", "lower": " ↓", None: ""}[column.better]


def render(template: str, **values: Any) -> str:
    """Return a template of `reports/templates` with values; a value that it misses is an error."""
    return str(_environment(template.endswith(".tex")).get_template(template).render(**values))


@lru_cache(maxsize=2)
def _environment(latex: bool) -> Any:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    # Jinja's own braces and percent signs have a meaning in LaTeX.
    marks = ("<%", "%>", "<<", ">>", "<#", "#>") if latex else ("{%", "%}", "{{", "}}", "{#", "#}")
    environment = Environment(
        *marks, loader=FileSystemLoader(_FOLDER), autoescape=False, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    environment.filters |= {"md": markdown_text, "tex": latex_text}
    return environment


def markdown_text(text: object) -> str:
    """Return text on one line, with bars, stars, underscores, brackets, backquotes and links escaped for Markdown.

    What stands between backquotes is code, where no character needs to be escaped.
    """
    parts = _CODE.split(" ".join(str(text).split()))
    special = r"([|*_<>`\\]|(?<=\])\()"
    return "".join(f"`{part}`" if number % 2 else re.sub(special, r"\\\1", part) for number, part in enumerate(parts))


def latex_text(text: object) -> str:
    """Return text so that pdfLaTeX prints it unchanged; a character that its fonts lack becomes [U+XXXX].

    What stands between backquotes is code.
    """
    parts = _CODE.split(" ".join(str(text).split()))
    printed = [re.sub(r"[^A-Za-z0-9 ]", lambda match: _latex_character(match[0]), part) for part in parts]
    return "".join(rf"\texttt{{{part}}}" if number % 2 else part for number, part in enumerate(printed))


def _latex_character(character: str) -> str:
    if character in _LATEX:
        return _LATEX[character]
    # T1 fonts have the letters of Latin-1; other Unicode would stop the document.
    known = character.isascii() or (character.isalpha() and ord(character) < 256)
    return character if known else f"{{[}}U+{ord(character):04X}{{]}}"


def csv(table: pd.DataFrame) -> str:
    """Return a table as CSV: numbers with six significant digits, an empty field for no value."""
    return str(table.to_csv(index=False, float_format="%.6g", lineterminator="\n"))


def write_text(path: Path, text: str) -> None:
    """Write a text file in one step, with \\n at line ends on every system."""
    atomic_write(path, lambda unfinished: unfinished.write_text(text, encoding="utf-8", newline="\n"))
