"""metrics/_closest_rigid.py, by `metrics.rigid.closest_rigid`: known motions, comparisons with Adam, starts, steps."""

from __future__ import annotations

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from checks.closest_rigid import TARGET, Pairs, compare, real
from scipy.spatial.transform import Rotation
from support.hand_built import ANISOTROPIC, SPACINGS, UNIT, affine_field, bent_field, box, rotation, vertebra

from metrics import _levenberg_marquardt
from metrics._closest_rigid import Vertebrae, both_boxes
from metrics.label_warping import warp_labels, warp_soft
from metrics.rigid import RigidFit, closest_rigid, rigid_dice, rigid_resample

SHAPE = {UNIT: (39, 45, 49), ANISOTROPIC: (19, 45, 55)}


def degrees_between(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(np.degrees(Rotation.from_matrix((a.double() @ b.double().mT).numpy()).magnitude()))


def known_transform(
    matrix: torch.Tensor, shift_mm: tuple[float, ...], spacing: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The rotation and translation about voxel 0 of `affine_field`."""
    centre = (torch.tensor(SHAPE[spacing]).double() - 1) / 2 * torch.tensor(spacing, dtype=torch.float64)
    return matrix, centre - matrix @ centre + torch.tensor(shift_mm, dtype=torch.float64)


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
        # Rounding to a hard label moves its surface by up to half a voxel, and the minimum of eq. 2 with it.
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
def test_the_residual_is_no_higher_than_that_of_adam(spacing: tuple[float, ...], amplitude: float) -> None:
    """Adam takes 50 steps from the same start, as in the paper. `make closest-rigid` compares 200 more pairs."""
    labels = vertebra(SHAPE[spacing], spacing)
    u = bent_field(labels.shape, amplitude)
    for warped in (warp_soft(labels, u, [20]), warp_labels(labels, u, [20])):
        ((_, ours, adam, converged),) = compare(Pairs("bent", labels, warped, [20], spacing, u))
        assert converged and ours <= TARGET * adam


def test_the_residual_is_no_higher_than_that_of_adam_on_real_masks(shared_data: Path) -> None:
    for pairs in islice(real(shared_data), 8, None, 5):  # the small masks, soft and hard
        for name, ours, adam, converged in compare(pairs):
            assert converged and ours <= TARGET * adam, name


@pytest.mark.parametrize("seed", [0, 1, 8])
def test_a_second_start_lowers_the_residual_far_from_rigid(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Random fields of 5 voxels on a block: the first steps, on few voxels, lead to a worse minimum."""
    labels = box(SHAPE[UNIT], (6, 6, 6), (33, 39, 43))
    noise = torch.randn(1, 3, 4, 4, 4, generator=torch.Generator().manual_seed(seed))
    u = torch.nn.functional.interpolate(5 * noise, size=SHAPE[UNIT], mode="trilinear", align_corners=True)
    soft = warp_soft(labels, u, [1])
    both = closest_rigid(labels, soft, [1], UNIT, u).residual.item()
    monkeypatch.setattr("metrics._closest_rigid._LARGE_RESIDUAL", float("inf"))
    assert both < 0.98 * closest_rigid(labels, soft, [1], UNIT, u).residual.item()


def test_a_far_start_lowers_the_residual_of_a_large_label(monkeypatch: pytest.MonkeyPatch) -> None:
    """On this field both starts of the field's rigid fit end in a minimum that is 0.8 % higher than another one."""
    labels = box(SHAPE[UNIT], (6, 6, 6), (33, 39, 43))
    noise = torch.randn(1, 3, 5, 5, 5, generator=torch.Generator().manual_seed(2))
    u = torch.nn.functional.interpolate(4 * noise, size=SHAPE[UNIT], mode="trilinear", align_corners=True)
    soft = warp_soft(labels, u, [1])
    found = closest_rigid(labels, soft, [1], UNIT, u).residual.item()
    monkeypatch.setattr("metrics._closest_rigid._CANDIDATES", 0)
    assert found < 0.995 * closest_rigid(labels, soft, [1], UNIT, u).residual.item()


def test_a_rotated_label_is_found_without_a_field() -> None:
    """The rotation is 14 degrees. The rigid fit before a registration is computed in this way, without a field."""
    labels = vertebra(SHAPE[UNIT])
    fixed = warp_labels(labels, affine_field(rotation((14, 0, 0)), (3, -2, 1), labels.shape), [20])
    assert rigid_dice(labels, fixed, [20], UNIT).item() > 0.99


def test_too_few_iterations_are_reported_as_not_converged() -> None:
    labels = vertebra(SHAPE[UNIT])
    u = bent_field(labels.shape)
    assert not closest_rigid(labels, warp_soft(labels, u, [20]), [20], UNIT, u, iterations=1).converged.any()


@SPACINGS
def test_five_iterations_suffice_for_an_exact_rigid_motion(spacing: tuple[float, ...]) -> None:
    """For residual 0 the Gauss-Newton step is the Newton step, if the derivative is exact."""
    labels = vertebra(SHAPE[spacing], spacing)
    soft = warp_soft(labels, affine_field(rotation((8, -5, 6)), (1.5, -2.0, 0.7), labels.shape, spacing), [20])
    fit = closest_rigid(labels, soft, [20], spacing, iterations=5)
    assert fit.converged.all() and fit.residual.item() < 1e-4


def test_a_label_with_only_its_cavity_in_the_fixed_grid_has_a_fit() -> None:
    """No small motion changes the residual: every transform is a minimum."""
    labels = torch.zeros(1, 1, 21, dtype=torch.int32)
    labels[..., [0, -1]] = 20
    fit = closest_rigid(labels, torch.tensor([[[0, 20, 0]]], dtype=torch.int32), [20], UNIT)
    assert fit.residual.item() == 1 and bool(fit.converged)


def test_the_quick_fit_is_as_close_as_the_thorough_one() -> None:
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
def test_eq_2_is_solved_from_any_transform(stride: int) -> None:
    labels = torch.zeros(24, 26, 28, dtype=torch.int32)
    labels[8:16, 7:18, 9:19] = 1
    warped = labels.roll(2, 0)
    known = both_boxes(labels, warped, [1])
    turn, shift = torch.eye(3)[None], torch.tensor([[-1.0, 0.0, 0.0]])
    fresh, with_starts = (Vertebrae(labels, warped, [1], UNIT, known, stride=stride) for _ in range(2))
    with_starts.starts(None)
    one, other = (v.solve(*v.approach(turn[None], shift[None], 10), 40) for v in (fresh, with_starts))
    torch.testing.assert_close(one.translation, other.translation, rtol=0, atol=0)
    torch.testing.assert_close(one.translation, torch.tensor([[-2.0, 0.0, 0.0]]), atol=1e-2, rtol=0)


@pytest.mark.parametrize("slab", [1, 700])
def test_the_size_of_slabs_changes_no_bit(slab: int, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = torch.zeros(12, 16, 14, dtype=torch.int32)
    labels[3:9, 4:12, 3:8] = 1
    labels[6:9, 5:8, 8:12] = 1
    z, y, x = torch.meshgrid(*(torch.linspace(0, 3, n) for n in labels.shape), indexing="ij")
    field = torch.stack([0.6 * y.sin(), 0.8 * z.cos(), 0.9 * (x + z).sin()])[None]
    warped = warp_soft(labels, field, [1])
    whole = closest_rigid(labels, warped, [1], (2.0, 0.9, 1.1), field)
    monkeypatch.setattr(_levenberg_marquardt, "SLAB", slab)
    parts = closest_rigid(labels, warped, [1], (2.0, 0.9, 1.1), field)
    assert torch.equal(whole.rotation, parts.rotation) and torch.equal(whole.translation, parts.translation)
    assert torch.equal(whole.residual, parts.residual)
