"""Errors that end a command with one line instead of a traceback."""

from __future__ import annotations

import os
from pathlib import Path


class BadInput(ValueError):
    """A request or a file that cannot be used. The command ends with status 2.

    The message has the form `argument: expected X, got Y; next step`.
    """


class Stopped(RuntimeError):
    """A run that cannot continue, for example because the disk is full. The command ends with status 1.

    Finished cells are kept, and the message says how to continue.
    """


def check_writable(folder: Path) -> None:
    """Check that files can be written into `folder`, which may be missing yet. Nothing is created.

    Raises:
        BadInput: where they cannot.
    """
    existing = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        found = "a read-only folder" if existing.is_dir() else "a file"
        raise BadInput(f"{folder}: expected a folder to write into, found {found} at {existing}; choose another")


def reason(error: Exception) -> str:
    """The message of a library's error in one line of at most 200 characters, without source positions."""
    text = str(error).split("ERROR: ", 1)[-1]
    return " ".join(text.split())[:200] or type(error).__name__
