"""Gaps and overlaps of neighbouring bones, with numbers derived by hand."""

from __future__ import annotations

import math

import pytest
import torch

from metrics._closest_rigid import RigidFit
from metrics.boxes import bounding_box
from metrics.neighbours import _surface_points_mm, gaps_mm, overlaps_pct

SPACING = (2.0, 1.0, 1.0)


def slabs(first: slice, second: slice) -> torch.Tensor:
    """Soft labels (2, 16, 6, 6): two plates across the first axis."""
    soft = torch.zeros(2, 16, 6, 6)
    soft[0, first, 1:5, 1:5], soft[1, second, 1:5, 1:5] = 1.0, 1.0
    return soft


def gap(soft: torch.Tensor) -> float:
    return gaps_mm(soft, [(0, 1)], SPACING, [bounding_box(label) for label in soft]).item()


def moved(*shifts_mm: float) -> RigidFit:
    """Transforms from fixed to moving points that move bones along the first axis."""
    n = len(shifts_mm)
    translation = torch.tensor([[-shift, 0.0, 0.0] for shift in shifts_mm])
    return RigidFit(torch.eye(3).expand(n, 3, 3), translation, torch.zeros(n), torch.ones(n, dtype=torch.bool))


def test_surfaces_lie_half_a_voxel_outside_of_hard_labels():
    assert gap(slabs(slice(2, 5), slice(9, 12))) == pytest.approx(4 * 2.0)  # from 4.5 to 8.5 voxels
    assert gap(slabs(slice(2, 5), slice(5, 8))) == 0


def test_a_soft_label_moves_its_surface_by_less_than_a_voxel():
    soft = slabs(slice(2, 5), slice(9, 12))
    soft[1, 8] = soft[1, 9] * 0.75  # passes 0.5 at 7 + 2/3 of a voxel
    assert gap(soft) == pytest.approx((7 + 2 / 3 - 4.5) * 2.0, rel=1e-5)


def test_a_lost_label_has_no_gap_and_the_border_is_a_surface():
    assert math.isnan(gap(slabs(slice(0, 16), slice(0, 0))))
    assert gap(slabs(slice(0, 2), slice(12, 16))) == pytest.approx(10 * 2.0)


def test_bones_that_move_into_each_other_overlap():
    labels = (slabs(slice(2, 6), slice(8, 12)) * torch.tensor([20, 21]).view(2, 1, 1, 1)).sum(dim=0).int()
    ids, pairs = [20, 21], [(0, 1)]
    assert overlaps_pct(labels, moved(0, 0), ids, pairs, SPACING).tolist() == [0]
    # 6 mm are 3 voxels: one layer of four meets the other bone, whose first layer is two voxels away.
    assert overlaps_pct(labels, moved(6, 0), ids, pairs, SPACING).tolist() == [25]
    assert overlaps_pct(labels, moved(6, 6), ids, pairs, SPACING).tolist() == [0], "both moved alike"
    assert overlaps_pct(labels, moved(math.nan, 0), ids, pairs, SPACING).isnan().all()


@pytest.mark.parametrize("shift", [0.0, 1.5, 40.0])
def test_the_gap_is_the_least_of_all_distances(shift: float) -> None:
    a, b = torch.zeros(9, 30, 30), torch.zeros(9, 30, 30)
    a[1:7, 3:14, 2:12], b[2:8, 15:28, 9:25] = torch.rand(6, 11, 10), torch.rand(6, 13, 16)
    soft, spacing = torch.stack([a, b]), (2.5, 0.7 + shift / 100, 1.1)
    points = [_surface_points_mm(v[box], spacing, box) for v, box in zip(soft, map(bounding_box, soft), strict=True)]
    least = torch.cdist(*(p.double() for p in points)).min()
    gap = gaps_mm(soft, [(0, 1)], spacing, [bounding_box(v) for v in soft])
    torch.testing.assert_close(gap[0], least)
