"""Random numbers that decide a patient: the same on every machine and with every release of numpy.

numpy fixes the raw output of PCG64 for good, but not what its distributions make of it. So a parameter is made here
from the raw output, by arithmetic that has one result everywhere; noise, of which nothing depends but its own voxels,
is numpy's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from methods.base import Grid

# Normal values are kept to so many binary digits: the last ones differ between mathematical libraries.
_DIGITS = 20


class PortableRng:
    """A stream of draws, decided by its key alone: Draws(seed, purpose)."""

    def __init__(self, *key: int) -> None:
        self._raw = np.random.PCG64(list(key))
        self._noise = np.random.Generator(np.random.PCG64([*key, 1]))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        """Uniform in (low, high): a float, or an array of `size`."""
        raw = np.asarray(self._raw.random_raw(None if size is None else int(np.prod(size))), np.uint64)
        # 52 bits, each in the middle of its step: neither 0 nor 1 can come out.
        unit = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        values = low + (high - low) * unit
        return float(values) if size is None else values.reshape(size)

    def normal(self, mean: float = 0.0, sd: float = 1.0, size: Any = None) -> Any:
        """Normal, through the inverse of its distribution: a float, or an array of `size`."""
        unit = np.round(ndtri(self.uniform(size=size)) * 2**_DIGITS) / 2**_DIGITS
        values = mean + sd * unit
        return float(values) if size is None else values

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return bool(self.uniform() < probability)

    def choose(self, values: Sequence[int] | np.ndarray, shares: Sequence[float] | np.ndarray) -> int:
        """One of the values, each as often as its share of the sum says."""
        edges = np.cumsum(np.asarray(shares, float))
        return int(values[int(np.searchsorted(edges, self.uniform() * edges[-1], side="right"))])

    def noise(self, shape: Sequence[int]) -> np.ndarray:
        """Independent normal noise of unit variance, float32 of `shape`; takes nothing from the other draws."""
        return self._noise.standard_normal(tuple(shape), np.float32)


def smooth_noise(rng: PortableRng, grid: Grid, period_mm: float) -> np.ndarray:
    """Noise of about unit variance that varies over `period_mm`: float32 (z, y, x).

    It is drawn on a lattice fixed in space, about the grid's centre, so that a coarser grid samples the same noise.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape, grid.spacing_mm[::-1], strict=True)]
    reach = int(np.ceil(160 / period_mm)) + 1
    nodes = np.arange(-reach, reach + 1) * period_mm
    field = rng.noise((len(nodes),) * 3) * np.float32(1.84)
    for axis, x in enumerate(axes):
        weights = linear_weights(np.clip(x, nodes[0], nodes[-1]), nodes).astype(np.float32)
        # The lattice reaches beyond any spine; most of it has no weight here.
        needed = np.flatnonzero(weights.any(axis=0))
        field = np.moveaxis(np.tensordot(weights[:, needed], field.take(needed, axis), axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def linear_weights(x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Weights (len(x), len(nodes)) of linear interpolation between equally spaced nodes."""
    return np.clip(1 - np.abs(x[:, None] - nodes) / (nodes[1] - nodes[0]), 0, 1)
