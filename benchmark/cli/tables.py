"""Tables of names on the console."""

from __future__ import annotations

from rich.table import Table


def table_of_names(*heads: str) -> Table:
    """An empty table whose first column is never cut, since its names are typed again.

    Args:
        heads: of the columns. All but the first are narrowed where the terminal is narrow; a word that is longer than
            its column goes on in the next line.
    """
    table = Table(box=None)
    for number, head in enumerate(heads):
        table.add_column(head, no_wrap=number == 0, overflow="fold")
    return table
