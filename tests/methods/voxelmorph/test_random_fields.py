"""Random anatomies and motions: rigid but for a curve, and centred on a window."""

from __future__ import annotations

import numpy as np
import pytest

from methods.voxelmorph.random_fields import Motion, motion_field


def rng(seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def test_a_motion_is_rigid_except_for_a_curve_along_the_spine() -> None:
    """The rigid part keeps distances; the curve shifts each axial slice within its plane as a whole."""
    shape, spacing = (40, 12, 10), (4.0, 2.0, 3.0)
    for seed in range(5):
        u = motion_field(shape, spacing, rng(seed))[0] * np.array(spacing)[:, None, None, None]
        middle = u.mean((2, 3))
        within = u - middle[:, :, None, None]
        assert np.allclose(within, within[:, :1], atol=1e-4), "every slice has the same rotation"
        lengths = [np.linalg.norm(u[:, 0, -1, 0] - u[:, 0, 0, 0] + [0, 11 * 2.0, 0]),
                   np.linalg.norm(u[:, 0, 0, -1] - u[:, 0, 0, 0] + [0, 0, 9 * 3.0])]  # fmt: skip
        assert lengths == pytest.approx([22.0, 27.0], rel=1e-4)
        assert np.allclose(np.diff(middle[0]), np.diff(middle[0])[0], atol=1e-4), "no curve along the axis itself"
        assert abs(np.diff(middle[1], 2)).max() > 1e-4


def test_a_motion_centred_on_a_window_shifts_it_by_the_drawn_shift_alone() -> None:
    """About the centre of a long volume, rotations move its ends sideways by more than the shift along the spine."""
    shape, spacing = (120, 12, 10), (4.0, 2.0, 3.0)
    end = (slice(100, 120), slice(0, 12), slice(0, 10))
    turning = Motion((0.0, 0.0, 0.0), turn_deg=8.0, bend_mm=4.0, ripple_mm=2.0)
    for seed in range(5):
        there = motion_field(shape, spacing, rng(seed), turning, end)[0][:, *end]
        assert np.abs(there.mean((1, 2, 3))).max() < 1e-5
        assert np.abs(motion_field(shape, spacing, rng(seed), turning)[0][:, *end].mean((1, 2, 3))).max() > 1
        sliding = Motion((1.0, 0.0, 0.0), turn_deg=8.0, bend_mm=4.0, slide_mm=10.0)
        moved = motion_field(shape, spacing, rng(seed), sliding, end)[0][:, *end].mean((1, 2, 3))
        assert abs(moved[0]) > 1e-3
        assert np.abs(moved[1:]).max() < 1e-5
