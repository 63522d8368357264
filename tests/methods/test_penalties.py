"""The penalties of eq. 1, which the networks' training and the optimisation of single pairs share."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from methods import penalties
from methods.penalties import Warped
from methods.registry import PENALTIES
from metrics import _closest_rigid, boxes, label_warping, regularity
from metrics.rigid import closest_rigid

BLOCK = torch.zeros(24, 24, 24, dtype=torch.int32)
BLOCK[6:16, 6:16, 7:16] = 20


def rotation_field(degrees: float, size: int = 24) -> torch.Tensor:
    """The displacement of a rotation about the grid's centre, axis z."""
    angle = torch.tensor(degrees).deg2rad()
    z, y, x = torch.meshgrid(*[torch.arange(size) - (size - 1) / 2] * 3, indexing="ij")
    rotated = torch.stack([z, angle.cos() * y - angle.sin() * x, angle.sin() * y + angle.cos() * x])
    return (rotated - torch.stack([z, y, x]))[None]


def random_field() -> torch.Tensor:
    """Noise and a growth by a tenth, which changes volumes."""
    noise = torch.randn(1, 3, 24, 24, 24, generator=torch.Generator().manual_seed(0))
    return 0.5 * noise + 0.1 * (torch.stack(torch.meshgrid(*[torch.arange(24)] * 3, indexing="ij"))[None] - 11)


NAMES = ["pc", "oc", "rigid-dice", "rigid-field", "volume"]


@pytest.mark.parametrize("name", NAMES)
def test_a_penalty_is_zero_for_a_rigid_motion_and_decreases_along_its_gradient(name: str) -> None:
    penalty = PENALTIES[name].load()
    assert penalty(Warped(torch.ones(1, 3, 24, 24, 24), BLOCK, [20])).item() == pytest.approx(0, abs=1e-5)
    # Resampling changes the volume of a label slightly.
    assert penalty(Warped(rotation_field(8), BLOCK, [20])).item() == pytest.approx(0, abs=2e-3)
    field = random_field().requires_grad_()
    value = penalty(Warped(field, BLOCK, [20]))
    (gradient,) = torch.autograd.grad(value, field)
    assert value > 0.005
    step = 0.02 * gradient / gradient.abs().max()
    assert penalty(Warped(field - step, BLOCK, [20])) < value, "minimising the penalty makes the field more rigid"


@pytest.mark.parametrize("name", NAMES[:-1])  # without a label the volume loss is 1
def test_a_vertebra_outside_the_view_is_not_penalised(name: str) -> None:
    outside = torch.full((1, 3, 24, 24, 24), 40.0, requires_grad=True)
    assert PENALTIES[name].load()(Warped(outside, BLOCK, [20])).item() == 0


def test_rigid_dice_excludes_vertebrae_under_100_mm3() -> None:
    labels = BLOCK.clone()
    labels[18:22, 18:22, 18:23] = 21  # 80 voxels
    penalty = PENALTIES["rigid-dice"].load()
    alone, both = (penalty(Warped(random_field(), labels, ids)) for ids in ([20], [20, 21]))
    assert both == alone and penalty(Warped(random_field(), labels, [21])) == 0
    assert penalty(Warped(random_field(), labels, [21], (2.0, 2.0, 2.0))) > 0, "the limit is in mm3, not in voxels"


def test_rigid_dice_does_not_differentiate_the_transform() -> None:
    """The gradient is that of the Dice with a constant rigid label."""
    field = random_field().requires_grad_()
    warped = Warped(field, BLOCK, [20])
    (gradient,) = torch.autograd.grad(PENALTIES["rigid-dice"].load()(warped), field, retain_graph=True)
    fit = closest_rigid(BLOCK, warped.warped_soft.detach(), [20], (1.0, 1.0, 1.0), field.detach())
    rigid = penalties.rigid_dice(BLOCK, warped.warped_soft, [20], (1.0, 1.0, 1.0), fit=fit)
    (expected,) = torch.autograd.grad(1 - rigid.mean(), field)
    torch.testing.assert_close(gradient, expected)


def test_rigid_field_is_a_length_in_millimetres() -> None:
    penalty = PENALTIES["rigid-field"].load()
    one, two = (penalty(Warped(random_field(), BLOCK, [20], (s, s, s))).item() for s in (1.0, 2.0))
    assert two == pytest.approx(2 * one, rel=1e-4) and 0.3 < one < 2


def test_the_penalties_of_a_step_compute_each_box_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    for name in ("label_boxes", "bounding_box"):
        original = getattr(boxes, name)

        def counting(*arguments: object, original: Callable = original, name: str = name) -> object:
            calls.append(name)
            return original(*arguments)

        for module in (boxes, penalties, label_warping, regularity, _closest_rigid):
            monkeypatch.setattr(module, name, counting, raising=False)
    warped = Warped(random_field(), BLOCK, [20])
    for name in NAMES:
        PENALTIES[name].load()(warped)
    assert sorted(calls) == ["bounding_box", "label_boxes"]


@pytest.mark.parametrize("name", ["pc", "oc", "rigid-field"])
def test_labels_of_an_earlier_iteration_weigh_the_penalties_of_the_field(name: str) -> None:
    penalty, before = PENALTIES[name].load(), Warped(torch.zeros(1, 3, 24, 24, 24), BLOCK, [20])
    field = random_field()
    again = penalty(Warped(field, BLOCK, [20], earlier=Warped(field, BLOCK, [20])))
    assert again == penalty(Warped(field, BLOCK, [20]))
    assert penalty(Warped(field, BLOCK, [20], earlier=before)) != again


def test_without_squares_the_rigid_dice_loss_is_the_released_codes() -> None:
    """An exactly rigid motion does not minimise it: a voxel of 0.5 matches itself by half."""
    u, loss = torch.full((1, 3, 24, 24, 24), 0.5), PENALTIES["rigid-dice"].load()
    assert loss(Warped(u, BLOCK, [20])).item() == pytest.approx(0, abs=1e-4)
    soft = label_warping.warp_soft(BLOCK, u, [20])
    expected = 1 - (soft.square().sum() / soft.sum()).item()
    assert expected > 0.05
    assert loss(Warped(u, BLOCK, [20], squares=False)).item() == pytest.approx(expected, abs=1e-3)
