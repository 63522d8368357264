"""How a file is written where another process may read it, or this one may be killed."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4


def whole(file: Path, write: Callable[[Path], Any], durable: bool = False) -> None:
    """Let `write` fill a temporary file beside `file`, then rename it: no reader ever sees half a file.

    durable: not even after a power cut.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number: containers that share a folder have the same ones.
    temporary = file.with_name(f".{file.name}.{uuid4().hex}.tmp")
    try:
        write(temporary)
        if durable:
            _flush(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)


def is_unfinished(file: Path) -> bool:
    """Whether `file` is what a killed process left of a `whole`."""
    return file.name.startswith(".") and file.name.endswith(".tmp")


def _flush(file: Path) -> None:
    number = os.open(file, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
