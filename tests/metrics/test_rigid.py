"""metrics/rigid.py: rigid motions that are known, scipy as the referee, what is missing, the gradients."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from checks.closest_rigid import TARGET, Pairs, compare, real
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from support.hand_built import ANISOTROPIC, UNIT, affine_field, bent_field, box, rotation, vertebra

from metrics._closest_rigid import Vertebrae, both_boxes
from metrics._trilinear import Cells
from metrics.fields import warp, warp_labels, warp_soft
from metrics.overlap import dice, soft_dice
from metrics.rigid import RigidFit, closest_rigid, fit_rigid, pose_error, rigid_dice, rigid_field, rigid_resample

SHAPE = {UNIT: (39, 45, 49), ANISOTROPIC: (19, 45, 55)}
SPACINGS = pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC], ids=["isotropic", "anisotropic"])


def degrees_between(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.degrees(Rotation.from_matrix((a.double() @ b.double().mT).numpy()).magnitude()))


def known_transform(
    matrix: torch.Tensor, shift_mm: tuple[float, ...], spacing: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rotation and translation about voxel 0 of `affine_field`."""
    centre = (torch.tensor(SHAPE[spacing]).double() - 1) / 2 * torch.tensor(spacing, dtype=torch.float64)
    return matrix, centre - matrix @ centre + torch.tensor(shift_mm, dtype=torch.float64)


# --- fit_rigid


def test_fit_against_scipy() -> None:
    generator = np.random.default_rng(0)
    source, target = generator.normal(size=(20, 3)), generator.normal(size=(20, 3))
    weights = generator.uniform(size=20)
    r, t = fit_rigid(*(torch.from_numpy(v) for v in (source, target, weights)))
    middle = [np.average(v, axis=0, weights=weights) for v in (source, target)]
    reference, _ = Rotation.align_vectors(target - middle[1], source - middle[0], weights=weights)
    np.testing.assert_allclose(r, reference.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(t, middle[1] - reference.as_matrix() @ middle[0], atol=1e-12)


def test_fit_recovers_a_batch_of_motions_and_never_reflects() -> None:
    source = torch.randn(4, 30, 3, dtype=torch.float64)
    turns = torch.stack([rotation((40 * k, -20, 60)) for k in range(4)])
    shifts = torch.randn(4, 3, dtype=torch.float64)
    r, t = fit_rigid(source, source @ turns.mT + shifts[:, None])
    torch.testing.assert_close(r, turns)
    torch.testing.assert_close(t, shifts)
    mirrored = source * torch.tensor([-1.0, 1.0, 1.0])
    torch.testing.assert_close(torch.linalg.det(fit_rigid(source, mirrored)[0]), torch.ones(4, dtype=torch.float64))


def test_fit_of_one_point_or_a_line_turns_no_more_than_it_must() -> None:
    r, t = fit_rigid(torch.tensor([[1.0, 2, 3]]), torch.tensor([[2.0, 2, 5]]))
    torch.testing.assert_close(r, torch.eye(3))
    torch.testing.assert_close(t, torch.tensor([1.0, 0, 2]))
    line = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None] * torch.tensor([0.0, 0, 1])
    turn = rotation((30, 0, 0))
    torch.testing.assert_close(fit_rigid(line, line @ turn.mT)[0], turn, atol=1e-6, rtol=0)


def test_fit_without_weight_or_with_nan_is_nan_for_that_item_alone() -> None:
    source = torch.randn(3, 5, 3)
    target, weights = source.clone(), torch.ones(3, 5)
    target[0, 0, 0], weights[1] = torch.nan, 0
    r, t = fit_rigid(source, target, weights)
    assert r.isnan().flatten(1).all(1).tolist() == t.isnan().all(1).tolist() == [True, True, False]


def test_fit_gradient_also_where_singular_values_agree() -> None:
    cube = torch.tensor([[z, y, x] for z in (-1, 1) for y in (-1, 1) for x in (-1, 1)], dtype=torch.float64)
    target = (cube @ rotation((10, 20, 30)).mT + 1).requires_grad_()
    weights = torch.ones(8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(fit_rigid, (cube.requires_grad_(), target, weights))
    source, other = (torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True) for _ in range(2))
    assert torch.autograd.gradcheck(fit_rigid, (source, other))


# --- closest_rigid, rigid_resample, rigid_dice


@SPACINGS
@pytest.mark.parametrize("hard", [False, True], ids=["soft", "hard"])
def test_a_rigid_motion_is_recovered(spacing: tuple[float, ...], hard: bool) -> None:
    labels = vertebra(SHAPE[spacing], spacing)
    matrix, shift = rotation((8, -5, 6)), (1.5, -2.0, 0.7)
    u = affine_field(matrix, shift, labels.shape, spacing)
    warped = warp_labels(labels, u, [20]) if hard else warp_soft(labels, u, [20])
    for displacement in (u, None):
        fit = closest_rigid(labels, warped, [20], spacing, displacement)
        true_rotation, true_translation = known_transform(matrix, shift, spacing)
        middle = (torch.tensor(SHAPE[spacing]).double() - 1) / 2 * torch.tensor(spacing).double()
        found = fit.rotation[0].double() @ middle + fit.translation[0].double()
        assert fit.converged.all()
        # A hard label has lost up to half a voxel, so that eq. 2 itself has its minimum a little off the truth.
        truth = RigidFit(true_rotation[None].float(), true_translation[None].float(), fit.residual, fit.converged)
        target = (warped == 20).float() if hard else warped[0]
        at_truth = (rigid_resample(labels, truth, [20], spacing)[0] - target).square().sum()
        assert fit.residual.item() <= at_truth.item() + 1e-3
        assert degrees_between(fit.rotation[0], true_rotation) < (3 if hard else 0.05)
        assert (found - true_rotation @ middle - true_translation).norm() < (0.2 if hard else 0.01)
        assert rigid_dice(labels, warped, [20], spacing, fit=fit).item() > (0.98 if hard else 0.9999)
        assert rigid_dice(labels, warped, [20], spacing, fit=truth).item() > 0.9999


@SPACINGS
@pytest.mark.parametrize("amplitude", [0.5, 1.0, 2.0])
def test_it_is_no_worse_than_adam_from_the_same_start(spacing: tuple[float, ...], amplitude: float) -> None:
    """The paper's way to solve eq. 2 [1]: 50 Adam steps. `make closest-rigid` has 200 pairs more."""
    labels = vertebra(SHAPE[spacing], spacing)
    u = bent_field(labels.shape, amplitude)
    for warped in (warp_soft(labels, u, [20]), warp_labels(labels, u, [20])):
        ((_, ours, adam, converged),) = compare(Pairs("bent", labels, warped, [20], spacing, u))
        assert converged and ours <= TARGET * adam


def test_it_is_no_worse_than_adam_on_real_masks(shared_data: Path) -> None:
    for pairs in islice(real(shared_data), 8, None, 5):  # the small ones, soft and hard
        for name, ours, adam, converged in compare(pairs):
            assert converged and ours <= TARGET * adam, name


@pytest.mark.parametrize("island", [False, True])
def test_residual_and_dice_are_those_of_the_whole_grid(island: bool) -> None:
    """Also of what no small motion can reach: an island of 4 x 3 x 5 voxels far from the label adds 60."""
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


@pytest.mark.parametrize("seed", [0, 1, 8])
def test_far_from_rigid_a_second_start_finds_less(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random fields of 5 voxels on a block: the look at few voxels leads to a worse minimum."""
    labels = box(SHAPE[UNIT], (6, 6, 6), (33, 39, 43))
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    u = torch.nn.functional.interpolate(5 * noise, size=SHAPE[UNIT], mode="trilinear", align_corners=True)
    soft = warp_soft(labels, u, [1])
    both = closest_rigid(labels, soft, [1], UNIT, u).residual.item()
    monkeypatch.setattr("metrics._closest_rigid._MUCH", float("inf"))
    assert both < 0.98 * closest_rigid(labels, soft, [1], UNIT, u).residual.item()


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

    Eq. 2 is least half a voxel off, where the copy's outer voxels are worth a half. Whether they count is a matter of
    the last digit, which differs between processors: the copy has `before` voxels along an axis, or one less.
    """
    moving, fixed = (box((32, 32, 32), (16 - n // 2,) * 3, (16 + n // 2,) * 3) for n in (before, after))
    sides = ((before - 1) ** 3, before**3)
    low, high = sorted(2 * min(copy, after**3) / (copy + after**3) for copy in sides)
    assert low - 0.001 < rigid_dice(moving, fixed, [1], UNIT).item() < high + 0.001


def test_without_a_field_a_turned_label_is_found_from_its_centroid() -> None:
    """14 degrees: the ceiling of a table row, fixed label against moving label."""
    labels = vertebra(SHAPE[UNIT])
    fixed = warp_labels(labels, affine_field(rotation((14, 0, 0)), (3, -2, 1), labels.shape), [20])
    assert rigid_dice(labels, fixed, [20], UNIT).item() > 0.99


def test_what_is_missing_is_nan_and_not_converged() -> None:
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


def test_one_voxel_is_rigid() -> None:
    labels = box((7, 7, 7), (3, 3, 3), (4, 4, 4))
    assert rigid_dice(labels, labels.roll(1, 2), [1], UNIT).tolist() == [1.0]


def test_it_says_when_it_did_not_converge() -> None:
    labels = vertebra(SHAPE[UNIT])
    u = bent_field(labels.shape)
    assert not closest_rigid(labels, warp_soft(labels, u, [20]), [20], UNIT, u, iterations=1).converged.any()


@SPACINGS
def test_the_solver_is_of_second_order(spacing: tuple[float, ...]) -> None:
    """Where nothing is left over, Gauss-Newton is Newton: a few steps suffice, given the exact derivative."""
    labels = vertebra(SHAPE[spacing], spacing)
    soft = warp_soft(labels, affine_field(rotation((8, -5, 6)), (1.5, -2.0, 0.7), labels.shape, spacing), [20])
    fit = closest_rigid(labels, soft, [20], spacing, iterations=5)
    assert fit.converged.all() and fit.residual.item() < 1e-4


# Without shrinking, which takes minutes here and tells little: any rigid motion is as plain as another.
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
    # A hard label this small costs more than a real one's: half a voxel off, at worst, it loses a whole layer.
    assert rigid_dice(labels, warp_labels(labels, u, [20]), [20], spacing, u).item() > 0.93


def test_rigid_dice_gradient() -> None:
    """Through the warped label alone: the transform is held fixed, as `fit` makes it."""
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
def test_a_cell_is_its_linear_interpolant_with_its_derivative(spacing: tuple[float, ...]) -> None:
    labels = (torch.rand(2, 3, 4, 5) > 0.5).double()
    s = torch.tensor(spacing, dtype=torch.float64)
    origin = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    cells = Cells(labels, origin, s)
    voxels = (torch.rand(2, 3, 400, dtype=torch.float64) * 12 - 3).requires_grad_()
    points = (voxels.detach() + origin[..., None]) * s[:, None]
    value, slope = cells.sample(cells.voxels(points))
    grid = torch.zeros(1, 3, 1, 1, 400, dtype=torch.float64)
    grid[0, 2] = torch.arange(400.0)
    padded = torch.nn.functional.pad(labels, (2,) * 6)[:, None]
    reference = warp(padded, voxels[:, :, None, None] + 2 - grid)[:, 0, 0, 0]
    torch.testing.assert_close(value, reference.detach())
    (derivative,) = torch.autograd.grad(reference.sum(), voxels)
    torch.testing.assert_close(slope, derivative)
    # What cannot change within a voxel's motion is what it says it is.
    mixed, full = cells.state(cells.voxels(points))
    for shift in (-1, 0, 1):
        moved, _ = cells.sample(cells.voxels(points + 0.99 * shift * s[:, None]))
        torch.testing.assert_close(moved[~mixed], full[~mixed].double())


def test_a_label_of_which_the_fixed_grid_shows_only_the_hollow_has_a_fit() -> None:
    """Nowhere in the fixed grid can a small motion change anything: any transform is as close."""
    labels = torch.zeros(1, 1, 21, dtype=torch.int32)
    labels[..., [0, -1]] = 20
    fit = closest_rigid(labels, torch.tensor([[[0, 20, 0]]], dtype=torch.int32), [20], UNIT)
    assert fit.residual.item() == 1 and bool(fit.converged)


# --- rigid_field


@SPACINGS
def test_rigid_field_of_a_rigid_motion_is_zero(spacing: tuple[float, ...]) -> None:
    labels = vertebra(SHAPE[spacing], spacing)
    u = affine_field(rotation((12, -9, 20)), (4, 1, -2), labels.shape, spacing, torch.float64).requires_grad_()
    found = rigid_field(u, (labels == 20)[None].double(), spacing)
    assert found.item() < 1e-10
    found.sum().backward()
    assert u.grad is not None and u.grad.isfinite().all()  # the length has no NaN gradient at 0


def test_rigid_field_by_hand() -> None:
    """Two voxels 4 x 2.5 mm apart along z, drawn together by a voxel each: the rigid fit stays, 2.5 mm are left."""
    weights, u = torch.zeros(1, 7, 3, 3), torch.zeros(1, 3, 7, 3, 3)
    weights[0, 1, 1, 1] = weights[0, 5, 1, 1] = 1
    u[0, 0, 1, 1, 1], u[0, 0, 5, 1, 1] = 1.0, -1.0
    assert rigid_field(u, weights, ANISOTROPIC).item() == pytest.approx(2.5)
    u[0, 0, 3, 1, 1] = torch.nan  # outside the label: no matter
    assert rigid_field(u, weights, ANISOTROPIC).item() == pytest.approx(2.5)


def test_rigid_field_of_what_is_missing_is_nan() -> None:
    weights = torch.ones(3, 4, 4, 4)
    weights[1], weights[2, :, :, :2] = 0, 0
    u = torch.zeros(1, 3, 4, 4, 4)
    u[0, 0, 0, 0, 0] = torch.nan
    assert rigid_field(u, weights, UNIT).isnan().tolist() == [True, True, False]
    assert rigid_field(u, weights[1:2], UNIT).isnan().all()


def test_rigid_field_gradient() -> None:
    """With the fit held fixed the gradient is that of the distance to it, which finite differences cannot tell."""
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


# --- pose_error


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


def test_pose_error_where_nothing_is_known_is_nan() -> None:
    u = torch.zeros(1, 3, 4, 4, 4)
    assert all(v.isnan() for v in pose_error(u, u, torch.zeros(4, 4, 4, dtype=torch.bool), UNIT))
    assert all(v.isnan() for v in pose_error(u * torch.nan, u, torch.ones(4, 4, 4, dtype=torch.bool), UNIT))


def test_a_fit_is_a_plain_record() -> None:
    labels = box((8, 8, 8), (2, 2, 2), (6, 5, 6))
    fit = RigidFit(torch.eye(3)[None], torch.tensor([[0.0, 1, 0]]), torch.zeros(1), torch.ones(1, dtype=torch.bool))
    moved = rigid_resample(labels, fit, [1], UNIT)  # s(x + 1 along y): the label moves to y - 1
    torch.testing.assert_close(moved[0], (labels.roll(-1, 1) == 1).float())
    assert rigid_resample(labels, fit, [1], UNIT, (4, 5, 6)).shape == (1, 4, 5, 6)


def test_the_quick_fit_of_a_training_loss_is_as_close_as_the_thorough_one() -> None:
    labels = torch.zeros(24, 24, 24, dtype=torch.int32)
    labels[6:16, 6:16, 7:16] = 20
    noise = torch.randn(1, 3, 6, 6, 6, generator=torch.Generator().manual_seed(0))
    for size in (0.2, 0.7, 1.5):
        u = size * torch.nn.functional.interpolate(noise, size=(24, 24, 24), mode="trilinear")
        soft = warp_soft(labels, u, [20])
        fits = [closest_rigid(labels, soft, [20], (1.0, 1.0, 1.0), u, thorough=t) for t in (True, False)]
        dices = [rigid_dice(labels, soft, [20], (1.0, 1.0, 1.0), fit=fit).item() for fit in fits]
        assert dices[1] == pytest.approx(dices[0], abs=1e-3)


@pytest.mark.parametrize("stride", [1, 3])
def test_eq_2_can_be_solved_from_any_transform_without_asking_for_the_starts_first(stride: int) -> None:
    labels = torch.zeros(24, 26, 28, dtype=torch.int32)
    labels[8:16, 7:18, 9:19] = 1
    warped = labels.roll(2, 0)
    found = both_boxes(labels, warped, [1])
    turn, shift = torch.eye(3)[None], torch.tensor([[-1.0, 0.0, 0.0]])
    fresh, asked = (Vertebrae(labels, warped, [1], UNIT, found, stride=stride) for _ in range(2))
    asked.starts(None)
    one, other = (v.solve(*v.approach(turn[None], shift[None], 10), 40) for v in (fresh, asked))
    torch.testing.assert_close(one.translation, other.translation, rtol=0, atol=0)
    torch.testing.assert_close(one.translation, torch.tensor([[-2.0, 0.0, 0.0]]), atol=1e-2, rtol=0)
