"""A cache of computed cases on disk: reading a phantom takes a twentieth of the time of making it.

Each case is one file of `methods/cache_files.py`, named by a hash of all that determines its arrays. Floats are stored
as they are. Labels and masks are deflated to 2 % in a few milliseconds; deflating floats would take a second and save a
tenth. The metadata holds everything else: name, grid and excluded vertebrae of the case, type and shape of each array,
and the checksum.
"""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from benchmark import fingerprint
from benchmark.datasets.base import Dataset
from benchmark.environment import arithmetic
from benchmark.errors import BadInput
from methods import cache_files
from methods.base import Case, Grid, Pair, Scan
from methods.cache_files import FOLDER, NO_CHECKSUM

# Version of the file's layout. A change of the layout needs another number, so that old files are not found.
LAYOUT = 3


def loader(dataset: Dataset) -> Callable[[str], Case]:
    """Return `dataset.load`, which uses the cache if the dataset computes its cases."""
    if not dataset.computed:
        return dataset.load
    code = fingerprint.code_of(type(dataset)).everything()
    return lambda case: cached(dataset.fingerprint(case), code, partial(dataset.load, case))


def key_of(dataset: Dataset) -> Callable[[str], str] | None:
    """Return what names the arrays of a case, without loading it: all that determines them. None if files do."""
    if not dataset.computed:
        return None
    code = fingerprint.code_of(type(dataset)).everything()
    return lambda case: _key(dataset.fingerprint(case), code)


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
    folder = cache_files.cache_folder()
    if folder is None:
        return make()
    limit = _limit_bytes()
    file = cache_files.file_of(folder, _key(decided_by, code))
    case = _read(file)
    if case is None:
        case = make()
        cache_files.store(file, _pack(case), limit)
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


def _key(decided_by: str, code: str) -> str:
    """All that determines the arrays of a case, as JSON."""
    return json.dumps([LAYOUT, decided_by, code, arithmetic()])


def _read(file: Path) -> Case | None:
    """The case in a file of the cache; None without one."""
    content = cache_files.read(file)
    return None if content is None else _unpack(content)


def _limit_bytes() -> float:
    """The largest size of the cache. Raises BadInput if RIGIDBENCH_CACHE_GB is no number."""
    try:
        return cache_files.limit_bytes()
    except ValueError as error:
        raise BadInput(str(error)) from error


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
