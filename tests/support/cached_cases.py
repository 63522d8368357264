"""Small cases, and the entries of the cache."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from methods.base import Case, Grid, Pair, Scan

GRID = Grid((4, 3, 2), (1.0, 0.1, 3.0), (-10.0, 1 / 3, 20.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))


class Maker:
    """A function that returns `case` and counts its calls."""

    def __init__(self, case: Case) -> None:
        self.case, self.calls = case, 0

    def __call__(self) -> Case:
        self.calls += 1
        return self.case


def small(seed: int = 0) -> Case:
    """A random case in which every optional field is set."""
    rng = np.random.default_rng(seed)
    images = [rng.random(GRID.shape, np.float32) for _ in range(2)]
    labels = [rng.integers(0, 60000, GRID.shape).astype(np.uint16) for _ in range(3)]
    inside = [rng.random(GRID.shape) < 0.5 for _ in range(2)]
    scans = [
        Scan(*arrays[:2], GRID, *arrays[2:]) for arrays in zip(images, labels, inside, ("mr", "cbct"), strict=False)
    ]
    return Case(
        Pair("É 1", *scans), rng.random((*GRID.shape, 3), np.float32), rng.random(GRID.shape) < 0.5,
        {20: "cut", 7: "ö"}, labels[2], rng.random((2, 5, 3)),
        notes=("a doubt", "é"), cut=frozenset({20, 7}),
    )  # fmt: skip


def assert_equal(a: Any, b: Any) -> None:
    """Compare all fields of cases and scans bit by bit."""
    assert type(a) is type(b)
    if isinstance(a, Case | Pair | Scan):
        for f in fields(a):
            assert_equal(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        assert a.flags.c_contiguous == b.flags.c_contiguous and a.flags.writeable and b.flags.writeable
    else:
        assert a == b


def entries(folder: Path) -> list[Path]:
    """The files of the cache, without unfinished ones."""
    return sorted(folder.glob("[!.]*")) if folder.exists() else []


def entry(folder: Path) -> Path:
    """The only file of the cache."""
    (only,) = entries(folder)
    return only
