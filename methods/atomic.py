"""Write a file so that a reader, or a run after a crash, finds either the complete file or none."""

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
    """Let `write` fill a temporary file or folder beside `path`, then rename it to `path`.

    Args:
        path: the file or folder to write. Missing parent folders are made. An existing file is replaced, an existing
            folder is not.
        write: writes to the path that it receives.
        durable: flush the file to the disk before it is renamed, so that it is complete even after a power cut.
        ending: suffix of the temporary name, such as `.nii.gz`, for a library that derives the format from it.

    Raises:
        OSError: the file cannot be written or renamed. Exceptions of `write` pass through. The temporary file is
            removed in both cases.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Process numbers would not be unique: containers that share a folder have the same ones.
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
    """Whether `path` is a temporary file of an `atomic_write` in a process that was killed."""
    return _UNFINISHED.fullmatch(path.name) is not None


def _flush(file: Path) -> None:
    """Write the file's data from the system's cache to the disk."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
