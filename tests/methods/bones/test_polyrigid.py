"""The polyrigid flow follows each bone's transform."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import expm
from support.bone_pairs import PLAIN, spine

from methods.base import Grid
from methods.bones.method import Bones
from methods.bones.polyrigid import Polyrigid


def test_the_flow_of_one_logarithm_is_its_transform() -> None:
    """A rotation of 20 degrees about the grid's centre: the flow and the 4 x 4 matrix agree within 0.02 voxels."""
    labels = spine(PLAIN)
    log = np.zeros((4, 4))
    log[0, 1], log[1, 0] = -np.deg2rad(20), np.deg2rad(20)
    centre = PLAIN.points_mm().reshape(-1, 3).mean(axis=0)
    log[:3, 3] = -log[:3, :3] @ centre
    bones = Bones(labels, PLAIN, {20: expm(log)})
    displacement = Polyrigid("polyrigid").fuse(bones)
    difference = (displacement[0] - bones.displacement(0))[:, 16:-16, 16:-16, 16:-16]
    assert bones.displacement(0).abs().max() > 5
    assert difference.abs().max() < 0.02
    assert bones.deviations_mm(bones.displacement(0)[None] + 1.0) == pytest.approx([np.sqrt(3)], rel=1e-5)


def test_a_bone_on_a_long_path_stays_rigid() -> None:
    """A cube of 8 mm moves 24 mm past another bone, 3 mm from its path: only the middle of the path is nearer."""
    labels = np.zeros((40, 24, 48), np.uint16)
    labels[10:18, 8:16, 30:38], labels[21:29, 8:16, 14:30] = 20, 21
    translation = np.eye(4)
    translation[0, 3] = 24.0
    bones = Bones(labels, Grid(labels.shape), {20: translation, 21: np.eye(4)})
    assert bones.deviations_mm(Polyrigid("polyrigid").fuse(bones))[0] < 1.0
