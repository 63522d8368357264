"""Cases kept on disk once they are made: a second load of a phantom takes a twentieth of the time.

One safetensors file a case, named by a hash of all that decides its arrays. Floats are stored as they are; labels and
masks are deflated, to 2 % in some milliseconds (floats would take a second for a tenth). The metadata holds everything
else: the case's name, grid and excluded vertebrae, type and shape of each array, and a blake2b checksum of the file
name and of every other byte. A file that differs from what was written in any bit is deleted and the case made anew.

RIGIDBENCH_CACHE: the folder, or `off`; else rigidbench/ in XDG_CACHE_HOME or ~/.cache. RIGIDBENCH_CACHE_GB: the most
that it may hold, 10 unless told; what was used longest ago goes first. Nothing else in the folder is touched.
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
UNFINISHED_S = 3600.0  # no writer takes that long: what is older was left by one that was killed
# How a case is laid out in its file. Another layout needs another number: old files are then no longer found.
LAYOUT = 3


def loader(dataset: Dataset) -> Callable[[str], Case]:
    """`dataset.load`, by way of the cache where the dataset computes its cases."""
    if not dataset.computed:
        return dataset.load
    code = fingerprint.code_of(type(dataset)).everything()
    return lambda case: cached(dataset.fingerprint(case), code, partial(dataset.load, case))


def cached(decided_by: str, code: str, make: Callable[[], Case]) -> Case:
    """The case from disk, or from `make`, and then kept on disk; equal bit by bit either way.

    decided_by: all that decides the case besides the code, the libraries and the processor. code: a hash of the code
    that makes it. A folder that cannot be written is no error: it is said once on stderr. Raises BadInput for a limit
    that is no number.
    """
    folder = _folder()
    if folder is None:
        return make()
    limit = _limit_bytes()
    decisive = json.dumps([LAYOUT, decided_by, code, arithmetic()])
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


def _checksum(file: Path, content: memoryview, at: int) -> bytes:
    """64 hexadecimal digits, of the file's name and of `content` without its own 64 digits at `at`."""
    digest = blake2b(file.name.encode(), digest_size=len(NO_CHECKSUM) // 2)  # a file under another's name is refused
    for part in (content[:at], NO_CHECKSUM, content[at + len(NO_CHECKSUM) :]):
        digest.update(part)
    return digest.hexdigest().encode()


def _read(file: Path) -> Case | None:
    """The case in `file`, which is marked as used now. None if there is no file, or a damaged one, which is deleted."""
    try:
        content = file.read_bytes()
    except OSError:  # most often absent; any other fault of the folder is reported when the case is written
        return None
    at = content.find(BEFORE_CHECKSUM) + len(BEFORE_CHECKSUM)
    # A folder that can only be read still serves, so neither call below has to succeed.
    if content[at : at + len(NO_CHECKSUM)] != _checksum(file, memoryview(content), at):
        with suppress(OSError):
            file.unlink()
        return None
    with suppress(OSError):
        os.utime(file)
    return _unpack(content)


def _keep(file: Path, case: Case, limit: float) -> None:
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


def _pack(case: Case) -> bytes:
    """The content of a safetensors file, with zeros in the place of its checksum."""
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
        "arrays": {name: [a.dtype.str, a.shape] for name, a in arrays.items()},
        "modalities": [pair.fixed.modality, pair.moving.modality],
    }  # fmt: skip
    return save(tensors, {"case": json.dumps(about)})  # one key: safetensors writes several in any order


def _unpack(content: bytes) -> Case:
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
    return Case(Pair(about["case"], fixed, moving), excluded=excluded, **arrays)


def _deflated(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(zlib.compress(array.tobytes(), 1), np.uint8)


def _inflated(deflated: np.ndarray, dtype: str, shape: list[int]) -> np.ndarray:
    values = np.frombuffer(bytearray(zlib.decompress(deflated.data)), dtype)  # a bytearray, so that it is writable
    return values.reshape(shape)


@lru_cache
def _say_once(problem: str) -> None:
    print(f"warning: {problem}; each is made anew (set {FOLDER} to another folder, or to off)", file=sys.stderr)
