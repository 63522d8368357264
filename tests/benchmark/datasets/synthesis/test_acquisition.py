"""Simulated acquisition of CT and MR, with values by hand."""

from __future__ import annotations

import numpy as np

from benchmark.datasets.synthesis.acquisition import acquire_ct, acquire_mr, thick_slices
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid

GRID = Grid((24, 24, 24))


def test_thick_slices_average_across_one_axis() -> None:
    weights = thick_slices(40, 1.0, 4.0)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose((weights @ np.arange(40))[4:-4], np.arange(40)[4:-4], atol=1e-5)
    spread = weights[20] @ (np.arange(40) - weights[20] @ np.arange(40)) ** 2
    # A 4 mm box has a variance of 16/12 = 1.33, and interpolating between two slices adds to it.
    assert 1.3 < spread < 8
    assert np.array_equal(thick_slices(10, 4.0, 3.0), np.eye(10, dtype=np.float32)), "thinner slices change nothing"


def test_a_ct_has_its_own_slices_pixels_and_noise() -> None:
    """The width of an edge is the slice thickness along one axis, and that of pixels and kernel along the others."""
    widths, noises = [], []
    for seed in range(60):
        step = np.where(np.indices(GRID.shape) < 12, 0.0, 40_000.0).astype(np.float32)
        edges = [acquire_ct(image, GRID, PortableRng(seed)) for image in step]
        profiles = [e.mean(axis=tuple({0, 1, 2} - {a})) for a, e in enumerate(edges)]
        widths.append([float(np.abs(np.where(np.arange(24) < 12, 0, 1) - p / 40_000).sum()) for p in profiles])
        noises.append(float(acquire_ct(np.zeros(GRID.shape, np.float32), GRID, PortableRng(seed)).std()))
    z, y, x = np.array(widths).T
    axial = np.abs(z - y) > np.abs(x - y)  # y is always in plane
    assert 0.5 < axial.mean() < 0.9 and (y < 1).all() and (np.where(axial, x, z) < 1).all()
    assert np.where(axial, z, x).min() < 0.02 and np.where(axial, z, x).max() > 1.2, "both thin and thick slices"
    assert 10 < min(noises) < 25 and 60 < max(noises) < 110


def test_mr_noise_is_never_negative() -> None:
    dark = acquire_mr(np.zeros((16, 16, 16), np.float32), Grid((16, 16, 16)), PortableRng(0), 3.5)
    assert dark.min() >= 0 and dark.mean() > 0
