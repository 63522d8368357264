"""Text files: escaping in Markdown, and a missing value of a template."""

from __future__ import annotations

import pandas as pd
import pytest
from jinja2 import UndefinedError

from reports.printing import TableCell, latex_text, markdown_text, render, text_table


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        ("a|b", r"a\|b"),
        ("*all* of_it", r"\*all\* of\_it"),
        ("<b>", r"\<b\>"),
        ("[x](y)", r"[x]\(y)"),
        ("two\n lines", "two lines"),
        ("C:\\folder", r"C:\\folder"),
        ("name `train --sweep` and a_b", r"name `train --sweep` and a\_b"),
        ("one ` alone, `a|b`, `<b>`", r"one \` alone, \`a\|b\`, \`\<b\>\`"),
    ],
)
def test_markdown_shows_special_characters_as_they_are(text, escaped):
    assert markdown_text(text) == escaped


def test_a_template_without_a_value_is_an_error():
    with pytest.raises(UndefinedError):
        render("runtime.md", notes=[])


def test_templates_escape_heads_cells_and_lines():
    table = text_table("A|B", pd.DataFrame({"a_b": ["x|y"], "Patients": [3]}))
    assert table.right == [False, True] and table.lines[0][0] == TableCell("x|y", "text")
    text = render("runtime.md", printed=table, notes=["*note*"])
    assert "| a\\_b | Patients |\n| :--- | ---: |\n| x\\|y | 3 |\n" in text
    assert "- \\*note\\*\n" in text


def test_latex_shows_every_character_as_text():
    assert latex_text("50%_a\\b") == r"50\%\_a\textbackslash{}b"
    assert latex_text("`a_b` 5%") == r"\texttt{a\_b} 5\%"
    assert latex_text("[*]") == "{[}{*}{]}"
    assert latex_text("中é") == "{[}U+4E2D{]}é"
