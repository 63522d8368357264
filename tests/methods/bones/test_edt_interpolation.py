"""`edt-interpolation` blends the rigid displacements of bones by inverse distance."""

from __future__ import annotations

import numpy as np
import torch

from methods.base import Grid
from methods.bones.edt_interpolation import EdtInterpolation
from methods.bones.method import Bones


def translation(x_mm: float) -> np.ndarray:
    """A translation along x, 4 x 4, LPS millimetres."""
    matrix = np.eye(4)
    matrix[0, 3] = x_mm
    return matrix


def test_displacements_are_weighted_by_inverse_squared_distance() -> None:
    """Bone 20 at rest and bone 21 moved by 5 mm along x. The point is 2 mm from 20 and 4 mm from 21: 4/5 and 1/5."""
    labels = np.zeros((5, 5, 24), np.uint16)
    labels[2, 2, 4], labels[2, 2, 15] = 20, 21  # in the fixed domain 21 lies at x = 10
    bones = Bones(labels, Grid(labels.shape), {20: translation(0.0), 21: translation(5.0)})
    displacement = EdtInterpolation("edt-interpolation").fuse(bones)
    torch.testing.assert_close(displacement[0, :, 2, 2, 6], torch.tensor([0.0, 0.0, 1.0]))


def test_a_bone_has_its_own_displacement_inside() -> None:
    labels = np.zeros((5, 5, 24), np.uint16)
    labels[2, 2, 4], labels[2, 2, 15] = 20, 21
    bones = Bones(labels, Grid(labels.shape), {20: translation(0.0), 21: translation(5.0)})
    displacement = EdtInterpolation("edt-interpolation").fuse(bones)
    assert displacement[0, 2, 2, 2, 4] == 0 and displacement[0, 2, 2, 2, 10] == 5
