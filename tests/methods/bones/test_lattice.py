"""Poses, masks and the lattice around one bone."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from methods.base import Grid
from methods.bones.lattice import Frame, Pose, bone_and_rim, structured


def test_after_applies_the_first_pose_first() -> None:
    """A shift of 2 mm along x, then a quarter turn about z and 5 mm along z: (1, 0, 0) -> (3, 0, 0) -> (0, 3, 5)."""
    turn = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])[None]
    shift = Pose(torch.eye(3)[None], torch.tensor([[2.0, 0, 0]]))
    both = Pose(turn, torch.tensor([[0.0, 0, 5]])).after(shift)
    np.testing.assert_allclose(both.move(torch.tensor([[1.0, 0, 0]]))[0], [[0, 3, 5]], atol=1e-6)


def test_a_pose_becomes_a_matrix_of_millimetres_and_back() -> None:
    direction = tuple(Rotation.from_euler("xz", [20, -35], degrees=True).as_matrix().ravel().tolist())
    grid = Grid((9, 9, 9), (1.0, 1.5, 2.0), (5.0, -7.0, 90.0), direction)
    frame = Frame(grid, np.array([2, 3, 4]), np.array([5, 5, 7]))
    turn = torch.from_numpy(Rotation.from_rotvec([[10, -20, 5]], degrees=True).as_matrix()).float()
    pose = Pose(turn, torch.tensor([[1.0, 2, -3]]))
    back = frame.to_local(frame.to_lps(pose)[0])
    torch.testing.assert_close(back.rotation, pose.rotation)
    torch.testing.assert_close(back.translation, pose.translation, atol=1e-4, rtol=0)


def test_bone_and_rim_excludes_other_bones() -> None:
    """Spacing (x, y, z) = (1, 1, 2), rim 2 mm: two voxels along x, one along z, none of the neighbour."""
    labels = np.zeros((7, 7, 9), np.uint16)
    labels[3, 3, 4], labels[3, 3, 6:] = 20, 21
    row = bone_and_rim(labels, 20, Grid(labels.shape, (1.0, 1.0, 2.0)), 2.0)[0]
    assert row[3, 3].tolist() == [0, 0, 1, 1, 1, 1, 0, 0, 0]
    assert row[:, 3, 4].tolist() == [0, 0, 1, 1, 1, 0, 0]


def test_a_region_of_one_value_has_no_structure() -> None:
    image = np.random.default_rng(0).random((12, 12, 12), np.float32)
    image[6:] = 0
    assert structured(image)[0, :6].all() and not structured(image)[0, 9:].any()
