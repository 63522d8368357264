"""Random numbers of patients that are the same on every machine and with every release of numpy.

numpy guarantees the raw output of PCG64 for all releases, but not the values of its distributions. Parameters are
therefore computed here from the raw output, by arithmetic with one result on every machine. Noise comes from numpy's
own distribution, since no parameter depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import ndtri

from methods.base import Grid

# Binary digits to which normal values are rounded: the last digits differ between mathematical libraries.
_DIGITS = 20


class PortableRng:
    """A stream of random numbers that depends on its key alone: PortableRng(seed, purpose)."""

    def __init__(self, *key: int) -> None:
        self._raw = np.random.PCG64(list(key))
        self._noise = np.random.Generator(np.random.PCG64([*key, 1]))

    def uniform(self, low: float = 0.0, high: float = 1.0, size: Any = None) -> Any:
        """Draw from the uniform distribution on (low, high): a float, or float64 of shape `size`."""
        raw = np.asarray(self._raw.random_raw(None if size is None else int(np.prod(size))), np.uint64)
        # 52 bits, each value in the middle of its step, so that 0 and 1 are excluded.
        unit = ((raw >> np.uint64(12)).astype(np.float64) + 0.5) * 2.0**-52
        values = low + (high - low) * unit
        return float(values) if size is None else values.reshape(size)

    def normal(self, mean: float = 0.0, sd: float = 1.0, size: Any = None) -> Any:
        """Draw from the normal distribution, by its inverse: a float, or float64 of shape `size`."""
        unit = np.round(ndtri(self.uniform(size=size)) * 2**_DIGITS) / 2**_DIGITS
        values = mean + sd * unit
        return float(values) if size is None else values

    def chance(self, probability: float) -> bool:
        """Draw True with the given probability, in [0, 1]."""
        return bool(self.uniform() < probability)

    def choose(self, values: Sequence[int] | np.ndarray, shares: Sequence[float] | np.ndarray) -> int:
        """Draw one of the values with probabilities proportional to `shares`."""
        edges = np.cumsum(np.asarray(shares, float))
        return int(values[int(np.searchsorted(edges, self.uniform() * edges[-1], side="right"))])

    def noise(self, shape: Sequence[int]) -> np.ndarray:
        """Draw independent normal noise of unit variance, float32 of `shape`; the other draws do not change."""
        return self._noise.standard_normal(tuple(shape), np.float32)


def smooth_noise(rng: PortableRng, grid: Grid, period_mm: float) -> np.ndarray:
    """Draw smooth noise on a lattice and interpolate it linearly.

    The lattice is fixed in space about the centre of the grid, so that a coarser grid samples the same noise.

    Args:
        rng: draws the noise at the nodes.
        grid: to sample it on.
        period_mm: spacing of the nodes.

    Returns:
        float32 (z, y, x), mean 0, variance about 1.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape, grid.spacing_mm[::-1], strict=True)]
    reach = int(np.ceil(160 / period_mm)) + 1
    nodes = np.arange(-reach, reach + 1) * period_mm
    field = rng.noise((len(nodes),) * 3) * np.float32(1.84)
    for axis, x in enumerate(axes):
        weights = linear_weights(np.clip(x, nodes[0], nodes[-1]), nodes).astype(np.float32)
        # The lattice is larger than any spine; most of its nodes have no weight on this grid.
        needed = np.flatnonzero(weights.any(axis=0))
        field = np.moveaxis(np.tensordot(weights[:, needed], field.take(needed, axis), axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def linear_weights(x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Weights of linear interpolation at x (n,) between equally spaced nodes (m,): float64 (n, m)."""
    return np.clip(1 - np.abs(x[:, None] - nodes) / (nodes[1] - nodes[0]), 0, 1)
