"""How a file is written where another process may read it, or this one may be killed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4


def whole(file: Path, write: Callable[[Path], Any]) -> None:
    """Let `write` fill a temporary file beside `file`, then rename it: no reader ever sees half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number: containers that share a folder have the same ones.
    temporary = file.with_name(f".{file.name}.{uuid4().hex}.tmp")
    try:
        write(temporary)
        temporary.replace(file)
    finally:
        temporary.unlink(missing_ok=True)
