"""One runner at a time in a run folder."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from benchmark.errors import BadInput

NAME = ".lock"
# What a killed run had just begun to start holds the lock until it is another program.
PATIENCE_S, GLANCE_S = 3.0, 0.05


def check_free(folder: Path) -> None:
    """Raise BadInput, as `locked` does, where another process is at work in `folder`; nothing is made there."""
    if (folder / NAME).is_file():
        with locked(folder):
            pass


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`. Raises BadInput, saying who holds it, where another process does.

    The system gives the lock back when its holder ends, however it ends: a file left by a killed run locks nothing.
    """
    file = folder / NAME
    try:
        number = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except OSError as error:
        raise BadInput(f"--out {folder}: expected a folder to write into, got {error.strerror}") from error
    with os.fdopen(number, "r+", encoding="utf-8") as opened:
        if not _taken(opened):
            holder = opened.read().strip() or "another process"
            raise BadInput(f"--out {folder}: {holder} is running in it; wait until it ends, or choose another --out")
        _write(opened, f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC")
        try:
            yield
        finally:
            # Emptied, not removed: a process that has just opened the file would hold the lock of a removed one.
            _write(opened, "")


def _taken(file: TextIO) -> bool:
    """Take the lock, now or within a moment."""
    until = time.monotonic() + PATIENCE_S
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() > until:
                return False
            time.sleep(GLANCE_S)


def _write(file: TextIO, text: str) -> None:
    """Who holds the lock is for people to read: a full disk must not stand in the way of the lock itself."""
    with suppress(OSError):
        os.ftruncate(file.fileno(), 0)
        os.pwrite(file.fileno(), text.encode(), 0)
