"""ITK transform files, read back by SimpleITK."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from benchmark.datasets.io.transforms import write_displacement_transform, write_rigid_transforms
from benchmark.errors import BadInput
from methods.base import Grid

DIRECTION = tuple(Rotation.from_euler("xyz", [20, -10, 5], degrees=True).as_matrix().ravel())
GRID = Grid((6, 7, 8), (1.0, 2.0, 3.0), (5.0, -4.0, 70.0), DIRECTION)
RIGID = np.eye(4)
RIGID[:3, :3] = Rotation.from_euler("xyz", [10, -20, 5], degrees=True).as_matrix()
RIGID[:3, 3] = 3.0, -2.0, 7.0


def test_a_displacement_transform_has_the_field_at_every_voxel(tmp_path: Path) -> None:
    field = np.random.default_rng(0).normal(0, 5, (*GRID.shape, 3)).astype(np.float32)
    write_displacement_transform(tmp_path / "a.h5", field, GRID)
    transform = sitk.ReadTransform(str(tmp_path / "a.h5"))
    for index in np.argwhere(np.ones(GRID.shape))[::17]:
        point = GRID.to_points_mm(index[::-1])
        np.testing.assert_allclose(transform.TransformPoint(point.tolist()), point + field[tuple(index)], atol=1e-3)


def test_rigid_transforms_are_written_by_vertebra_and_replace_earlier_ones(tmp_path: Path) -> None:
    write_rigid_transforms(tmp_path, "", {0: np.eye(4), 22: np.eye(4)})
    files = write_rigid_transforms(tmp_path, "", {20: RIGID})
    assert files == list(tmp_path.iterdir()) == [tmp_path / "vertebra_20.tfm"]
    found = sitk.ReadTransform(str(files[0])).TransformPoint((1.0, 2.0, 3.0))
    np.testing.assert_allclose(found, RIGID[:3, :3] @ (1.0, 2.0, 3.0) + RIGID[:3, 3], atol=1e-9)


def test_a_folder_that_is_absent_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a place to write to"):
        write_displacement_transform(tmp_path / "no" / "a.h5", np.zeros((*GRID.shape, 3), np.float32), GRID)
