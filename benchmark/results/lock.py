"""The lock of a run folder: one run at a time writes into it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from benchmark.errors import BadInput

LOCK, HOLDER = ".lock", ".lock-holder"
# A process that a killed run has just forked holds the lock until it executes its own program.
WAIT_S = 3.0


def check_free(folder: Path) -> None:
    """Check that no other process runs in `folder`. Nothing is created in a folder that has no lock yet.

    Raises:
        BadInput: where another process holds the lock; the message names it.
    """
    if (folder / LOCK).is_file():
        with locked(folder):
            pass


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the lock of `folder`.

    The system releases the lock when its holder ends, also when it is killed. `.lock-holder` is for people: it names
    the holder in the message of another process.

    Raises:
        BadInput: where another process holds the lock, or `folder` cannot be locked.
    """
    # Without the fallback: a soft lock outlives a killed holder.
    lock = FileLock(folder / LOCK, timeout=WAIT_S, fallback_to_soft=False)
    try:
        lock.acquire()
    except Timeout as error:
        raise BadInput(
            f"--out {folder}: {_holder(folder)} is running in it; wait until it ends, or choose another --out"
        ) from error
    except (OSError, NotImplementedError) as error:
        cause = getattr(error, "strerror", None) or error
        raise BadInput(f"--out {folder}: expected a folder to write into, got {cause}; choose another --out") from error
    try:
        with suppress(OSError):  # a full disk must not prevent the lock
            (folder / HOLDER).write_text(
                f"process {os.getpid()} on {socket.gethostname()}, since {datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
                encoding="utf-8",
            )
        yield
    finally:
        with suppress(OSError):
            (folder / HOLDER).unlink(missing_ok=True)
        lock.release()


def _holder(folder: Path) -> str:
    """Who holds the lock, in words."""
    try:
        return (folder / HOLDER).read_text(encoding="utf-8").strip() or "another process"
    except OSError:
        return "another process"
