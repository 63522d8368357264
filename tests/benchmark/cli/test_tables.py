"""Tables of names: what a narrow terminal shows."""

from __future__ import annotations

from io import StringIO

from rich.console import Console

from benchmark.cli.tables import table_of_names


def test_a_narrow_terminal_shows_every_letter() -> None:
    name, summary = "deformable-rigid-field", "pip install 'rigidbench[unigradicon]'"
    table = table_of_names("name", "summary", "origin")
    table.add_row(name, summary, "built in")
    screen = StringIO()
    Console(file=screen, width=48).print(table)
    shown = screen.getvalue()
    assert name in shown and "…" not in shown
