"""metrics/volume.py: sizes by hand, missing labels, the gradient of the loss."""

from __future__ import annotations

import math

import pytest
import torch
from support.hand_built import box

from metrics.boxes import label_boxes
from metrics.label_warping import warp_labels, warp_soft
from metrics.volume import soft_volume_change_pct, volume_change_pct, volume_loss, voxel_counts


def test_counts_by_hand() -> None:
    labels = box((5, 7, 9), (1, 1, 1), (3, 4, 5), value=20)
    assert voxel_counts(labels, [20, 21]).tolist() == [24, 0]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64])
def test_every_label_type_counts_alike(dtype: torch.dtype) -> None:
    labels = box((3, 4, 5), (0, 0, 0), (2, 2, 2), value=9).to(dtype)
    assert voxel_counts(labels, [9]).tolist() == [8]
    assert label_boxes(labels, [9]) == [(slice(0, 2), slice(0, 2), slice(0, 2))]


def test_change_is_signed_and_relative_to_the_moving_label() -> None:
    moving = box((6, 6, 6), (0, 0, 0), (2, 2, 5))  # 20 voxels
    smaller, larger = box((6, 6, 6), (0, 0, 0), (2, 2, 4)), box((6, 6, 6), (1, 1, 1), (3, 4, 6))  # 16 and 30
    assert volume_change_pct(moving, smaller, [1]).tolist() == [-20.0]
    assert volume_change_pct(moving, larger, [1]).tolist() == [50.0]


def test_a_lost_label_is_minus_100_and_an_absent_one_nan() -> None:
    moving, nothing = box((4, 4, 4), (0, 0, 0), (1, 1, 1)), torch.zeros(4, 4, 4, dtype=torch.int32)
    assert volume_change_pct(moving, nothing, [1]).tolist() == [-100.0]
    assert math.isnan(volume_change_pct(nothing, moving, [1])[0])
    assert math.isnan(volume_change_pct(nothing, nothing, [1])[0])


def test_loss_by_hand_and_its_gradient() -> None:
    moving = torch.zeros(2, 2, 2, 2, dtype=torch.float64)
    moving[0, 0], moving[1, 1, 1] = 1, 1  # 4 and 2 voxels
    warped = torch.full_like(moving, 0.625, requires_grad=True)  # 5 and 5: +25 % and +150 %
    assert volume_loss(moving, warped).item() == pytest.approx((0.25**2 + 1.5**2) / 2)
    assert torch.autograd.gradcheck(volume_loss, (moving, warped))


def test_loss_is_zero_for_equal_sizes_and_nan_for_an_empty_moving_label() -> None:
    soft = torch.rand(3, 4, 4, 4)
    assert volume_loss(soft, soft.flip(-1)).item() == pytest.approx(0, abs=1e-12)
    assert volume_loss(torch.zeros(1, 2, 2, 2), torch.ones(1, 2, 2, 2)).isnan()


def test_loss_keeps_the_batch() -> None:
    moving, warped = torch.ones(2, 3, 2, 2, 2), torch.ones(2, 3, 2, 2, 2)
    warped[1] *= 2
    assert volume_loss(moving, warped).tolist() == [0.0, 1.0]


def test_the_soft_volume_of_a_rigid_motion_does_not_change_and_the_hard_volume_does():
    z, y, x = torch.meshgrid(*[torch.arange(24.0)] * 3, indexing="ij")
    labels = ((z - 11.3).square() + (y - 11.8).square() + (x - 12.1).square() < 36).int()
    u = torch.full((1, 3, 24, 24, 24), 0.5)
    soft, hard = warp_soft(labels, u, [1]), warp_labels(labels, u, [1])
    assert soft_volume_change_pct(labels, soft, [1]).item() == pytest.approx(0, abs=1e-3)
    assert abs(volume_change_pct(labels, hard, [1]).item()) > 0.3
    assert soft_volume_change_pct(labels, 0 * soft, [1]).tolist() == [-100]
    assert math.isnan(soft_volume_change_pct(0 * labels, soft, [1]).item())
