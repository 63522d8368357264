"""Simulated acquisition of CT and MR, with values by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmark.datasets.synthesis.acquisition import (
    acquire_ct,
    acquire_mr,
    band_limit,
    streaks,
    thick_slices,
    with_table,
)
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
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
    assert 4 < min(noises) < 12 and 45 < max(noises) < 75


def quiet(**changes: tuple[float, float]) -> Ranges:
    """Ranges without noise, streaks and edge enhancement, with some changes."""
    return replace(
        TRAINING, **{"ct_noise_hu": (1e-3, 2e-3), "streaks_hu": (0.0, 1e-6), "sharpening": (0.0, 1e-6)} | changes
    )


def test_ct_noise_is_correlated_in_the_plane_and_lacks_low_frequencies() -> None:
    grid, ranges = Grid((8, 96, 96)), quiet(ct_noise_hu=(50.0, 50.1), ct_noise_grain_mm=(1.0, 1.01))
    noise = acquire_ct(np.zeros(grid.shape, np.float32), grid, PortableRng(3), ranges)
    noise -= noise.mean()
    neighbours = (noise[..., 1:] * noise[..., :-1]).mean() / noise.var()
    assert 0.15 < neighbours < 0.9
    power = np.square(np.abs(np.fft.rfft2(noise))).mean(axis=0)
    assert power[:3, 1:3].mean() < 0.3 * power[8:16, 8:16].mean()


def test_edge_enhancement_overshoots_and_keeps_plateaus() -> None:
    step = np.where(np.indices(GRID.shape)[1] < 12, 0.0, 1000.0).astype(np.float32)
    soft, sharp = (
        acquire_ct(step, GRID, PortableRng(1), quiet(sharpening=s)).mean(axis=(0, 2))
        for s in ((0.0, 1e-6), (0.8, 0.801))
    )
    assert sharp.max() > soft.max() + 20 and sharp.min() < soft.min() - 20
    np.testing.assert_allclose(sharp[[2, -3]], soft[[2, -3]], atol=1)


def test_streaks_run_from_left_to_right_in_some_scans() -> None:
    grid = Grid((32, 48, 48))
    drawn = [streaks(grid, PortableRng(n)) for n in range(40)]
    strong = [s for s in drawn if s.std() > 1]
    assert 5 < len(strong) < 30
    for lines in strong:
        lines = lines[lines.std(axis=(1, 2)).argmax()]
        assert np.abs(np.diff(lines, axis=1)).mean() < 0.7 * np.abs(np.diff(lines, axis=0)).mean()


def test_a_table_lies_in_the_air_behind_the_patient() -> None:
    hu = np.full((8, 64, 48), -1000.0, np.float32)
    hu[:, :30] = 40
    tables = [with_table(hu, Grid(hu.shape), PortableRng(n)) for n in range(30)]
    present = [t for t in tables if (t != hu).any()]
    assert 8 < len(present) < 26
    for table in present:
        assert np.array_equal(table[:, :31], hu[:, :31]) and table.max() <= 110


def test_a_band_limit_keeps_constants_and_rings_without_a_window() -> None:
    step = np.where(np.arange(60) < 30, 0.0, 1.0)
    ringing, smooth = (band_limit(60, 1.0, 1.0, w) @ step for w in (0.0, 1.0))
    np.testing.assert_allclose(band_limit(60, 1.0, 0.8, 0.5) @ np.ones(60), 1, atol=1e-5)
    assert band_limit(60, 0.5, 1.0, 0.0).shape == (60, 60)
    coarse = band_limit(60, 0.5, 1.0, 0.0) @ step
    assert coarse.max() > 1.05 and coarse.max() > (band_limit(60, 0.5, 1.0, 1.0) @ step).max() + 0.03
    np.testing.assert_allclose(ringing[:20], 0, atol=0.05)
    np.testing.assert_allclose(smooth[[5, -5]], [0, 1], atol=0.01)


def test_a_gap_narrows_the_slices() -> None:
    spread = []
    for gap in (0.0, 0.4):
        weights = thick_slices(41, 1.0, 5.0, nearest=True, gap=gap)
        row = weights[20]
        spread.append(row @ (np.arange(41) - row @ np.arange(41)) ** 2)
    assert spread[1] < 0.7 * spread[0]


def test_mr_noise_is_never_negative() -> None:
    dark = acquire_mr(np.zeros((16, 16, 16), np.float32), Grid((16, 16, 16)), PortableRng(0), 3.5)
    assert dark.min() >= 0 and dark.mean() > 0
