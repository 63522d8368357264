"""The `list` command: registered methods, datasets, metrics and penalties, and the built-in configurations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from benchmark.cli.requests import load_plugins
from benchmark.cli.tables import table_of_names
from benchmark.config import config_names
from benchmark.errors import BadInput
from methods.base import trainable
from methods.registry import DATASETS, METHODS, METRICS, PENALTIES, create_method

REGISTRIES = {"methods": METHODS, "datasets": DATASETS, "metrics": METRICS, "penalties": PENALTIES}


def list_names(kind: str, plugins: Sequence[Path], console: Console) -> None:
    """Print the names of one kind, each with its summary and its origin.

    Raises:
        BadInput: for another kind than methods, datasets, metrics, penalties and configs.
    """
    load_plugins(plugins)
    if kind == "configs":
        for name in config_names():
            console.print(name)
        return
    if kind not in REGISTRIES:
        raise BadInput(f"list {kind}: expected {', '.join(REGISTRIES)} or configs; for example `list methods`")
    table = table_of_names("name", "summary", "origin", *(["runs here"] if kind == "methods" else []))
    for entry in REGISTRIES[kind]:
        cells = [entry.name, entry.summary, entry.origin]
        if kind == "methods":
            cells.append(_where_it_runs(entry.name))
        table.add_row(*(escape(c) for c in cells))
    console.print(table)


def _where_it_runs(name: str) -> str:
    """A method's devices and whether it can be trained, or why it cannot run here."""
    try:
        method = create_method(name)
    except (ValueError, TypeError) as error:
        return " ".join(str(error).split())
    return method.unavailable("cpu") or ", ".join(method.devices) + (", trainable" if trainable(method) else "")
