"""Scans at several resolutions: thinned axes, what was seen, and the distance to the labels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import distance_transform_edt

from methods.base import Grid, Pair, Scan
from methods.deformable.pyramid import eroded, factors, halved, load, thinned


@pytest.mark.parametrize(
    ("spacing", "target", "expected"),
    [
        ((1, 1, 1), 4, (4, 4, 4)),
        ((1, 1, 1), 1, (1, 1, 1)),
        ((3.3, 0.9, 0.9), 2, (1, 2, 2)),
        ((1.1, 0.5, 6), 4, (4, 8, 1)),
    ],
)
def test_an_axis_is_thinned_to_the_nearest_spacing(spacing: tuple, target: float, expected: tuple) -> None:
    assert factors(spacing, target) == expected


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_halving_is_a_binomial_filter_on_every_second_voxel(n: int) -> None:
    image = torch.rand(n, 3, 4, generator=torch.Generator().manual_seed(0))
    padded = torch.cat([image[:1], image, image[-1:]])
    expected = ((padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4)[::2]
    torch.testing.assert_close(halved(image, 0), expected)
    torch.testing.assert_close(halved(image.transpose(0, 2).contiguous(), 2), expected.transpose(0, 2))


def test_a_coarse_voxel_lies_on_a_voxel_of_the_image() -> None:
    ramp = torch.arange(17.0).view(17, 1, 1).expand(17, 5, 5)
    assert thinned(ramp, (4, 1, 1))[1:-1, 0, 0].tolist() == [4, 8, 12]


def scans(inside: np.ndarray | None = None) -> object:
    grid = Grid((30, 24, 20), (1.0, 1.5, 2.0))
    labels = np.zeros(grid.shape, np.uint16)
    labels[10:16, 8:16, 8:12] = 20
    image = np.zeros(grid.shape, np.float32)
    return load(Pair("p", Scan(image, None, grid, inside), Scan(image, labels, grid)), "cpu")


def test_the_distance_to_the_labels_is_right_within_a_coarse_voxel() -> None:
    found = scans()
    exact = distance_transform_edt(found.labels.numpy() == 0, found.spacing_mm)
    z, y, x = found.away_factors
    assert (z, y, x) == (2, 2, 4)
    assert np.abs(found.away_mm.numpy() - exact[::z, ::y, ::x]).max() <= 4.0
    assert found.ids == (20,)


def test_vertebrae_stand_from_the_head_down() -> None:
    grid = Grid((30, 24, 20))
    labels = np.zeros(grid.shape, np.uint16)
    labels[20:26, 8:16, 8:12], labels[10:16, 8:16, 8:12], labels[2:8, 8:16, 8:12] = 19, 28, 20
    image = np.zeros(grid.shape, np.float32)
    assert load(Pair("p", Scan(image, None, grid), Scan(image, labels, grid)), "cpu").ids == (19, 28, 20)


def test_a_scan_that_saw_everything_has_no_mask() -> None:
    inside = np.ones((30, 24, 20), bool)
    assert scans().fixed_seen is None and scans(inside).fixed_seen is None
    inside[:5] = False
    assert scans(inside).fixed_seen.sum() == inside.sum()


def test_erosion_keeps_the_volumes_border() -> None:
    seen = torch.ones(12, 9, 9, dtype=torch.bool)
    seen[:4] = False
    found = eroded(seen, 2)
    assert not found[:6].any() and found[6:].all()
