"""metrics/label_warping.py: hard and soft warped labels, shifts with a known result, gradients."""

from __future__ import annotations

import torch
from support.hand_built import bent_field, box, vertebra

from metrics.label_warping import warp_labels, warp_labels_and_crops, warp_soft


def soft_with_background(labels: torch.Tensor, u: torch.Tensor, ids: list[int]) -> torch.Tensor:
    soft = warp_soft(labels, u, ids)
    return torch.cat([1 - soft.sum(0, keepdim=True), soft])


def test_hard_labels_are_the_argmax_of_the_soft_ones_with_background() -> None:
    labels = vertebra((19, 29, 31)) + box((19, 29, 31), (0, 0, 0), (7, 11, 9), 7)
    labels[12:, 20:, :8] = 9
    ids, u = [20, 7, 9], bent_field((19, 29, 31))
    soft = soft_with_background(labels, u, ids)
    best, second = soft.topk(2, dim=0).values
    expected = torch.tensor([0, *ids])[soft.argmax(0)]
    clear = best - second > 1e-4  # a tie falls to rounding
    assert clear.float().mean() > 0.99
    hard = warp_labels(labels, u, ids)
    assert hard.dtype == labels.dtype
    assert torch.equal(hard[clear].long(), expected[clear])


def test_a_whole_voxel_shift_of_labels_is_exact_and_outside_is_background() -> None:
    labels = box((6, 6, 6), (2, 2, 2), (4, 5, 6), 7)
    u = torch.zeros(1, 3, 6, 6, 6)
    u[:, 0] = 2
    expected = box((6, 6, 6), (0, 2, 2), (2, 5, 6), 7)
    assert torch.equal(warp_labels(labels, u, [7]), expected)
    assert torch.equal(warp_soft(labels, u, [7])[0], (expected == 7).float())
    u[:, 0] = -5
    assert not warp_labels(labels, u, [7]).any()


def test_background_wins_a_tie_and_replaces_other_labels() -> None:
    labels = box((5, 5, 5), (1, 1, 1), (4, 4, 4), 7)
    u = torch.zeros(1, 3, 5, 5, 5)
    u[:, 2] = 0.5  # 7 is left where both neighbours are 7: two of three voxels along x
    assert (warp_labels(labels, u, [7]) == 7).sum() == 3 * 3 * 2
    assert not warp_labels(labels, u, [8]).any()


def test_a_label_that_is_absent_is_empty() -> None:
    labels, u = torch.zeros(4, 4, 4, dtype=torch.int32), torch.zeros(1, 3, 4, 4, 4)
    assert not warp_labels(labels, u, [3]).any() and not warp_soft(labels, u, [3]).any()


def test_soft_labels_have_a_gradient() -> None:
    labels = box((4, 4, 4), (1, 1, 1), (3, 3, 3), 7)
    u = (bent_field((4, 4, 4), 0.3, torch.float64) + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: warp_soft(labels, v, [7]), (u,))


def test_hard_and_soft_labels_in_one_pass_equal_separate_passes() -> None:
    labels = box((12, 14, 16), (2, 2, 2), (6, 9, 9)) + box((12, 14, 16), (6, 2, 2), (10, 9, 9), 2)
    u = bent_field((12, 14, 16))
    hard, soft = warp_labels_and_crops(labels, u, [1, 2], [3, 2])
    torch.testing.assert_close(hard, warp_labels(labels, u, [1, 2]), rtol=0, atol=0)
    torch.testing.assert_close(soft.whole(), warp_soft(labels, u, [3, 2]), rtol=0, atol=0)
