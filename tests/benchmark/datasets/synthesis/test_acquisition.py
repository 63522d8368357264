"""Tissues in CT and MR, and what a scanner makes of them, with figures by hand."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.synthesis.acquisition import acquire_ct, acquire_mr, thick_slices
from benchmark.datasets.synthesis.contrast import Tissue, TissueMap, ct_hu, mr_signal
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid

GRID = Grid((24, 24, 24))


def means(tissue: Tissue, bone_mm: float, age_years: float = 55.0) -> tuple[float, float, float]:
    """HU, T1 and T2 signal of one tissue in bulk; bone where its distance is negative."""
    soft = np.full(GRID.shape, tissue, np.uint8)
    tissues = TissueMap(soft, np.full(GRID.shape, bone_mm, np.float32), GRID, shell_mm=5.0, age_years=age_years)
    images = (
        ct_hu(tissues, PortableRng(0)),
        mr_signal(tissues, PortableRng(0)),
        mr_signal(tissues, PortableRng(0), "T2"),
    )
    ct, t1, t2 = (float(image.mean()) for image in images)
    return ct, t1, t2


def test_each_contrast_ranks_the_tissues_as_scanners_do() -> None:
    fat, muscle, csf, nucleus = (means(t, 9) for t in (Tissue.FAT, Tissue.MUSCLE, Tissue.CSF, Tissue.NUCLEUS))
    marrow, cortex, air = means(Tissue.FAT, -9), means(Tissue.FAT, -2), means(Tissue.AIR, 9)
    assert air[0] < fat[0] < csf[0] < muscle[0] < marrow[0] < cortex[0]
    assert max(air[1], cortex[1]) < csf[1] < muscle[1] < marrow[1] < fat[1]
    assert max(air[2], cortex[2]) < muscle[2] < min(marrow[2], nucleus[2]) < fat[2] < csf[2]


def test_bone_loses_two_and_a_half_hu_a_year() -> None:
    young, old = means(Tissue.FAT, -9, 30.0), means(Tissue.FAT, -9, 70.0)
    assert young[0] - old[0] == pytest.approx(100, abs=1)
    assert young[1] < old[1], "marrow turns fatty"


def test_thick_slices_average_across_one_axis() -> None:
    weights = thick_slices(40, 1.0, 4.0)
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose((weights @ np.arange(40))[4:-4], np.arange(40)[4:-4], atol=1e-5)
    spread = weights[20] @ (np.arange(40) - weights[20] @ np.arange(40)) ** 2
    # A 4 mm box has a variance of 16/12 = 1.33, and interpolating between two slices adds to it.
    assert 1.3 < spread < 8
    assert np.array_equal(thick_slices(10, 4.0, 3.0), np.eye(10, dtype=np.float32)), "never sharper than the grid"


def test_a_ct_has_pixels_slices_and_noise_of_its_own() -> None:
    """An edge across each axis is as wide as the slices along one, as pixels and kernel along the other two."""
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
    assert np.where(axial, z, x).min() < 0.02 and np.where(axial, z, x).max() > 1.2, "thin slices and thick ones"
    assert 10 < min(noises) < 25 and 60 < max(noises) < 110


def test_mr_noise_is_rician_never_negative() -> None:
    dark = acquire_mr(np.zeros((16, 16, 16), np.float32), Grid((16, 16, 16)), PortableRng(0), 3.5)
    assert dark.min() >= 0 and dark.mean() > 0
