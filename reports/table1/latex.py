"""Table 1 in LaTeX: a `table` with booktabs rules and notes, to be \\input into a document that loads booktabs."""

from __future__ import annotations

import re

from reports.table1.footnotes import COLUMN_NOTES
from reports.table1.sheet import NOTE_MARKS, Sheet, TableCell, cells, heads

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}",
    "|": r"\textbar{}", "–": "--", "≤": r"$\leq$", "≈": r"$\approx$", "Δ": r"$\Delta$", "↑": r"$\uparrow$",
    "↓": r"$\downarrow$", "±": r"$\pm$", "·": r"$\cdot$", "¹": r"\textsuperscript{1}", "²": r"\textsuperscript{2}",
    "³": r"\textsuperscript{3}", "⁴": r"\textsuperscript{4}", "⁺": r"\textsuperscript{+}",
    # Bare, the first would be taken for an option and the second for a star of the line's end before them.
    "[": "{[}", "]": "{]}", "*": "{*}", "⁻": r"\textsuperscript{$-$}", '"': "''", "−": "$-$", "→": r"$\rightarrow$",
}  # fmt: skip


def latex(sheet: Sheet) -> str:
    """A sheet as LaTeX: what is missing in the caption, the table, the footnotes under it."""
    names = heads(sheet)
    caption = f"{sheet.title.removeprefix('Table 1: ')}."
    if sheet.incomplete:
        caption += f" Incomplete run, not in the averages: {'; '.join(sheet.incomplete)}."
    body, references = [], False
    for line in cells(sheet):
        # Reference rows stand apart from the methods.
        if line[0].text.startswith("(") and not references:
            body.append(r"\midrule")
            references = True
        body.append(" & ".join(map(_cell, line)) + r" \\")
    notes = [f"{NOTE_MARKS[name]} {note}" for name, note in COLUMN_NOTES.items()] + sheet.notes
    return "\n".join([
        r"% Needs \usepackage{booktabs}, and \usepackage{graphicx} for the width.",
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{escaped(caption)}}}",
        r"\resizebox{\textwidth}{!}{%",
        rf"\begin{{tabular}}{{l{'r' * (len(names) - 1)}}}",
        r"\toprule",
        " & ".join(map(escaped, names)) + r" \\",
        r"\midrule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\par\smallskip\begin{minipage}{\textwidth}\scriptsize",
        *(rf"{escaped(note)}\par" for note in notes),
        r"\end{minipage}",
        r"\end{table}",
        "",
    ])  # fmt: skip


def _cell(cell: TableCell) -> str:
    text = escaped(cell.text)
    return (rf"\textbf{{{text}}}" if cell.best else text) + escaped(cell.mark)


def escaped(text: str) -> str:
    """Any text so that pdfLaTeX prints it as it stands; a character that its fonts lack as [U+XXXX]."""
    return re.sub(r"[^A-Za-z0-9 ]", lambda found: _escaped(found[0]), " ".join(text.split()))


def _escaped(character: str) -> str:
    if character in _SPECIAL:
        return _SPECIAL[character]
    # What T1 fonts have of Latin-1; the rest of Unicode would stop the document.
    plain = character.isascii() or (character.isalpha() and ord(character) < 256)
    return character if plain else f"{{[}}U+{ord(character):04X}{{]}}"
