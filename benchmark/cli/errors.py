"""Errors of a command: one line on stderr and an exit status."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import typer

from benchmark.errors import BadInput, Stopped

_show_tracebacks = False


def show_tracebacks(wanted: bool) -> None:
    """Choose whether `one_line_errors` lets errors through with their traceback (`--debug`)."""
    global _show_tracebacks
    _show_tracebacks = wanted


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn an error into one line on stderr and an exit status.

    Raises:
        typer.Exit: with status 2 for BadInput and status 1 for every other error.
    """
    try:
        yield
    except (typer.Exit, SystemExit, KeyboardInterrupt):
        raise
    except Exception as error:
        if _show_tracebacks:
            raise
        typer.echo(f"error: {_one_line(error)}", err=True)
        raise typer.Exit(2 if isinstance(error, BadInput) else 1) from None


def _one_line(error: Exception) -> str:
    """The message of an error that is meant for users, or the kind of an unexpected one."""
    if isinstance(error, BadInput | Stopped):
        return str(error)
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    return f"unexpected {type(error).__name__}: {' '.join(str(error).split())}; --debug shows the traceback"
