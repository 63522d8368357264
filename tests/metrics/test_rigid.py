"""metrics/rigid.py: rigid Dice, rigid field and pose errors of known motions, missing labels, gradients."""

from __future__ import annotations

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from monai.losses import DiceLoss
from support.hand_built import ANISOTROPIC, SPACINGS, UNIT, affine_field, bent_field, box, rotation, vertebra

from metrics.label_warping import warp_labels, warp_soft
from metrics.overlap import dice, soft_dice
from metrics.procrustes import fit_rigid
from metrics.rigid import (
    RigidFit,
    closest_rigid,
    pose_error,
    rigid_dice,
    rigid_field,
    rigid_resample,
    soft_rigid_dice,
)

SHAPE = {UNIT: (39, 45, 49), ANISOTROPIC: (19, 45, 55)}


@pytest.mark.parametrize("island", [False, True])
def test_residual_and_dice_are_those_of_the_whole_grid(island: bool) -> None:
    """An island of 4 x 3 x 5 voxels that no small motion can reach adds 60 to the residual."""
    labels = vertebra(SHAPE[UNIT]) + box(SHAPE[UNIT], (0, 0, 0), (6, 9, 8), 21)  # the second touches the border
    u = bent_field(labels.shape)
    soft, hard, ids = warp_soft(labels, u, [20, 21]), warp_labels(labels, u, [20, 21]), [20, 21]
    if island:
        soft[1, -4:, -3:, -5:] = 1
        hard[-4:, -3:, -5:] = 21
    fit = closest_rigid(labels, soft, ids, UNIT, u)
    rigid = rigid_resample(labels, fit, ids, UNIT)
    torch.testing.assert_close((rigid - soft).square().sum((1, 2, 3)), fit.residual, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(rigid_dice(labels, soft, ids, UNIT, fit=fit), soft_dice(rigid, soft))
    copies = torch.stack([(r > 0.5) for r in rigid]).int()
    expected = [dice(copies[k], (hard == i).int(), [1]).item() for k, i in enumerate(ids)]
    assert rigid_dice(labels, hard, ids, UNIT, fit=fit).tolist() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("amplitude", [0.5, 2.0, 4.0, 6.0])
def test_the_order_and_number_of_vertebrae_do_not_matter(amplitude: float) -> None:
    labels = vertebra(SHAPE[UNIT]) + box(SHAPE[UNIT], (2, 2, 2), (8, 12, 10), 7)
    u = bent_field(labels.shape, amplitude)
    both = rigid_dice(labels, warp_labels(labels, u, [20, 7]), [20, 7], UNIT, u)
    for k, i in enumerate((20, 7)):
        alone = rigid_dice(labels, warp_labels(labels, u, [20, 7]), [i], UNIT, u)
        assert alone.item() == pytest.approx(both[k].item(), abs=1e-5)


@pytest.mark.parametrize(("before", "after"), [(12, 16), (16, 8)])
def test_a_scaled_label_is_not_rigid(before: int, after: int) -> None:
    """Of two boxes about one centre one holds the other, wherever in it: Dice 2 x small^3 / (small^3 + large^3).

    The minimum of eq. 2 is half a voxel off the centre, where the copy's outer voxels have the value 0.5. Rounding
    decides whether they are above it, and differs between processors: the copy has `before` voxels along an axis, or
    one less.
    """
    moving, fixed = (box((32, 32, 32), (16 - n // 2,) * 3, (16 + n // 2,) * 3) for n in (before, after))
    sides = ((before - 1) ** 3, before**3)
    low, high = sorted(2 * min(copy, after**3) / (copy + after**3) for copy in sides)
    assert low - 0.001 < rigid_dice(moving, fixed, [1], UNIT).item() < high + 0.001


def test_a_missing_label_is_nan_and_not_converged() -> None:
    labels = vertebra(SHAPE[UNIT]) + box(SHAPE[UNIT], (0, 0, 0), (3, 3, 3), 7)
    u = torch.zeros(1, 3, *labels.shape)
    u[0, 0, 1, 1, 1] = torch.nan
    warped = torch.where(labels == 21, 0, labels)
    fit = closest_rigid(labels, warped, [20, 21, 7], UNIT, u)
    assert fit.converged.tolist() == [True, False, False]
    for part in (fit.rotation.flatten(1), fit.translation, fit.residual[:, None]):
        assert part.isnan().all(1).tolist() == [False, True, True]
    assert rigid_dice(labels, warped, [20, 21, 7], UNIT, u).isnan().tolist() == [False, True, True]
    nothing = closest_rigid(labels, torch.zeros_like(labels), [20], UNIT)
    assert nothing.residual.isnan().all() and not nothing.converged.any()
    assert rigid_dice(labels, torch.zeros_like(labels), [20], UNIT).isnan().all()
    assert soft_rigid_dice(labels, warped, [20, 21, 7], UNIT, u).isnan().tolist() == [False, True, True]


def test_one_voxel_is_rigid() -> None:
    labels = box((7, 7, 7), (3, 3, 3), (4, 4, 4))
    assert rigid_dice(labels, labels.roll(1, 2), [1], UNIT).tolist() == [1.0]


# Shrinking is left out: it takes minutes, and no rigid motion is simpler than another.
@settings(max_examples=8, deadline=None, phases=(Phase.explicit, Phase.reuse, Phase.generate))
@given(st.tuples(*[st.floats(-15, 15)] * 3), st.tuples(*[st.floats(-3, 3)] * 3), st.sampled_from([UNIT, ANISOTROPIC]))
def test_rigid_dice_is_one_for_any_rigid_motion(
    degrees: tuple[float, ...], shift: tuple[float, ...], spacing: tuple[float, ...]
) -> None:
    labels = vertebra(SHAPE[spacing], spacing)
    u = affine_field(rotation(degrees), shift, labels.shape, spacing)
    soft = warp_soft(labels, u, [20])
    fit = closest_rigid(labels, soft, [20], spacing, u)
    assert rigid_dice(labels, soft, [20], spacing, fit=fit).item() > 0.9999
    # Half a voxel off, a label this small loses a layer of voxels; a real vertebra loses less of its volume.
    assert rigid_dice(labels, warp_labels(labels, u, [20]), [20], spacing, u).item() > 0.93


def test_soft_rigid_dice_of_a_shift_by_half_a_voxel_by_hand() -> None:
    """A box of 4 voxels a side, moved by half a voxel along x, has 3 layers of 1 and 2 of 1/2.

    Both labels are equal, so sum w^2 / sum w = (3 + 2/4) / (3 + 2/2) = 0.875 of each row of voxels remains.
    """
    labels = box((12, 12, 12), (4, 4, 4), (8, 8, 8))
    u = torch.zeros(1, 3, 12, 12, 12)
    u[:, 2] = 0.5
    soft = warp_soft(labels, u, [1])
    fit = RigidFit(torch.eye(3)[None], torch.tensor([[0.0, 0.0, 0.5]]), torch.zeros(1), torch.ones(1, dtype=torch.bool))
    assert soft_rigid_dice(labels, soft, [1], UNIT, fit=fit).item() == pytest.approx(0.875, abs=1e-6)
    assert rigid_dice(labels, soft, [1], UNIT, fit=fit).item() == pytest.approx(1, abs=1e-6)
    # Against a hard map of the 3 full layers: 2 * 3 / (4 + 3).
    hard = (soft[0] > 0.5).int()
    assert soft_rigid_dice(labels, hard, [1], UNIT, fit=fit).item() == pytest.approx(6 / 7, abs=1e-6)


@pytest.mark.parametrize("hard", [False, True])
def test_soft_rigid_dice_against_monai(hard: bool) -> None:
    labels, ids = vertebra(SHAPE[UNIT]) + box(SHAPE[UNIT], (0, 0, 0), (6, 9, 8), 21), [20, 21]
    u = bent_field(labels.shape)
    warped = warp_labels(labels, u, ids) if hard else warp_soft(labels, u, ids)
    fit = closest_rigid(labels, warped, ids, UNIT, u)
    values = torch.stack([(warped == i).float() for i in ids]) if hard else warped
    # MONAI's defaults: soft labels, no squares, and a smoothing of 1e-5 that has no effect on so many voxels.
    expected = 1 - DiceLoss(reduction="none")(rigid_resample(labels, fit, ids, UNIT)[None], values[None]).flatten()
    torch.testing.assert_close(soft_rigid_dice(labels, warped, ids, UNIT, fit=fit), expected, atol=1e-5, rtol=0)


def test_an_exactly_rigid_motion_of_a_vertebra_has_less_than_one_on_the_soft_scale() -> None:
    labels = vertebra(SHAPE[UNIT])
    u = affine_field(rotation((3, 6, -4)), (0.4, -0.3, 0.6), labels.shape)
    soft = warp_soft(labels, u, [20])
    value = soft_rigid_dice(labels, soft, [20], UNIT, u).item()
    assert value == pytest.approx((soft.square().sum() / soft.sum()).item(), abs=1e-3)
    assert 0.8 < value < 0.97


def test_rigid_dice_gradient() -> None:
    """With respect to the warped label; `fit` holds the transform fixed."""
    labels = box((6, 6, 6), (1, 1, 1), (5, 4, 5))
    warped = warp_soft(labels, bent_field(labels.shape, 0.3, torch.float64), [1]).requires_grad_()
    fit = closest_rigid(labels, warped, [1], UNIT)
    inside = (warped > 0).detach()
    assert torch.autograd.gradcheck(lambda w: rigid_dice(labels, w * inside, [1], UNIT, fit=fit), (warped,))


def test_float64_and_strided_input() -> None:
    labels = vertebra(SHAPE[UNIT])
    u = bent_field(labels.shape)
    warped = warp_soft(labels, u, [20])
    expected = rigid_dice(labels, warped, [20], UNIT, u)
    double = rigid_dice(labels, warped.double(), [20], UNIT, u.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), expected, atol=1e-3, rtol=0)
    strided = rigid_dice(labels.mT.contiguous().mT, warped.mT.contiguous().mT, [20], UNIT, u.mT.contiguous().mT)
    torch.testing.assert_close(strided, expected)


@SPACINGS
def test_rigid_field_of_a_rigid_motion_is_zero(spacing: tuple[float, ...]) -> None:
    labels = vertebra(SHAPE[spacing], spacing)
    u = affine_field(rotation((12, -9, 20)), (4, 1, -2), labels.shape, spacing, torch.float64).requires_grad_()
    found = rigid_field(u, (labels == 20)[None].double(), spacing)
    assert found.item() < 1e-10
    found.sum().backward()
    assert u.grad is not None and u.grad.isfinite().all()  # a length of 0 has no NaN gradient


def test_rigid_field_by_hand() -> None:
    """Two voxels 4 x 2.5 mm apart along z, moved together by a voxel each: each is 2.5 mm off the fit."""
    weights, u = torch.zeros(1, 7, 3, 3), torch.zeros(1, 3, 7, 3, 3)
    weights[0, 1, 1, 1] = weights[0, 5, 1, 1] = 1
    u[0, 0, 1, 1, 1], u[0, 0, 5, 1, 1] = 1.0, -1.0
    assert rigid_field(u, weights, ANISOTROPIC).item() == pytest.approx(2.5)
    u[0, 0, 3, 1, 1] = torch.nan  # outside the label
    assert rigid_field(u, weights, ANISOTROPIC).item() == pytest.approx(2.5)


def test_rigid_field_of_a_missing_label_is_nan() -> None:
    weights = torch.ones(3, 4, 4, 4)
    weights[1], weights[2, :, :, :2] = 0, 0
    u = torch.zeros(1, 3, 4, 4, 4)
    u[0, 0, 0, 0, 0] = torch.nan
    assert rigid_field(u, weights, UNIT).isnan().tolist() == [True, True, False]
    assert rigid_field(u, weights[1:2], UNIT).isnan().all()


def test_rigid_field_gradient() -> None:
    """The gradient is that of the distance to a fixed fit; finite differences would move the fit too."""
    u = bent_field((3, 4, 3), 0.5, torch.float64).requires_grad_()
    weights = torch.rand(1, 3, 4, 3, dtype=torch.float64) + 0.1
    s = torch.tensor(ANISOTROPIC, dtype=torch.float64)
    p = weights[0].nonzero() * s
    r, t = fit_rigid(p, p + u.detach()[0].flatten(1).T * s, weights.flatten())

    def held(v: torch.Tensor) -> torch.Tensor:
        difference = p + v[0].flatten(1).T * s - p @ r.T - t
        return (difference.norm(dim=1) * weights.flatten()).sum() / weights.sum()

    assert torch.autograd.gradcheck(held, (u,))
    torch.testing.assert_close(rigid_field(u, weights, ANISOTROPIC)[0], held(u))
    ours, theirs = (torch.autograd.grad(f, u)[0] for f in (rigid_field(u, weights, ANISOTROPIC).sum(), held(u)))
    torch.testing.assert_close(ours, theirs)


@SPACINGS
def test_pose_error_by_hand(spacing: tuple[float, ...]) -> None:
    """A vertebra centred in the volume, 5 degrees and (3, 0, 4) mm off a rigid truth: the centroid is 5 mm off."""
    shape = SHAPE[spacing]
    mask = vertebra(shape, spacing) > 0
    mask = mask & mask.flip(0) & mask.flip(1) & mask.flip(2)  # its centroid is the middle
    truth = affine_field(rotation((10, 20, -5)), (1, 2, 3), shape, spacing)
    found = affine_field(rotation((10, 20, -5)) @ rotation((0, 5, 0)), (4, 2, 7), shape, spacing)
    degrees, translation, tre = pose_error(found, truth, mask, spacing)
    assert degrees.item() == pytest.approx(5, abs=1e-4)
    assert translation.item() == pytest.approx(5, abs=1e-4)
    assert tre.item() > 5
    assert [v.item() for v in pose_error(truth, truth, mask, spacing)] == [0, 0, 0]


def test_tre_of_a_shift_is_its_length_in_millimetres() -> None:
    u = torch.zeros(1, 3, 5, 6, 7)
    u[:, 0], u[:, 1] = 2, 12  # 5 mm and 12 mm
    mask = torch.rand(5, 6, 7) > 0.5
    degrees, translation, tre = pose_error(u, torch.zeros_like(u), mask, ANISOTROPIC)
    assert degrees.item() == pytest.approx(0, abs=1e-6)
    assert translation.item() == pytest.approx(13) and tre.item() == pytest.approx(13)


def test_pose_error_of_an_empty_mask_or_a_nan_field_is_nan() -> None:
    u = torch.zeros(1, 3, 4, 4, 4)
    assert all(v.isnan() for v in pose_error(u, u, torch.zeros(4, 4, 4, dtype=torch.bool), UNIT))
    assert all(v.isnan() for v in pose_error(u * torch.nan, u, torch.ones(4, 4, 4, dtype=torch.bool), UNIT))


def test_rigid_resample_takes_any_transform() -> None:
    labels = box((8, 8, 8), (2, 2, 2), (6, 5, 6))
    fit = RigidFit(torch.eye(3)[None], torch.tensor([[0.0, 1, 0]]), torch.zeros(1), torch.ones(1, dtype=torch.bool))
    moved = rigid_resample(labels, fit, [1], UNIT)  # s(x + 1 along y): the label moves to y - 1
    torch.testing.assert_close(moved[0], (labels.roll(-1, 1) == 1).float())
    assert rigid_resample(labels, fit, [1], UNIT, (4, 5, 6)).shape == (1, 4, 5, 6)
