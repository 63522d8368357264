"""What ends a command with one readable line instead of a traceback."""

from __future__ import annotations

import os
from pathlib import Path


class BadInput(ValueError):
    """A request or a file that cannot be used: the message names it, what was expected, what was found, what to do.

    The door prints the message alone and exits with status 2.
    """


class Stopped(RuntimeError):
    """A run that cannot go on, as when the disk is full. What was finished is kept, and the message says what to do.

    The door prints the message alone and exits with status 1.
    """


def check_writable(folder: Path) -> None:
    """Raise BadInput unless files can be written into `folder`, which need not be there yet. Nothing is made."""
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        found = "a read-only folder" if there.is_dir() else "a file"
        raise BadInput(f"{folder}: expected a folder to write into, found {found} at {there}; choose another")


def reason(error: Exception) -> str:
    """What a library's error says, on one line without its own source positions."""
    text = str(error).split("ERROR: ", 1)[-1]
    return " ".join(text.split())[:200] or type(error).__name__
