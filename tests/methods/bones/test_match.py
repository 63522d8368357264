"""Matching of descriptors: shifts by FFT and poses by Levenberg-Marquardt."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from methods.bones.match import best_shifts


def test_the_shift_of_a_pattern_is_found_exactly() -> None:
    """Noise is shifted by (x, y, z) = (2, -1, 3) steps; the distance is 0 at this shift only."""
    rng = np.random.default_rng(0)
    moving = torch.from_numpy(rng.random((2, 20, 20, 20), np.float32))
    fixed = torch.roll(moving, (3, -1, 2), (1, 2, 3))
    mask = torch.zeros(20, 20, 20, dtype=torch.bool)
    mask[8:12, 8:12, 8:12] = True
    (shift, distance), (_, second) = best_shifts(moving, mask, fixed, torch.ones(20, 20, 20), 4, 2)
    assert shift.tolist() == [2, -1, 3]
    assert distance == pytest.approx(0, abs=1e-5) and second > 0.05
    assert best_shifts(moving, mask, fixed, torch.zeros(20, 20, 20), 4, 2) == []
