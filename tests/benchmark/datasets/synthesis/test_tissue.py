"""Tissue that is no bone: its own motion away from bone, and discs that bulge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.interpolate import BSpline

from benchmark.datasets.synthesis.blending import Rigid, bone_distances
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.tissue import OWN_HALF_MM, away_from_bone, bulge, cubic_spline, draw_soft_tissue
from methods.base import Grid

CENTRES = np.array([[0, 0, 60.0], [0, 0, 0], [0, 0, -60.0]])


def test_the_spline_is_that_of_scipy() -> None:
    x = np.linspace(-1.99, 1.99, 101)
    np.testing.assert_allclose(cubic_spline(x), BSpline.basis_element([-2, -1, 0, 1, 2])(x), atol=1e-12)
    assert cubic_spline(np.array([-2.0, 2.5, 9.0])).tolist() == [0, 0, 0]


def test_the_own_motion_has_the_drawn_size_and_is_smooth() -> None:
    grid = Grid((50, 50, 50), (6.0, 6.0, 6.0), (-150.0, -150.0, -150.0))
    sizes = []
    for seed in range(6):
        field = draw_soft_tissue(PortableRng(seed), CENTRES, (3.0, 3.0), 0.5).own_mm(grid)
        sizes.append(np.sqrt(np.square(field).sum(axis=0).mean()))
        assert max(np.abs(np.diff(field, axis=axis)).max() for axis in (1, 2, 3)) / 6 < 0.4
    # Nodes are limited to two standard deviations, which takes 5 % from the size.
    assert np.mean(sizes) == pytest.approx(3.0, rel=0.12)


def test_a_coarser_grid_samples_the_same_own_motion() -> None:
    tissue = draw_soft_tissue(PortableRng(3), CENTRES, (3.0, 3.0), 0.5)
    fine, coarse = Grid((41, 31, 21), origin_mm=(-10, -15, -20)), Grid((21, 16, 11), (2.0,) * 3, (-10, -15, -20))
    np.testing.assert_allclose(tissue.own_mm(fine)[:, ::2, ::2, ::2], tissue.own_mm(coarse), atol=1e-5)


def test_tissue_at_bone_has_no_motion_of_its_own() -> None:
    share = away_from_bone(torch.tensor([0.0, OWN_HALF_MM, 3 * OWN_HALF_MM]))
    np.testing.assert_allclose(share, [0, 0.5, 0.9], rtol=1e-6)


def test_without_unevenness_the_blend_is_by_the_cubed_distance() -> None:
    tissue = draw_soft_tissue(PortableRng(0), CENTRES, (1.0, 2.0), 0.0)
    assert tissue.exponent == 3 and (tissue.shares == 1).all() and (tissue.bulges == 1).all()
    uneven = draw_soft_tissue(PortableRng(0), CENTRES, (1.0, 2.0), 1.0)
    assert 1.4 < uneven.exponent < 4.5 and np.ptp(uneven.shares) > 0 and len(uneven.bulges) == 2


@pytest.mark.parametrize("taller", [2.0, -2.0])
def test_a_disc_that_is_thinner_in_the_fixed_scan_is_wider_there(taller: float) -> None:
    """The gap of 10 voxels is 11 mm between voxel centres; the moving disc is 2 mm taller (or thinner).

    In the middle of the disc, 10 mm off its axis, the fixed tissue came from 10 mm * strain / 2 nearer to the axis.
    """
    grid = Grid((40, 48, 48), origin_mm=(-24.0, -24.0, -20.0))
    labels = np.zeros(grid.shape, np.uint16)
    labels[25:, 6:42, 6:42], labels[:15, 6:42, 6:42] = 20, 21
    distances = bone_distances(labels, [20, 21], grid)
    motions: tuple[Rigid, Rigid] = ((np.eye(3), np.array([0, 0, taller])), (np.eye(3), np.zeros(3)))
    field = np.zeros((3, *grid.shape), np.float32)
    bulge(field, (distances[20], distances[21]), np.array([[0, 0, 12.0], [0, 0, -12.0]]), motions, 1.0, grid)
    strain = taller / 11
    assert field[0, 20, 24, 34] == pytest.approx(-10 * strain / 2, rel=0.03)
    assert field[1, 20, 14, 24] == pytest.approx(10 * strain / 2, rel=0.03)
    assert np.abs(field[2]).max() < 1e-6 and (field[:, labels > 0] == 0).all()


def test_across_a_missing_level_nothing_bulges() -> None:
    grid = Grid((60, 20, 20))
    labels = np.zeros(grid.shape, np.uint16)
    labels[45:, 4:16, 4:16], labels[:15, 4:16, 4:16] = 20, 22
    distances = bone_distances(labels, [20, 22], grid)
    motions: tuple[Rigid, Rigid] = ((np.eye(3), np.array([0, 0, 2.0])), (np.eye(3), np.zeros(3)))
    field = np.zeros((3, *grid.shape), np.float32)
    bulge(field, (distances[20], distances[22]), np.array([[10, 10, 52.0], [10, 10, 7.0]]), motions, 1.0, grid)
    assert (field == 0).all()
