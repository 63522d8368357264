"""metrics/landmarks.py: values by hand and a comparison with scipy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from support.hand_built import ANISOTROPIC, UNIT, bent_field

from metrics.landmarks import landmark_error_mm


def test_a_shift_by_hand() -> None:
    """u = (1, 0, 0) voxels: the first landmark is met; the second missed by 3 voxels in y, 4 in x; the third by z."""
    u = torch.zeros(1, 3, 5, 6, 7)
    u[:, 0] = 1
    fixed = torch.tensor([[1.0, 2.0, 3.0], [0.5, 2.0, 1.0], [0.0, 0.0, 0.0]])
    moving = fixed + torch.tensor([[1.0, 0.0, 0.0], [1.0, 3.0, -4.0], [0.0, 0.0, 0.0]])
    assert landmark_error_mm(u, fixed, moving, UNIT).tolist() == pytest.approx([0, 5, 1])
    assert landmark_error_mm(u, fixed, moving, (2.0, 1.0, 0.5)).tolist() == pytest.approx([0, 13**0.5, 2])


def test_displacements_between_voxels_match_scipy() -> None:
    u, rng = bent_field((6, 7, 8), 0.8, torch.float64), np.random.default_rng(0)
    fixed, moving = rng.uniform(0, (5, 6, 7), (20, 3)), rng.uniform(0, 9, (20, 3))
    known = np.stack([map_coordinates(c, fixed.T, order=1) for c in u[0].numpy()], axis=1)
    expected = np.linalg.norm((fixed + known - moving) * ANISOTROPIC, axis=1)
    found = landmark_error_mm(u, torch.from_numpy(fixed), torch.from_numpy(moving), ANISOTROPIC)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_landmarks_outside_the_grid_are_nan() -> None:
    u, last = torch.zeros(1, 3, 4, 5, 6), torch.tensor([3.0, 4.0, 5.0])
    fixed = torch.stack([last, last + torch.tensor([0.0, 0.0, 0.1]), -0.1 * torch.ones(3)])
    assert landmark_error_mm(u, fixed, fixed, UNIT).isnan().tolist() == [False, True, True]
    u[0, 1, 2, 2, 2] = torch.nan
    near = torch.tensor([[2.5, 2.0, 2.0], [0.0, 0.0, 0.0]])
    assert landmark_error_mm(u, near, near, UNIT).isnan().tolist() == [True, False]


def test_points_that_do_not_match_are_refused() -> None:
    with pytest.raises(ValueError, match=r"expected points \(P, 3\), got \(2, 3\) and \(3, 3\)"):
        landmark_error_mm(torch.zeros(1, 3, 4, 4, 4), torch.zeros(2, 3), torch.zeros(3, 3), UNIT)
