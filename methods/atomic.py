"""How a file is written where another process may read it, or this one may be killed."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

_UNFINISHED = re.compile(r"\..+\.[0-9a-f]{32}\.tmp(\..+)?")


def atomic_write(path: Path, write: Callable[[Path], Any], durable: bool = False, ending: str = "") -> None:
    """Let `write` fill a temporary file or folder beside `path`, then rename it: no reader ever sees half of it.

    Args:
        path: what is written; its folder is made if it is not there. A file of this name is replaced, a folder is not.
        write: fills the path that it is given.
        durable: flush the file to the disk before it is renamed, so that a power cut leaves no half of it either.
        ending: of the temporary name, such as `.nii.gz`, for a library that knows a format by it.

    Raises:
        OSError: the file cannot be written or renamed. Whatever `write` raises. Nothing is left behind then.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not by the process's number: containers that share a folder have the same ones.
    temporary = path.with_name(f".{path.name}.{uuid4().hex}.tmp{ending}")
    try:
        write(temporary)
        if durable:
            _flush(temporary)
        temporary.replace(path)
    finally:
        if temporary.is_dir():
            shutil.rmtree(temporary, ignore_errors=True)
        else:
            temporary.unlink(missing_ok=True)


def is_unfinished(path: Path) -> bool:
    """Whether `path` is what a killed process left of an `atomic_write`."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _flush(file: Path) -> None:
    number = os.open(file, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
