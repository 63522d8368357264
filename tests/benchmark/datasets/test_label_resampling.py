"""Resampling of label maps: values by hand, the rule of `metrics.label_warping`, and centroids against the image."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from support.self_labelled import apart_mm, oblique_grid, self_labelled_ct

from benchmark.datasets import label_resampling
from benchmark.datasets.label_resampling import resample_labels, slab_points_mm, warp_label_map
from benchmark.datasets.preprocessing import centroids_mm
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


def test_any_transform_follows_the_rule_of_label_warping() -> None:
    """A translation by a part of a voxel, as a displacement of the same grid."""
    grid = Grid((12, 14, 16))
    labels = np.zeros(grid.shape, np.uint16)
    labels[3:7, 4:10, 3:9], labels[7:10, 5:11, 5:12] = 20, 21
    shift = np.array([0.3, -0.7, 1.2])  # x, y, z
    displacement = torch.from_numpy(np.broadcast_to(shift[::-1, None, None, None], (1, 3, *grid.shape)).copy())
    expected = warp_labels(torch.from_numpy(labels.astype(np.int32)), displacement.float(), [20, 21])
    found = warp_label_map(labels, grid, grid, lambda slab: slab_points_mm(grid, slab) + shift)
    np.testing.assert_array_equal(found, expected)


SPACINGS = [(0.7, 0.7, 0.7), (1.0, 1.0, 1.0), (1.6, 1.6, 1.6), (2.1, 2.1, 2.1), (0.83, 0.83, 1.9), (0.8, 0.8, 3.0)]


@pytest.mark.parametrize("spacing", SPACINGS)
@pytest.mark.parametrize("angles", [(9, -7, 11), (0, 0, 0)], ids=["oblique", "straight"])
def test_labels_and_image_stay_together(
    spacing: tuple[float, float, float], angles: tuple[float, float, float]
) -> None:
    """The largest one-hot map alone lies up to 0.07 mm apart at 1.6 mm, since thin parts fall under one half."""
    grid = oblique_grid(spacing, angles)
    hu, labels = self_labelled_ct(grid)
    onto = isotropic_grid(grid)
    image, resampled = resample_image(hu, grid, onto, RIGID), resample_labels(labels, grid, onto, RIGID)
    assert list(vertebra_ids(resampled)) == [20, 21, 22, 23, 24]
    assert apart_mm(image, resampled, onto) < 0.05


SHIFTS = [(0.3, 0.3, 0.3), (0.25, 0, 0), (0, 0, 0.4), (0.1, 0.4, 0.2), (0.5, 0, 0), (0.5, 0.5, 0), (0.5, 0.5, 0.5)]


@pytest.mark.parametrize("shift", SHIFTS)
def test_labels_follow_a_shift_by_a_part_of_a_voxel(shift: tuple[float, float, float]) -> None:
    """Between equal 1 mm grids no single row of voxels can move by a part of a voxel, but the whole label can.

    A shift of 0.25 mm along x moves no voxel of the largest one-hot map: it lies 0.25 mm behind the image. A shift of
    0.5 mm leaves its faces at a tie: it loses 5 % of its volume and lies 0.17 mm behind. The nearest voxel would be up
    to 0.87 mm behind.
    """
    grid = Grid((168, 80, 64), origin_mm=(-31.5, -40.2, -83.1))
    hu, labels = self_labelled_ct(grid)
    onto = Grid(grid.shape, origin_mm=tuple(np.add(grid.origin_mm, shift)))
    found = resample_labels(labels, grid, onto)
    assert apart_mm(resample_image(hu, grid, onto), found, onto) < 0.05
    before, after = (np.bincount(values.ravel(), minlength=25)[20:25] for values in (labels, found))
    np.testing.assert_allclose(after, before, rtol=0.01)


def test_a_flat_box_moves_by_single_voxels_of_its_faces() -> None:
    """A flat face lies at 0 or 1 mm, so that 0.25 mm can only be had as the mean of a face: 0.22 mm here, not 0.25."""
    grid = Grid((16, 16, 16))
    labels = np.zeros(grid.shape, np.uint16)
    labels[4:12, 4:12, 4:12] = 20
    found = resample_labels(labels, grid, Grid(grid.shape, origin_mm=(0.25, 0.0, 0.0)))
    moved = np.argwhere(found).mean(axis=0) - 7.5
    np.testing.assert_allclose(moved, (0.0, 0.0, -0.25), atol=0.05)
    assert (found > 0).sum() == pytest.approx(8**3, rel=0.01)
    assert found[4:12, 4:12, 5:11].all() and not found[4:12, 4:12, [2, 13]].any()


def test_labels_with_a_large_common_face_leave_no_gap() -> None:
    """Two halves of an ellipsoid. Each moves as if alone, and the larger value wins between them: 0.18 mm apart.

    The largest one-hot map alone is 0.3 mm apart. Vertebrae touch at their joints, which is too little to matter.
    """
    grid = oblique_grid((1.0, 1.0, 1.0), (0, 0, 0))
    points = grid.points_mm()
    inside = ((points / (19.0, 14.0, 31.0)) ** 2).sum(-1) < 1
    halves = np.where(inside, np.where(points[..., 2] < 0.2, 20, 21), 0).astype(np.uint16)
    onto = Grid(grid.shape, origin_mm=tuple(np.add(grid.origin_mm, (0.3, 0.1, 0.4))))
    found, whole = resample_labels(halves, grid, onto), resample_labels(inside.astype(np.uint16), grid, onto)
    before, after = centroids_mm(halves, grid), centroids_mm(found, onto)
    assert all(np.linalg.norm(before[v] - after[v]) < 0.25 for v in (20, 21))
    assert ((found > 0) != (whole > 0)).sum() < 0.02 * (whole > 0).sum()


def test_slabs_do_not_change_the_labels(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = oblique_grid()
    labels = self_labelled_ct(grid)[1]
    onto = oblique_grid((1.1, 0.9, 2.0), (-5, 3, 8), (1.1, 2.2, 3.3))
    points = RIGID(onto.points_mm())
    expected = warp_label_map(labels, grid, onto, lambda slab: points[slab])
    monkeypatch.setattr(label_resampling, "SLAB_VOXELS", 200_000)
    np.testing.assert_array_equal(warp_label_map(labels, grid, onto, lambda slab: points[slab]), expected)
    assert (expected > 0).any()
