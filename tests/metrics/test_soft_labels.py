"""metrics/soft_labels.py: labels as crops have the values of labels on the whole grid, on an anisotropic grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from metrics import neighbours, regularity, rigid, volume
from metrics.boxes import bounding_box
from metrics.label_warping import warp_crops, warp_labels_and_crops, warp_soft
from metrics.soft_labels import SoftLabels

SPACING, IDS, PAIRS = (3.0, 0.8, 1.2), [1, 2, 3], [(0, 1)]


@pytest.fixture(scope="module")
def labels() -> Tensor:
    """Two blocks, one of which touches the grid's border; label 3 is absent."""
    result = torch.zeros(14, 26, 24, dtype=torch.int32)
    result[0:5, 4:18, 5:17] = 1
    result[6:11, 6:20, 6:18] = 2
    return result


@pytest.fixture(scope="module")
def field() -> Tensor:
    """A smooth displacement that bends both blocks."""
    z, y, _ = torch.meshgrid(*(torch.linspace(0, 3, n) for n in (14, 26, 24)), indexing="ij")
    return torch.stack([0.4 * y.sin(), 0.9 + 0.7 * z.cos(), 0.8 * (y + z).sin()])[None]


@pytest.fixture(scope="module")
def crops(labels: Tensor, field: Tensor) -> SoftLabels:
    return warp_crops(labels, field, IDS)


@pytest.fixture(scope="module")
def soft(labels: Tensor, field: Tensor) -> Tensor:
    return warp_soft(labels, field, IDS)


def test_crops_hold_the_whole_labels_in_the_smallest_boxes(crops: SoftLabels, soft: Tensor) -> None:
    torch.testing.assert_close(crops.whole(), soft, rtol=0, atol=0)
    assert crops.boxes == [bounding_box(label) for label in soft] and crops.boxes[2] is None
    assert crops.shape == soft.shape and crops.dtype == soft.dtype


def test_a_crop_in_another_box_is_that_part_of_the_whole_label(crops: SoftLabels, soft: Tensor) -> None:
    for box in ((slice(0, 14), slice(10, 13), slice(0, 9)), (slice(13, 14), slice(25, 26), slice(0, 1))):
        for k in range(3):
            torch.testing.assert_close(crops.crop(k, box), soft[k][box], rtol=0, atol=0)


def test_sums_are_those_of_the_whole_labels(crops: SoftLabels, soft: Tensor) -> None:
    torch.testing.assert_close(crops.sums(torch.float64), soft.double().sum(dim=(1, 2, 3)))


def test_no_label_has_no_crop() -> None:
    nothing = SoftLabels([], [], (2, 3, 4))
    assert nothing.whole().shape == (0, 2, 3, 4) and nothing.sums().shape == (0,)


def test_hard_map_and_crops_are_those_of_whole_labels(labels: Tensor, field: Tensor) -> None:
    hard, part = warp_labels_and_crops(labels, field, [1, 2], [2])
    whole = warp_soft(labels, field, [1, 2])
    largest = torch.cat([1 - whole.sum(dim=0, keepdim=True), whole]).argmax(dim=0)
    assert torch.equal(hard.long(), largest) and hard.any()
    torch.testing.assert_close(part.whole(), whole[1:])


def test_closest_rigid_transforms_are_bitwise_those_of_whole_labels(
    labels: Tensor, field: Tensor, crops: SoftLabels, soft: Tensor
) -> None:
    fits = [rigid.closest_rigid(labels, w, IDS, SPACING, field) for w in (crops, soft)]
    values = [rigid.soft_rigid_dice(labels, w, IDS, SPACING, fit=f) for w, f in zip((crops, soft), fits, strict=True)]
    for name in ("rotation", "translation", "residual", "converged"):
        a, b = (getattr(fit, name) for fit in fits)
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
    torch.testing.assert_close(*values, equal_nan=True)


def test_volume_change_is_that_of_whole_labels(labels: Tensor, crops: SoftLabels, soft: Tensor) -> None:
    a, b = (volume.soft_volume_change_pct(labels, w, IDS) for w in (crops, soft))
    torch.testing.assert_close(a, b, equal_nan=True)


def test_gaps_are_those_of_whole_labels(crops: SoftLabels, soft: Tensor) -> None:
    a, b = (neighbours.gaps_mm(w, PAIRS, SPACING, crops.boxes) for w in (crops, soft))
    torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_rigidity_is_that_of_whole_labels(field: Tensor, crops: SoftLabels, soft: Tensor) -> None:
    for a, b in zip(
        regularity.rigidity_of_crops(field, crops, SPACING), regularity.rigidity(field, soft, SPACING), strict=True
    ):
        torch.testing.assert_close(a, b, equal_nan=True)


def test_a_value_that_is_not_finite_makes_all_labels_unknown(field: Tensor, crops: SoftLabels, soft: Tensor) -> None:
    broken = field.clone()
    broken[0, 1, 2, 10, 10] = torch.nan
    for values in (*regularity.rigidity_of_crops(broken, crops, SPACING), *regularity.rigidity(broken, soft, SPACING)):
        assert values.isnan().all()
