"""A cache of computed cases on disk: reading a phantom takes a twentieth of the time of making it.

Each case is one safetensors file, named by a hash of all that determines its arrays. Floats are stored as they are.
Labels and masks are deflated to 2 % in a few milliseconds; deflating floats would take a second and save a tenth. The
metadata holds everything else: name, grid and excluded vertebrae of the case, type and shape of each array, and a
blake2b checksum of the file name and of every other byte. A file with any changed bit is deleted, and the case is made
again.

RIGIDBENCH_CACHE is the folder, or `off`; the default is rigidbench/ in XDG_CACHE_HOME or ~/.cache. RIGIDBENCH_CACHE_GB
is its largest size, 10 by default; the files used longest ago are deleted first. Other files in the folder stay.
"""

from __future__ import annotations

import json
import os
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from benchmark import fingerprint
from benchmark.datasets.base import Dataset
from benchmark.environment import arithmetic
from benchmark.errors import BadInput
from methods.atomic import atomic_write
from methods.base import Case, Grid, Pair, Scan

FOLDER, LIMIT_GB = "RIGIDBENCH_CACHE", "RIGIDBENCH_CACHE_GB"
DEFAULT_GB = 10.0
SUFFIX = ".rigidbench"
NO_CHECKSUM = b"0" * 64
BEFORE_CHECKSUM = rb"{\"checksum\": \""  # as escaped in the metadata, which is JSON within JSON
UNFINISHED_S = 3600.0  # no writer takes that long: an older unfinished file belongs to a killed process
# Version of the file's layout. A change of the layout needs another number, so that old files are not found.
LAYOUT = 3


def loader(dataset: Dataset) -> Callable[[str], Case]:
    """Return `dataset.load`, which uses the cache if the dataset computes its cases."""
    if not dataset.computed:
        return dataset.load
    code = fingerprint.code_of(type(dataset)).everything()
    return lambda case: cached(dataset.fingerprint(case), code, partial(dataset.load, case))


def cached(decided_by: str, code: str, make: Callable[[], Case]) -> Case:
    """Read a case from the cache, or make it and store it; both give the same bits.

    A folder that cannot be written gives one warning on stderr and no error.

    Args:
        decided_by: all that determines the case besides code, libraries and processor.
        code: a hash of the code that makes the case.
        make: makes the case.

    Raises:
        BadInput: if RIGIDBENCH_CACHE_GB is no number.
    """
    folder = _folder()
    if folder is None:
        return make()
    limit = _limit_bytes()
    key = json.dumps([LAYOUT, decided_by, code, arithmetic()])
    file = folder / f"{blake2b(key.encode(), digest_size=16).hexdigest()}{SUFFIX}"
    case = _read(file)
    if case is None:
        case = make()
        _store(file, case, limit)
    return case


@contextmanager
def switched(on: bool) -> Iterator[None]:
    """Switch the cache off inside the context unless `on`, for child processes too.

    Raises:
        BadInput: if `on` and RIGIDBENCH_CACHE_GB is no number.
    """
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
        _warn_once(f"{chosen or '~/.cache'}: expected a folder for the cache, found: {error}")
        return None


def _limit_bytes() -> float:
    """The largest size of the cache."""
    text = os.environ.get(LIMIT_GB) or str(DEFAULT_GB)
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not limit >= 0:
        raise BadInput(f"{LIMIT_GB}: expected a number of GB, 0 or more, got {text!r}; unset it for {DEFAULT_GB:g}")
    return limit * 2**30


def _checksum(file: Path, content: memoryview, at: int) -> bytes:
    """The checksum of a file's name and content as 64 hexadecimal digits. at: where the content has these digits."""
    digest = blake2b(file.name.encode(), digest_size=len(NO_CHECKSUM) // 2)  # so that a renamed file is refused
    for part in (content[:at], NO_CHECKSUM, content[at + len(NO_CHECKSUM) :]):
        digest.update(part)
    return digest.hexdigest().encode()


def _read(file: Path) -> Case | None:
    """The case in a file, which is marked as used now; None without a file. A damaged file is deleted."""
    try:
        content = file.read_bytes()
    except OSError:  # mostly an absent file; other faults of the folder are reported when the case is written
        return None
    at = content.find(BEFORE_CHECKSUM) + len(BEFORE_CHECKSUM)
    # The cache also works in a read-only folder, where neither `unlink` nor `utime` succeeds.
    if content[at : at + len(NO_CHECKSUM)] != _checksum(file, memoryview(content), at):
        with suppress(OSError):
            file.unlink()
        return None
    with suppress(OSError):
        os.utime(file)
    return _unpack(content)


def _store(file: Path, case: Case, limit: float) -> None:
    """Write a case that is not larger than `limit` bytes, and delete others until all fit."""
    packed = _pack(case)
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
        _warn_once(f"{file.parent}: expected a folder for the cache, found: {error.strerror}")


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


def _pack(case: Case) -> bytes:
    """The content of a safetensors file, with zeros instead of the checksum."""
    pair = case.pair
    optional = {
        "fixed": pair.fixed.image, "fixed_labels": pair.fixed.labels, "fixed_inside": pair.fixed.inside,
        "moving": pair.moving.image, "moving_labels": pair.moving.labels, "moving_inside": pair.moving.inside,
        "true_displacement_mm": case.true_displacement_mm, "true_core": case.true_core,
        "moving_compared": case.moving_compared, "landmarks_mm": case.landmarks_mm,
    }  # fmt: skip
    arrays = {name: array for name, array in optional.items() if array is not None}
    tensors = {name: a if a.dtype.kind == "f" else _deflated(a) for name, a in arrays.items()}
    about = {
        "checksum": NO_CHECKSUM.decode(), "case": pair.case, "grid": asdict(pair.grid), "excluded": dict(case.excluded),
        "notes": case.notes, "cut": sorted(case.cut),
        "arrays": {name: [a.dtype.str, a.shape] for name, a in arrays.items()},
        "modalities": [pair.fixed.modality, pair.moving.modality],
    }  # fmt: skip
    return save(tensors, {"case": json.dumps(about)})  # one key, since safetensors writes several keys in any order


def _unpack(content: bytes) -> Case:
    """The case in the content of a file; its arrays are writable."""
    length = int.from_bytes(content[:8], "little")
    about = json.loads(json.loads(content[8 : 8 + length])["__metadata__"]["case"])
    tensors = load(content)
    arrays: dict[str, np.ndarray] = {}
    for name, (dtype, shape) in about["arrays"].items():
        stored = tensors[name]
        arrays[name] = stored if np.dtype(dtype).kind == "f" else _inflated(stored, dtype, shape)
    grid = Grid(**{name: tuple(value) for name, value in about["grid"].items()})
    fixed, moving = (
        Scan(arrays.pop(n), arrays.pop(f"{n}_labels", None), grid, arrays.pop(f"{n}_inside", None), modality)
        for n, modality in zip(("fixed", "moving"), about["modalities"], strict=True)
    )
    excluded = {int(vertebra): why for vertebra, why in about["excluded"].items()}
    other: dict[str, Any] = {**arrays, "notes": tuple(about["notes"]), "cut": frozenset(about["cut"])}
    return Case(Pair(about["case"], fixed, moving), excluded=excluded, **other)


def _deflated(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(zlib.compress(array.tobytes(), 1), np.uint8)


def _inflated(deflated: np.ndarray, dtype: str, shape: list[int]) -> np.ndarray:
    values = np.frombuffer(bytearray(zlib.decompress(deflated.data)), dtype)  # a bytearray makes it writable
    return values.reshape(shape)


@lru_cache
def _warn_once(problem: str) -> None:
    print(f"warning: {problem}; every case is made again (set {FOLDER} to another folder, or to off)", file=sys.stderr)
