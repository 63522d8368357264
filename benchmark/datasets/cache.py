"""Cases kept on disk once they are made: a second load of a phantom takes a twentieth of the time.

One file a case, named by a hash of all that decides its arrays: a blake2b checksum of that name and of all that
follows, a JSON header, then the arrays. Labels and masks are deflated, to 2 % in some milliseconds; floats would take a
second for a tenth. A file that is not, bit by bit, what was written under its name is deleted and the case made anew.

RIGIDBENCH_CACHE: the folder, or `off`; else rigidbench/ in XDG_CACHE_HOME or ~/.cache. RIGIDBENCH_CACHE_GB: the most
that it may hold, 10 unless told; what was used longest ago goes first. Nothing else in the folder is touched.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path

import numpy as np

from benchmark.environment import arithmetic, code_hash
from benchmark.errors import BadInput
from methods.atomic import atomic_write
from methods.base import Case, Grid, Pair, Scan

FOLDER, LIMIT_GB = "RIGIDBENCH_CACHE", "RIGIDBENCH_CACHE_GB"
DEFAULT_GB = 10.0
SUFFIX = ".rigidbench"
CHECKSUM_BYTES = 32
UNFINISHED_S = 3600.0  # no writer takes that long: what is older was left by one that was killed
SOURCES = ("benchmark/datasets", "methods/base.py", "methods/geometry.py", "metrics")
# At import, so that a source edited while this process runs does not lend its name to what the old one makes.
CODE = code_hash(*SOURCES)


def cached(fingerprint: str, make: Callable[[], Case]) -> Case:
    """The case from disk, or from `make`, and then kept on disk; equal bit by bit either way.

    fingerprint: all that decides the case besides the code of SOURCES, the libraries and the processor. A folder that
    cannot be written is no error: it is said once on stderr. Raises BadInput for a limit that is no number.
    """
    folder = _folder()
    if folder is None:
        return make()
    limit = _limit_bytes()
    decisive = json.dumps([fingerprint, CODE, arithmetic()])
    file = folder / f"{blake2b(decisive.encode(), digest_size=16).hexdigest()}{SUFFIX}"
    case = _read(file)
    if case is None:
        case = make()
        _keep(file, case, limit)
    return case


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Inside, no case is read from disk or kept there unless `on`. Raises BadInput for a limit that is no number."""
    before = os.environ.get(FOLDER)
    if on:
        _limit_bytes()
    else:
        os.environ[FOLDER] = "off"
    try:
        yield
    finally:
        if before is not None:
            os.environ[FOLDER] = before
        else:
            os.environ.pop(FOLDER, None)


def _folder() -> Path | None:
    """Where cases are kept, or None for nowhere."""
    chosen, base = os.environ.get(FOLDER, ""), os.environ.get("XDG_CACHE_HOME", "")
    if chosen.lower() == "off":
        return None
    try:
        if chosen:
            return Path(chosen).expanduser()
        # The XDG specification ignores one that is not absolute.
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "rigidbench"
    except RuntimeError as error:  # a user without a home, as in some containers
        _say_once(f"{chosen or '~/.cache'}: expected a folder to keep patients in, found: {error}")
        return None


def _limit_bytes() -> float:
    text = os.environ.get(LIMIT_GB) or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise BadInput(f"{LIMIT_GB}: expected a number of GB, 0 or more, got {text!r}; unset it for {DEFAULT_GB:g}")
    return limit * 2**30


def _checksum(file: Path, parts: Sequence[bytes | memoryview]) -> bytes:
    digest = blake2b(file.name.encode(), digest_size=CHECKSUM_BYTES)  # one case's file never passes for another's
    for part in parts:
        digest.update(part)
    return digest.digest()


def _read(file: Path) -> Case | None:
    """What was kept in `file`, marked as used now; None where there is nothing, or something else, which is deleted."""
    try:
        content = memoryview(file.read_bytes())
    except OSError:  # most often absent; whatever else is wrong with the folder is said when the case is kept
        return None
    checksum, rest = content[:CHECKSUM_BYTES], content[CHECKSUM_BYTES:]
    # A folder that can only be read still serves, so neither call below has to succeed.
    if checksum != _checksum(file, [rest]):
        with suppress(OSError):
            file.unlink()
        return None
    with suppress(OSError):
        os.utime(file)
    return _unpack(rest)


def _keep(file: Path, case: Case, limit: float) -> None:
    parts = _pack(case)
    content = [_checksum(file, parts), *parts]
    if sum(map(len, content)) > limit:
        return

    def write(temporary: Path) -> None:
        with temporary.open("wb") as out:
            out.writelines(content)

    try:
        atomic_write(file, write)
        _drop_oldest(file.parent, limit)
    except OSError as error:
        _say_once(f"{file.parent}: expected a folder to keep patients in, found: {error.strerror}")


def _drop_oldest(folder: Path, limit: float) -> None:
    """Delete what was used longest ago until `limit` bytes are left, and what killed processes left unfinished."""
    stats: dict[Path, os.stat_result] = {}
    for file in folder.glob(f"*{SUFFIX}*"):
        with suppress(FileNotFoundError):  # another process was quicker
            stats[file] = file.stat()
    left = sum(stat.st_size for stat in stats.values())
    for file, stat in sorted(stats.items(), key=lambda item: (item[0].suffix == SUFFIX, item[1].st_mtime_ns)):
        finished = file.suffix == SUFFIX
        if left > limit if finished else time.time() - stat.st_mtime > UNFINISHED_S:
            file.unlink(missing_ok=True)
            left -= stat.st_size


def _pack(case: Case) -> list[bytes]:
    """The header's length (8 bytes, little-endian), the header, and every array that the case has."""
    pair = case.pair
    optional = {
        "fixed": pair.fixed.image, "fixed_labels": pair.fixed.labels,
        "moving": pair.moving.image, "moving_labels": pair.moving.labels,
        "true_displacement_mm": case.true_displacement_mm, "true_core": case.true_core,
        "moving_compared": case.moving_compared, "landmarks_mm": case.landmarks_mm,
    }  # fmt: skip
    arrays = {name: array for name, array in optional.items() if array is not None}
    parts = [a.tobytes() if a.dtype.kind == "f" else zlib.compress(a.tobytes(), 1) for a in arrays.values()]
    stored = [[n, a.dtype.str, a.shape, len(part)] for (n, a), part in zip(arrays.items(), parts, strict=True)]
    about = {"case": pair.case, "grid": asdict(pair.grid), "excluded": dict(case.excluded), "arrays": stored}
    header = json.dumps(about).encode()
    return [len(header).to_bytes(8, "little"), header, *parts]


def _unpack(content: memoryview) -> Case:
    start = 8 + int.from_bytes(content[:8], "little")
    about = json.loads(bytes(content[8:start]))
    arrays: dict[str, np.ndarray] = {}
    for name, dtype, shape, length in about["arrays"]:
        part = content[start : start + length]
        numbers = np.frombuffer(part if np.dtype(dtype).kind == "f" else zlib.decompress(part), dtype)
        arrays[name] = numbers.reshape(shape).copy()  # writable like a new one, and free of the rest of the file
        start += length
    grid = Grid(**{name: tuple(value) for name, value in about["grid"].items()})
    fixed, moving = (Scan(arrays.pop(n), arrays.pop(f"{n}_labels", None), grid) for n in ("fixed", "moving"))
    excluded = {int(vertebra): why for vertebra, why in about["excluded"].items()}
    return Case(Pair(about["case"], fixed, moving), excluded=excluded, **arrays)


@lru_cache
def _say_once(problem: str) -> None:
    print(f"warning: {problem}; each is made anew (set {FOLDER} to another folder, or to off)", file=sys.stderr)
