"""Arrays that a training computes from its pairs, kept in the folder of the cache for the next start.

A computed data set names the arrays of a pair without making them. Then the shrunk pair and the teacher's displacement
are found by this name, and a training that is continued makes no patient again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from methods import cache_files
from methods.base import Pair
from methods.sources import Sources

ROOT = Path(__file__).resolve().parents[__name__.count(".")]


def key_of(pairs: Sequence[Pair], index: int) -> str | None:
    """What names the arrays of a pair, without loading it; None if the sequence names none.

    Args:
        pairs: may have a method `key`, which takes an index and returns such a name or None.
        index: of the pair.
    """
    key: Callable[[int], str | None] | None = getattr(pairs, "key", None)
    return None if key is None else key(index)


def kept_arrays(key: Sequence[Any] | None, make: Callable[[], Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    """Read arrays from the cache, or make and store them; both give the same bits.

    Args:
        key: all that determines the arrays, as JSON values, the first for people; None: make them.
        make: gives the arrays by name.

    Raises:
        ValueError: RIGIDBENCH_CACHE_GB is no number.
    """
    folder = None if key is None else cache_files.cache_folder()
    if folder is None or key is None:
        return make()
    file = cache_files.file_of(folder, json.dumps(list(key), default=str))
    content = cache_files.read(file)
    if content is not None:
        return load(content)
    arrays = {name: np.ascontiguousarray(array) for name, array in make().items()}
    about = {"checksum": cache_files.NO_CHECKSUM.decode(), "content": str(key[0])}
    cache_files.store(file, save(arrays, {"training": json.dumps(about)}), cache_files.limit_bytes())
    return arrays


def content_key(pair: Pair) -> str:
    """A hash of both scans, which names a pair that was loaded."""
    digest = blake2b(digest_size=16)
    for scan in (pair.fixed, pair.moving):
        arrays: tuple[Any, ...] = (scan.image, scan.labels, scan.inside)
        digest.update(repr((scan.modality, scan.grid, [a is None for a in arrays])).encode())
        for array in arrays:
            if array is not None:
                digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


@cache
def code_of(module: str) -> str:
    """A hash of a module of `methods` or `metrics` and of all that it imports of these."""
    sources = Sources(ROOT, ("methods", "metrics"))
    return sources.hash(sources.reached([module]))
