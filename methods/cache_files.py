"""Files of the cache: a folder of computed results, each with a checksum, of which those used longest ago go first.

RIGIDBENCH_CACHE is the folder, or `off`; the default is rigidbench/ in XDG_CACHE_HOME or ~/.cache. RIGIDBENCH_CACHE_GB
is its largest size, 10 by default. Other files in the folder stay.

A file is a safetensors file whose metadata is one JSON object that begins with `checksum`, a blake2b hash of the file's
name and of every other byte. A file with any changed bit is deleted, and its content is computed again.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

from methods.atomic import atomic_write

FOLDER, LIMIT_GB = "RIGIDBENCH_CACHE", "RIGIDBENCH_CACHE_GB"
DEFAULT_GB = 10.0
SUFFIX = ".rigidbench"
NO_CHECKSUM = b"0" * 64
BEFORE_CHECKSUM = rb"{\"checksum\": \""  # as escaped in the metadata, which is JSON within JSON
UNFINISHED_S = 3600.0  # no writer takes that long: an older unfinished file belongs to a killed process


def cache_folder() -> Path | None:
    """The folder of the cache, or None if it is off or there is none."""
    chosen, base = os.environ.get(FOLDER, ""), os.environ.get("XDG_CACHE_HOME", "")
    if chosen.lower() == "off":
        return None
    try:
        if chosen:
            return Path(chosen).expanduser()
        # The XDG specification ignores a path that is not absolute.
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "rigidbench"
    except RuntimeError as error:  # a user without a home, as in some containers
        warn_once(f"{chosen or '~/.cache'}: expected a folder for the cache, found: {error}")
        return None


def limit_bytes() -> float:
    """The largest size of the cache.

    Raises:
        ValueError: RIGIDBENCH_CACHE_GB is no number.
    """
    text = os.environ.get(LIMIT_GB) or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise ValueError(f"{LIMIT_GB}: expected a number of GB, 0 or more, got {text!r}; unset it for {DEFAULT_GB:g}")
    return limit * 2**30


def file_of(folder: Path, key: str) -> Path:
    """The file of a key, which names all that determines the content."""
    return folder / f"{blake2b(key.encode(), digest_size=16).hexdigest()}{SUFFIX}"


def _checksum(file: Path, content: memoryview, at: int) -> bytes:
    """The checksum of a file's name and content as 64 hexadecimal digits. at: where the content has these digits."""
    digest = blake2b(file.name.encode(), digest_size=len(NO_CHECKSUM) // 2)  # so that a renamed file is refused
    for part in (content[:at], NO_CHECKSUM, content[at + len(NO_CHECKSUM) :]):
        digest.update(part)
    return digest.hexdigest().encode()


def read(file: Path) -> bytes | None:
    """The content of a file, which is marked as used now; None without a file. A damaged file is deleted."""
    try:
        content = file.read_bytes()
    except OSError:  # mostly an absent file; other faults of the folder are reported when a file is written
        return None
    at = content.find(BEFORE_CHECKSUM) + len(BEFORE_CHECKSUM)
    # The cache also works in a read-only folder, where neither `unlink` nor `utime` succeeds.
    if content[at : at + len(NO_CHECKSUM)] != _checksum(file, memoryview(content), at):
        with suppress(OSError):
            file.unlink()
        return None
    with suppress(OSError):
        os.utime(file)
    return content


def store(file: Path, packed: bytes, limit: float) -> None:
    """Write a file that is not larger than `limit` bytes, and delete others until all fit.

    A folder that cannot be written gives one warning on stderr and no error.

    Args:
        file: in the cache's folder, made by `file_of`.
        packed: the content, with `NO_CHECKSUM` as its checksum.
        limit: largest size of the cache in bytes.
    """
    if len(packed) > limit:
        return
    content, at = memoryview(packed), packed.find(BEFORE_CHECKSUM) + len(BEFORE_CHECKSUM)
    parts: list[bytes | memoryview] = [content[:at], _checksum(file, content, at), content[at + len(NO_CHECKSUM) :]]

    def write(temporary: Path) -> None:
        with temporary.open("wb") as out:
            out.writelines(parts)

    try:
        atomic_write(file, write)
        _drop_oldest(file.parent, limit)
    except OSError as error:
        warn_once(f"{file.parent}: expected a folder for the cache, found: {error.strerror}")


def _drop_oldest(folder: Path, limit: float) -> None:
    """Delete the files used longest ago until `limit` bytes remain, and unfinished files of killed processes."""
    stats: dict[Path, os.stat_result] = {}
    for file in folder.glob(f"*{SUFFIX}*"):
        with suppress(FileNotFoundError):  # another process has deleted it
            stats[file] = file.stat()
    left = sum(stat.st_size for stat in stats.values())
    for file, stat in sorted(stats.items(), key=lambda item: (item[0].suffix == SUFFIX, item[1].st_mtime_ns)):
        finished = file.suffix == SUFFIX
        if left > limit if finished else time.time() - stat.st_mtime > UNFINISHED_S:
            file.unlink(missing_ok=True)
            left -= stat.st_size


@lru_cache
def warn_once(problem: str) -> None:
    """Print a warning on stderr, once in a process for each text."""
    print(
        f"warning: {problem}; results are computed again (set {FOLDER} to another folder, or to off)", file=sys.stderr
    )
