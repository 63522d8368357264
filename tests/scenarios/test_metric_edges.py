"""Edge cases that several modules of metrics/ share, worked out by hand: NaN, small, lost and shifted labels.

Edge cases of one function are in the test file of its module.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from support.comparison import parts, same
from support.hand_built import ANISOTROPIC, UNIT, affine_field, bent_field, box, rotation

from metrics import boxes, fields, label_warping, overlap, procrustes, regularity, rigid, volume

SHAPE = (7, 9, 11)  # odd, and no two sides alike
AT = (2, 3, 3)
OTHERS = torch.ones(SHAPE, dtype=torch.bool).index_put(tuple(torch.tensor([n]) for n in AT), torch.tensor(False))
IDS = [1, 2]
LABEL = box(SHAPE, (1, 1, 1), (5, 5, 6))
IN_LABELS: dict[str, Callable[[torch.Tensor], Any]] = {
    "rigidity": lambda u: regularity.rigidity(u, (LABEL == 1)[None].float()),
    "rigid_field": lambda u: rigid.rigid_field(u, (LABEL == 1)[None].float(), UNIT),
    "pose_error": lambda u: rigid.pose_error(u, bent_field(SHAPE, 0.2), LABEL == 1, UNIT),
    "closest_rigid, hard": lambda u: rigid.closest_rigid(LABEL, LABEL, [1], UNIT, u),
    "rigid_dice, soft": lambda u: rigid.rigid_dice(LABEL, (LABEL == 1)[None].float(), [1], UNIT, u),
}


def one_bad_voxel(bad: float, where: tuple[int, int, int]) -> torch.Tensor:
    u = bent_field(SHAPE, 0.3)
    u[0, 1][where] = bad
    return u


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("measure", IN_LABELS.values(), ids=IN_LABELS)
def test_a_field_that_is_not_finite_has_an_effect_only_inside_a_label(measure: Callable[..., Any], bad: float) -> None:
    same(measure(one_bad_voxel(bad, (6, 7, 8))), measure(bent_field(SHAPE, 0.3)))
    inside = parts(measure(one_bad_voxel(bad, (2, 3, 3))))
    assert not any(p.isfinite().any() for p in inside if p.is_floating_point())
    assert not any(p.any() for p in inside if p.dtype == torch.bool)  # `converged`


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_an_image_warped_from_a_point_that_is_not_finite(bad: float) -> None:
    """The point counts as outside; with `border`, an infinite point is at the border and a NaN gives 0."""
    u, ones = one_bad_voxel(bad, AT), torch.ones(1, 1, *SHAPE)
    assert fields.warp(ones, u)[0, 0][AT] == 0 and not fields.lands_inside(u, SHAPE)[0, 0][AT]
    assert fields.warp(ones, u, padding="border")[0, 0][AT] == pytest.approx(0 if math.isnan(bad) else 1)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("warp", [label_warping.warp_soft, label_warping.warp_labels])
def test_a_label_warped_from_a_point_that_is_not_finite_is_background(bad: float, warp: Callable[..., Any]) -> None:
    u = one_bad_voxel(bad, AT)
    assert not warp(LABEL, u, [1])[..., *AT].any()
    assert torch.equal(warp(LABEL, u, [1])[..., OTHERS], warp(LABEL, bent_field(SHAPE, 0.3), [1])[..., OTHERS])


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_the_gradient_of_a_soft_label_is_0_where_the_field_is_not_finite(bad: float) -> None:
    u = one_bad_voxel(bad, AT).requires_grad_()
    label_warping.warp_soft(LABEL, u, [1]).sum().backward()
    assert u.grad is not None and u.grad.isfinite().all() and not u.grad[(0, slice(None), *AT)].any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_composition_integration_and_inversion_propagate_a_value_that_is_not_finite(bad: float) -> None:
    u, clean = one_bad_voxel(bad, AT), bent_field(SHAPE, 0.3)
    composed = fields.compose(u, clean)
    assert not composed[0, 1][AT].isfinite() and composed[..., OTHERS].isfinite().all()
    assert not fields.integrate(u)[0, 1][AT].isfinite() and not fields.invert(u)[1][0, 0][AT].isfinite()
    assert regularity.inverse_consistency(u, clean)[0][AT].isnan()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_derivatives_of_a_field_are_not_finite_beside_a_value_that_is_not(bad: float) -> None:
    u = one_bad_voxel(bad, AT)
    j = fields.jacobian(u)
    assert (~j[0].isfinite()).any(dim=0).any(dim=0).nonzero().tolist() == [
        [1, 3, 3], [2, 2, 3], [2, 3, 2], [2, 3, 4], [2, 4, 3], [3, 3, 3]]  # fmt: skip
    assert regularity.folding(fields.jacobian_determinant(j), 0)[0].item() == 6
    assert regularity.folding(torch.full((1, 2, 2, 2), bad), 0)[1].item() == 100
    assert not regularity.diffusion(u).isfinite().any()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e30])
@pytest.mark.parametrize("rest", [0.0, 1.0])
@pytest.mark.parametrize("given", [True, False], ids=["field", "no field"])
def test_a_warped_label_that_is_not_finite_has_no_transform(bad: float, rest: float, given: bool) -> None:
    """The other label has one."""
    labels = LABEL + box(SHAPE, (5, 6, 7), (7, 9, 11), 2)
    soft = torch.stack([(labels == 1) * rest, labels == 2])
    soft[0, 3, 3, 3] = bad
    fit = rigid.closest_rigid(labels, soft, IDS, UNIT, torch.zeros(1, 3, *SHAPE) if given else None)
    assert fit.residual.isnan().tolist() == [True, False] and fit.converged.tolist() == [False, True]
    assert rigid.rigid_resample(labels, fit, IDS, UNIT).isnan().flatten(1).all(dim=1).tolist() == [True, False]


def test_one_huge_displacement_does_not_stop_the_fit_of_the_others() -> None:
    """Its square is infinite, which would make torch's SVD fail for the whole batch."""
    points = torch.rand(2, 6, 3)
    target = points.clone()
    target[0, 0, 0] = 1e30
    assert procrustes.fit_rigid(points, target)[0].isnan().flatten(1).all(dim=1).tolist() == [True, False]


@pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC])
@pytest.mark.parametrize("size", [(3, 3, 2), (7, 8, 8)])  # 18 and 448 voxels
def test_a_small_vertebra_that_moves_rigidly(size: tuple[int, int, int], spacing: tuple[float, float, float]) -> None:
    shape, turn, shift = (15, 17, 19), rotation((6, -4, 5)), (1.2, -0.7, 0.4)
    labels = box(shape, (4, 4, 5), [4 + size[0], 4 + size[1], 5 + size[2]])
    u = affine_field(turn, shift, shape, spacing, torch.float64)
    soft = label_warping.warp_soft(labels, u, [1])
    for start in (u, None):
        fit = rigid.closest_rigid(labels, soft, [1], spacing, start)
        assert fit.converged.all() and fit.residual.item() < 1e-3
        torch.testing.assert_close(fit.rotation[0], turn, atol=5e-3, rtol=0)
        assert rigid.rigid_dice(labels, soft, [1], spacing, fit=fit).item() > 0.9999
    assert rigid.rigid_field(u, soft, spacing).item() < 1e-10
    assert max(v.item() for v in regularity.rigidity(u, soft, spacing)) < 1e-12
    assert [v.item() < 1e-6 for v in rigid.pose_error(u, u, soft[0] > 0.5, spacing)] == [True] * 3


def test_one_voxel_by_hand() -> None:
    """Half-way to the voxel is 0.5; any motion of it is rigid; a slope of 0.5 along z gives |J| = 1.5."""
    labels = box((5, 5, 5), (2, 2, 2), (3, 3, 3))
    u = torch.zeros(1, 3, 5, 5, 5)
    u[:, 2] = 0.5
    assert label_warping.warp_soft(labels, u, [1])[0, 2, 2].tolist() == [0, 0.5, 0.5, 0, 0]
    assert not label_warping.warp_labels(labels, u, [1]).any()  # background wins both ties
    u[0, 0] = 0.5 * torch.arange(5.0).view(5, 1, 1)
    soft = (labels == 1)[None].float()
    assert rigid.rigid_field(u, soft, ANISOTROPIC).item() == 0
    errors = rigid.pose_error(u, 0 * u, labels == 1, ANISOTROPIC)
    assert [v.item() for v in errors] == pytest.approx([0, math.hypot(2.5, 0.4), math.hypot(2.5, 0.4)], abs=1e-6)
    assert [v.item() for v in regularity.rigidity(u, soft)] == [0.25, 1.5625]  # (1.5^2 - 1)^2
    assert boxes.label_boxes(labels, [1, 2]) == [(slice(2, 3),) * 3, None]
    assert boxes.bounding_box(labels == 1) == (slice(2, 3),) * 3


@pytest.mark.parametrize("far", [50.0, -50.0, 1e30])
def test_a_label_displaced_out_of_the_grid(far: float) -> None:
    u = torch.full((1, 3, *SHAPE), far, requires_grad=True)
    hard, soft, moving = (
        label_warping.warp_labels(LABEL, u, [1]),
        label_warping.warp_soft(LABEL, u, [1]),
        (LABEL == 1)[None].float(),
    )
    assert not hard.any() and not soft.any() and not fields.lands_inside(u, SHAPE).any()
    assert not fields.warp(moving[None], u).any()
    assert overlap.dice(LABEL, hard, [1]).tolist() == overlap.soft_dice(moving, soft).tolist() == [0]
    assert overlap.hd95_mm(LABEL, hard, [1], UNIT).isnan().all()
    assert volume.volume_change_pct(LABEL, hard, [1]).tolist() == [-100]
    assert volume.volume_loss(moving, soft).item() == 1
    for warped in (hard, soft):
        assert rigid.rigid_dice(LABEL, warped, [1], UNIT, u).isnan().all()
    assert rigid.rigid_field(u, soft, UNIT).isnan().all() and regularity.rigidity(u, soft)[0].isnan().all()
    assert regularity.inverse_consistency(u, u).isnan().all()
    away = rigid.RigidFit(torch.eye(3)[None], torch.full((1, 3), far), torch.zeros(1), torch.ones(1) > 0)
    assert not rigid.rigid_resample(LABEL, away, [1], UNIT).any()


def test_an_empty_label_does_not_change_the_gradient_of_other_labels() -> None:
    """`nansum` drops the value of an empty label, but a 0 / 0 would still make the gradient NaN."""
    present = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1).expand(2, *SHAPE)
    u, w = bent_field(SHAPE).requires_grad_(), (torch.rand(2, *SHAPE) * present).requires_grad_()
    values = [*regularity.rigidity(u, w), regularity.weighted_mean(u[:, 0], w), rigid.rigid_field(u, w, UNIT)]
    for value in (*values, overlap.soft_dice(w, present / 2), volume.volume_loss(present[:, None], w[:, None])):
        assert value.isnan().sum() == 1
        of_u, of_w = torch.autograd.grad(value.nansum(), (u, w), retain_graph=True, allow_unused=True)
        assert of_w.isfinite().all() and of_w[0].any() and (of_u is None or of_u.isfinite().all())


@pytest.mark.parametrize("shift", [(1, 0, 0), (0, -2, 0), (0, 0, 3), (-1, 2, -3)])
def test_a_whole_voxel_shift_is_exact(shift: tuple[int, int, int]) -> None:
    """On grids of two shapes, for a label at the border of the moving grid: the box moves unchanged or is cut."""
    moving_shape, fixed_shape = (6, 7, 9), (11, 13, 15)
    low, high = (0, 2, 4), (3, 7, 9)  # at the first z, the last y and the last x
    labels, u = box(moving_shape, low, high), torch.zeros(1, 3, *fixed_shape)
    u += torch.tensor(shift).view(1, 3, 1, 1, 1)
    first, last = ([max(v - s, 0) for v, s in zip(edge, shift, strict=True)] for edge in (low, high))
    expected = box(fixed_shape, first, last)
    assert torch.equal(label_warping.warp_labels(labels, u, [1]), expected)
    soft = label_warping.warp_soft(labels, u, [1])
    assert torch.equal(soft[0], expected.float())
    torch.testing.assert_close(fields.warp((labels == 1).float()[None, None], u)[0], soft, atol=1e-5, rtol=0)
    assert torch.equal(fields.lands_inside(u, moving_shape), fields.warp(torch.ones(1, 1, *moving_shape), u).round())
    same([fields.compose(u, u), fields.integrate(u), *fields.invert(u)], [2 * u, u, -u, 0 * u[:, :1]])
    assert (fields.jacobian_determinant(fields.jacobian(u, ANISOTROPIC)) == 1).all()
    assert [v.item() for v in regularity.rigidity(u, soft, ANISOTROPIC)] == [0, 0]
    assert regularity.diffusion(u).item() == 0
    for start in (u, None):
        fit = rigid.closest_rigid(labels, soft, [1], ANISOTROPIC, start)
        same(
            [fit.translation[0] / torch.tensor(ANISOTROPIC), fit.rotation[0]], [torch.tensor(shift), torch.eye(3)], 2e-3
        )
        same(rigid.rigid_resample(labels, fit, [1], ANISOTROPIC, fixed_shape), soft, 5e-3)
        for warped in (soft, expected):
            assert rigid.rigid_dice(labels, warped, [1], ANISOTROPIC, fit=fit).item() == pytest.approx(1, abs=1e-5)
    kept = math.prod(b - a for a, b in zip(first, last, strict=True)) / (3 * 5 * 5)
    assert volume.volume_change_pct(labels, expected, [1]).item() == pytest.approx(100 * (kept - 1))


@pytest.mark.parametrize("n", [3, 9, 49, 128, 257])
def test_a_whole_voxel_shift_of_an_image_is_exact_to_rounding(n: int) -> None:
    """grid_sample measures positions in half axes, so a float32 position has an error of about 1e-7 axis."""
    image, u = torch.rand(1, 1, 1, 1, n), torch.zeros(1, 3, 1, 1, n)
    u[:, 2] = 2
    torch.testing.assert_close(fields.warp(image, u)[..., :-2], image[..., 2:], atol=2e-7 * n, rtol=0)
    assert (fields.warp(image, u)[..., -2:] == 0).all()
    assert torch.equal(fields.warp(image, u, "nearest")[..., :-2], image[..., 2:])


def test_label_0_and_another_grid_are_refused() -> None:
    """Label 0 would get the box of the last label; another grid would be read in the wrong order."""
    u, soft = torch.zeros(1, 3, *SHAPE), (LABEL == 1)[None].float()
    with pytest.raises(ValueError, match="ids: expected positive"):
        label_warping.warp_soft(LABEL, u, [0])
    for other in (u[..., 1:], u[..., 1:, :], u.expand(2, -1, -1, -1, -1)):
        with pytest.raises(ValueError, match="displacement: expected"):
            rigid.rigid_field(other, soft, UNIT)
        with pytest.raises(ValueError, match="true_displacement: expected"):
            rigid.pose_error(u, other, LABEL == 1, UNIT)
        with pytest.raises(ValueError, match="displacement: expected"):
            rigid.closest_rigid(LABEL, soft, [1], UNIT, other)
    with pytest.raises(ValueError, match="weights: expected grid"):
        regularity.rigidity(u[..., 1:], soft)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int16, torch.int64])
def test_every_label_type_warps_and_fits_alike(dtype: torch.dtype) -> None:
    labels, u = LABEL.to(dtype), bent_field(SHAPE, 0.5)
    warped = label_warping.warp_labels(labels, u, [1])
    assert warped.dtype == dtype and torch.equal(warped.int(), label_warping.warp_labels(LABEL, u, [1]))
    same(rigid.rigid_dice(labels, warped, [1], UNIT, u), rigid.rigid_dice(LABEL, warped.int(), [1], UNIT, u), 0)


def test_gradients_of_composition_inversion_labels_and_means() -> None:
    """Away from whole voxels and from the border, where linear interpolation has a kink."""
    u, v = ((0.3 + bent_field((3, 3, 4), a, torch.float64)).requires_grad_() for a in (0.15, -0.1))
    assert torch.autograd.gradcheck(fields.compose, (u, v))
    assert torch.autograd.gradcheck(lambda a: fields.invert(a, 2)[0], (u,))
    labels = box((4, 3, 5), (0, 0, 1), (2, 2, 3)) + box((4, 3, 5), (2, 1, 3), (4, 3, 5), 2)
    assert torch.autograd.gradcheck(lambda a: label_warping.warp_soft(labels, a, IDS), (u,))  # two labels, another grid
    weights = torch.rand(1, 2, 3, 3, 4, dtype=torch.float64).add(0.1).requires_grad_()
    assert torch.autograd.gradcheck(regularity.weighted_mean, (u[:, 0], weights))


def test_rigid_field_gradient_in_the_weights() -> None:
    """For a fixed fit the gradient of the weighted mean is (distance of the voxel - mean) / sum of the weights."""
    u = bent_field((3, 4, 3), 0.5, torch.float64)
    weights = (torch.rand(1, 3, 4, 3, dtype=torch.float64) + 0.1).requires_grad_()
    mean = rigid.rigid_field(u, weights, UNIT)
    p = torch.ones(3, 4, 3).nonzero().double()
    moved = p + u[0].flatten(1).T
    r, t = procrustes.fit_rigid(p, moved, weights.detach().flatten())
    expected = ((moved - p @ r.T - t).norm(dim=1) - mean.detach()) / weights.detach().sum()
    torch.testing.assert_close(torch.autograd.grad(mean.sum(), weights)[0].flatten(), expected)
