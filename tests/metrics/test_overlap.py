"""metrics/overlap.py: values by hand, comparisons with SimpleITK and MONAI, empty labels."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.metrics import compute_average_surface_distance, compute_dice, compute_hausdorff_distance
from support.hand_built import ANISOTROPIC, UNIT, as_numpy, box, vertebra

from methods.base import Grid
from methods.geometry import to_sitk
from metrics.overlap import assd_mm, dice, hd95_mm, soft_dice, surface_distances_mm

OBLIQUE = tuple(np.array([[0.8, -0.6, 0.0], [0.6, 0.8, 0.0], [0.0, 0.0, 1.0]]).ravel())


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Two vertebrae of an odd-sized volume, shifted against each other by (1, 2, -1) voxels."""
    a = vertebra((25, 43, 45), ANISOTROPIC, 20) + box((25, 43, 45), (1, 1, 1), (4, 6, 9), 21)
    return a, a.roll((1, 2, -1), (0, 1, 2))


def test_a_box_moved_by_a_voxel() -> None:
    a, b = box((8, 8, 8), (1, 1, 1), (5, 5, 5)), box((8, 8, 8), (2, 1, 1), (6, 5, 5))
    assert dice(a, b, [1]).tolist() == [2 * 48 / 128]


def test_distances_of_two_plates_by_hand() -> None:
    """Two plates one voxel thick, three voxels apart along z: every distance is 3 x 2.5 mm."""
    a, b = box((9, 4, 4), (2, 0, 0), (3, 4, 4)), box((9, 4, 4), (5, 0, 0), (6, 4, 4))
    assert hd95_mm(a, b, [1], ANISOTROPIC).tolist() == [7.5]
    assert assd_mm(a, b, [1], ANISOTROPIC).tolist() == [7.5]


def test_the_directed_distances_differ_and_the_larger_counts() -> None:
    """One voxel against itself and one 4 voxels away along x: 0 one way; 0 and 4 x 0.8 mm the other."""
    a = box((3, 3, 9), (1, 1, 1), (2, 2, 2))
    b = a + box((3, 3, 9), (1, 1, 5), (2, 2, 6))
    assert [sorted(d.tolist()) for d in surface_distances_mm(a, b, [1], ANISOTROPIC)[0]] == [[0.0], [0.0, 3.2]]
    assert hd95_mm(a, b, [1], ANISOTROPIC).item() == pytest.approx(0.95 * 3.2)  # numpy's linear percentile
    assert assd_mm(a, b, [1], ANISOTROPIC).item() == pytest.approx(3.2 / 3)


def test_the_surface_of_a_box_is_its_shell_and_the_border_of_the_volume_is_outside() -> None:
    shell = 5**3 - 3**3
    for low in ((1, 1, 1), (0, 0, 0)):
        a = box((7, 7, 7), low, tuple(v + 5 for v in low))
        assert len(surface_distances_mm(a, a, [1], UNIT)[0][0]) == shell


def test_against_simpleitk(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = pair
    grid = Grid(tuple(a.shape), ANISOTROPIC[::-1], (5.0, -7.0, 11.0), OBLIQUE)
    images = [to_sitk(as_numpy(m).astype(np.uint16), grid) for m in pair]
    overlap = sitk.LabelOverlapMeasuresImageFilter()
    overlap.Execute(*images)
    for k, i in enumerate((20, 21)):
        assert dice(a, b, [20, 21])[k].item() == pytest.approx(overlap.GetDiceCoefficient(i), abs=1e-9)
    # The whole Hausdorff distance: ITK takes it over all voxels, which for these shapes is reached at the surface.
    hausdorff = sitk.HausdorffDistanceImageFilter()
    hausdorff.Execute(*(image == 21 for image in images))
    to_b, to_a = surface_distances_mm(a, b, [21], ANISOTROPIC)[0]
    assert max(to_a.max(), to_b.max()) == pytest.approx(hausdorff.GetHausdorffDistance(), rel=1e-4)


def test_against_monai(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = pair
    first, second = (torch.stack([m == 20, m == 21])[None].float() for m in pair)
    ids, options = [20, 21], {"include_background": True, "spacing": list(ANISOTROPIC)}
    np.testing.assert_allclose(dice(a, b, ids), compute_dice(first, second)[0], rtol=1e-6)
    monai_hd = compute_hausdorff_distance(first, second, percentile=95, **options)[0]
    np.testing.assert_allclose(hd95_mm(a, b, ids, ANISOTROPIC), monai_hd, rtol=1e-5)
    monai_assd = compute_average_surface_distance(first, second, symmetric=True, **options)[0]
    np.testing.assert_allclose(assd_mm(a, b, ids, ANISOTROPIC), monai_assd, rtol=1e-5)


def test_empty_on_one_side_and_on_both() -> None:
    something, nothing = box((4, 4, 4), (0, 0, 0), (2, 2, 2)), torch.zeros(4, 4, 4, dtype=torch.int32)
    assert dice(something, nothing, [1]).tolist() == dice(nothing, something, [1]).tolist() == [0.0]
    assert math.isnan(dice(nothing, nothing, [1])[0])
    assert math.isnan(dice(something, something, [30])[0])  # beyond the largest label
    for distance in (hd95_mm, assd_mm):
        for a, b in ((something, nothing), (nothing, something), (nothing, nothing)):
            assert math.isnan(distance(a, b, [1], UNIT)[0])
    soft = torch.zeros(1, 3, 3, 3)
    assert soft_dice(soft, soft).isnan().all()
    assert soft_dice(soft, torch.ones_like(soft)).tolist() == [0.0]


def test_one_voxel_and_equal_maps() -> None:
    a = box((3, 3, 3), (2, 2, 2), (3, 3, 3))
    assert dice(a, a, [1]).tolist() == [1.0]
    assert hd95_mm(a, a, [1], UNIT).tolist() == assd_mm(a, a, [1], UNIT).tolist() == [0.0]


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match="one shape"):
        dice(torch.zeros(2, 2, 2, dtype=torch.int32), torch.zeros(2, 2, 3, dtype=torch.int32), [1])
    with pytest.raises(ValueError, match="one shape"):
        soft_dice(torch.zeros(1, 2, 2, 2), torch.zeros(1, 2, 2, 3))


def test_layout_and_type_do_not_matter(pair: tuple[torch.Tensor, torch.Tensor]) -> None:
    a, b = pair
    strided = a.mT.contiguous().mT
    assert not strided.is_contiguous()
    unsigned = torch.from_numpy(as_numpy(b).astype(np.uint16))
    expected = dice(a, b, [20]), hd95_mm(a, b, [20], ANISOTROPIC)
    assert dice(strided, b, [20]) == dice(a.to(torch.uint16), unsigned, [20]) == expected[0]
    assert hd95_mm(strided, unsigned, [20], ANISOTROPIC) == expected[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0))
def test_dice_is_symmetric_and_within_0_and_1(seed: int, fill: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    a, b = ((torch.rand(3, 4, 5, generator=generator) < fill).int() for _ in range(2))
    found, mirrored = dice(a, b, [1]), dice(b, a, [1])
    assert torch.equal(found.nan_to_num(-1), mirrored.nan_to_num(-1))
    assert found.isnan().all() or 0 <= found.item() <= 1
    for squares in (True, False):
        soft = soft_dice(a[None].double(), b[None].double(), squares)
        torch.testing.assert_close(soft, found, equal_nan=True)  # the hard Dice on zeros and ones


def test_soft_dice_by_hand() -> None:
    a = torch.tensor([1.0, 0.5, 0.0]).view(1, 1, 1, 3)
    b = torch.tensor([1.0, 0.0, 0.0]).view(1, 1, 1, 3)
    assert soft_dice(a, b).item() == pytest.approx(2 * 1 / (1.25 + 1))
    assert soft_dice(a, b, squares=False).item() == pytest.approx(2 * 1 / (1.5 + 1))
    assert soft_dice(a, a).item() == 1.0
    assert soft_dice(a, a, squares=False).item() == pytest.approx(2 * 1.25 / 3)


@pytest.mark.parametrize("squares", [True, False])
def test_soft_dice_gradient(squares: bool) -> None:
    a, b = (torch.rand(2, 2, 3, 2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(lambda p, q: soft_dice(p, q, squares), (a, b))
