"""metrics/boxes.py: the boxes of labels, by the code for the CPU and by that for other devices."""

from __future__ import annotations

import pytest
import torch
from support.cuda import needs_cuda
from support.hand_built import UNIT, bent_field, box

from metrics import _closest_rigid, label_warping, overlap, regularity, rigid
from metrics.boxes import _boxes_by_profiles, bounding_box, covering_box, label_boxes, pair_boxes
from metrics.label_warping import warp_labels, warp_soft

SHAPE = (20, 22, 24)


def test_bounding_boxes_of_a_box_and_of_an_empty_mask() -> None:
    labels = box((5, 6, 7), (1, 2, 3), (2, 5, 7))
    expected = (slice(1, 2), slice(2, 5), slice(3, 7))
    assert bounding_box(labels) == expected
    assert bounding_box(labels.float().mT.contiguous().mT) == expected  # not contiguous
    assert bounding_box(torch.stack([labels, labels.roll(1, 0)])) == (slice(1, 3), *expected[1:])
    assert bounding_box(torch.zeros(2, 2, 2)) is None


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int32, torch.int64])
def test_boxes_are_the_same_on_the_cpu_and_another_device(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    for most in (3, 40):
        labels = torch.randint(0, most, (7, 9, 8), generator=generator)
        labels = torch.where(torch.rand(7, 9, 8, generator=generator) < 0.9, 0, labels).to(dtype)
        ids = [1, 25, 2, 7, 200]
        assert _boxes_by_profiles(labels, ids) == label_boxes(labels, ids)
    assert _boxes_by_profiles(torch.zeros(2, 3, 4, dtype=dtype), [1]) == [None]
    assert _boxes_by_profiles(labels, []) == []


def test_a_negative_value_is_no_label() -> None:
    labels = torch.tensor([[[-1, 0, 2]]])
    assert _boxes_by_profiles(labels, [1, 2]) == label_boxes(labels, [1, 2])


@needs_cuda
def test_no_volume_is_copied_from_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = box(SHAPE, (3, 4, 5), (9, 10, 12), 7)
    copied: list[int] = []
    to_cpu = torch.Tensor.cpu
    monkeypatch.setattr(torch.Tensor, "cpu", lambda t: (copied.append(t.numel()), to_cpu(t))[1])
    assert label_boxes(labels.cuda(), [7, 8]) == label_boxes(labels, [7, 8])
    assert sum(copied) < labels.numel() / 10


def test_paired_and_covering_boxes() -> None:
    one, two = (slice(1, 3), slice(2, 4), slice(0, 1)), (slice(2, 5), slice(0, 1), slice(0, 2))
    assert pair_boxes([one, None, one], [two, two, None]) == [(one, two), None, None]
    assert covering_box([one, None, two]) == (slice(1, 5), slice(0, 4), slice(0, 2))
    assert covering_box([None]) is None


def test_known_boxes_are_used_and_do_not_change_results(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = box(SHAPE, (3, 4, 5), (10, 12, 14), 1) + box(SHAPE, (12, 5, 6), (18, 14, 15), 2)
    u, ids = bent_field(SHAPE), [2, 1, 3]
    soft, hard = warp_soft(labels, u, ids), warp_labels(labels, u, ids)
    fit = rigid.closest_rigid(labels, soft, ids, UNIT, u)
    before = [soft, hard, *vars(fit).values(), rigid.rigid_dice(labels, hard, ids, UNIT, fit=fit)]
    before += regularity.rigidity(u, soft)
    distances = overlap.surface_distances_mm(hard, labels, ids, UNIT)
    moving, of_soft, of_hard = label_boxes(labels, ids), [bounding_box(s) for s in soft], label_boxes(hard, ids)
    for module in (label_warping, overlap, regularity, _closest_rigid):
        for name in ("label_boxes", "bounding_box"):
            monkeypatch.delattr(module, name, raising=False)
    fit = rigid.closest_rigid(labels, soft, ids, UNIT, u, boxes=pair_boxes(moving, of_soft))
    dice = rigid.rigid_dice(labels, hard, ids, UNIT, fit=fit, boxes=pair_boxes(moving, of_hard))
    after = [warp_soft(labels, u, ids, moving), warp_labels(labels, u, ids, moving), *vars(fit).values(), dice]
    after += regularity.rigidity(u, soft, boxes=of_soft)
    for a, b in zip(before, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    known = overlap.surface_distances_mm(hard, labels, ids, UNIT, (of_hard, moving))
    assert all((p == q).all() for a, b in zip(distances, known, strict=True) for p, q in zip(a, b, strict=True))
