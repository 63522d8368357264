"""Resampling of label maps: against values by hand, against `metrics.label_warping`, and against the image."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from support.self_labelled import apart_mm, oblique_grid, self_labelled_ct

from benchmark.datasets import label_resampling
from benchmark.datasets.label_resampling import resample_labels, warp_label_map
from benchmark.datasets.resampling import Rigid, isotropic_grid, resample_image
from methods.base import Grid, vertebra_ids
from methods.geometry import from_sitk, to_sitk
from metrics.label_warping import warp_labels

ROTATION = Rotation.from_euler("xyz", [4, -6, 8], degrees=True).as_matrix()
RIGID = Rigid(ROTATION, np.array([3.3, -1.2, 2.7]))


def test_labels_on_the_same_grid_do_not_change() -> None:
    grid = Grid((5, 6, 7), (0.8, 1.5, 2.0), (1.0, 2.0, 3.0))
    labels = np.random.default_rng(0).integers(0, 65536, grid.shape).astype(np.uint16)
    found = resample_labels(labels, grid, grid)
    assert found.dtype == np.uint16 and np.array_equal(found, labels)


def test_a_label_reaches_to_the_middle_between_its_last_voxel_and_the_next() -> None:
    """Voxels 3 mm apart: label 7 from -1.5 to 4.5 mm, label 8 from 4.5 to 7.5 mm, then background."""
    labels = np.array([[[7, 7, 8, 0]]], np.uint16)
    onto = Grid((1, 1, 12), (1.0, 1.0, 1.0), (-2.0, 0.0, 0.0))
    found = resample_labels(labels, Grid((1, 1, 4), (3.0, 1.0, 1.0)), onto)
    assert found.ravel().tolist() == [0, 7, 7, 7, 7, 7, 7, 8, 8, 8, 0, 0]


def test_ties_between_voxels_do_not_depend_on_the_orientation() -> None:
    """Which label a point midway between eight has is a convention; a flipped file must give the same one."""
    grid, onto = Grid((4, 4, 4), (2.0, 2.0, 2.0)), Grid((3, 3, 3), (2.0, 2.0, 2.0), (1.0, 1.0, 1.0))
    labels = np.arange(1, 65, dtype=np.uint16).reshape(4, 4, 4)
    flipped, flipped_grid = from_sitk(sitk.DICOMOrient(to_sitk(labels, grid), "RAI"))
    assert not np.array_equal(flipped, labels)
    np.testing.assert_array_equal(resample_labels(flipped, flipped_grid, onto), resample_labels(labels, grid, onto))


def test_labels_outside_the_result_and_no_labels_are_background() -> None:
    grid, labels = Grid((4, 4, 4)), np.ones((4, 4, 4), np.uint16)
    far = Grid((3, 3, 3), origin_mm=(50.0, 0.0, 0.0))
    assert not resample_labels(labels, grid, far).any()
    assert not resample_labels(np.zeros_like(labels), grid, grid).any()


def test_resampling_is_the_rule_of_label_warping() -> None:
    """A translation by a part of a voxel, as a displacement of the same grid."""
    grid = Grid((12, 14, 16))
    labels = np.zeros(grid.shape, np.uint16)
    labels[3:7, 4:10, 3:9], labels[7:10, 5:11, 5:12] = 20, 21
    shift = np.array([0.3, -0.7, 1.2])  # x, y, z
    displacement = torch.from_numpy(np.broadcast_to(shift[::-1, None, None, None], (1, 3, *grid.shape)).copy())
    expected = warp_labels(torch.from_numpy(labels.astype(np.int32)), displacement.float(), [20, 21])
    np.testing.assert_array_equal(resample_labels(labels, grid, grid, Rigid(np.eye(3), shift)), expected)


@pytest.mark.parametrize("spacing", [(0.83, 0.83, 1.9), (0.5, 0.5, 0.5), (1.0, 1.0, 1.0)])
def test_labels_and_image_stay_together_on_an_oblique_grid(spacing: tuple[float, float, float]) -> None:
    grid = oblique_grid(spacing)
    hu, labels = self_labelled_ct(grid)
    onto = isotropic_grid(grid)
    image, resampled = resample_image(hu, grid, onto, RIGID), resample_labels(labels, grid, onto, RIGID)
    assert list(vertebra_ids(resampled)) == [20, 21, 22, 23, 24]
    assert apart_mm(image, resampled, onto) < 0.05


def test_labels_follow_a_shift_by_a_part_of_a_voxel() -> None:
    """The nearest voxel would leave the labels 0.5 mm behind the image. Flat faces cannot follow exactly."""
    grid = Grid((168, 80, 64), origin_mm=(-31.5, -40.2, -83.1))
    hu, labels = self_labelled_ct(grid)
    onto = Grid(grid.shape, origin_mm=(-31.2, -39.9, -82.8))
    assert apart_mm(resample_image(hu, grid, onto), resample_labels(labels, grid, onto), onto) < 0.11


def test_any_transform_gives_the_labels_of_the_same_rigid_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_resampling, "SLAB_VOXELS", 200_000)
    grid = oblique_grid()
    labels = self_labelled_ct(grid)[1]
    onto = oblique_grid((1.1, 0.9, 2.0), (-5, 3, 8), (1.1, 2.2, 3.3))
    points = RIGID(onto.points_mm())
    found = warp_label_map(labels, grid, onto, lambda slab: points[slab])
    expected = resample_labels(labels, grid, onto, RIGID)
    assert (found != expected).sum() <= 1e-6 * expected.size and (expected > 0).any()
