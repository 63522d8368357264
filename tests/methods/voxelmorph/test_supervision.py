"""The losses of items with known displacement: their values, and which parameters they train."""

from __future__ import annotations

import math

import pytest
import torch
from support.short_training import strong_network

from methods.voxelmorph.known_motion import KnownItem
from methods.voxelmorph.samples import Sample
from methods.voxelmorph.supervision import displacement_loss, reading_layer, reading_losses, supervised_loss

HALF = (8, 8, 8)


@pytest.fixture
def item() -> KnownItem:
    generator = torch.Generator().manual_seed(0)
    moving, fixed = (torch.rand(1, 1, 16, 16, 16, generator=generator) for _ in range(2))
    sample = Sample("a", moving, fixed, torch.zeros(16, 16, 16, dtype=torch.int32), (2.0, 2.0, 2.0), {})
    displacement = torch.zeros(1, 3, *HALF)
    displacement[:, 0], displacement[:, 2] = 3.0, 4.0
    reading, known = torch.ones(1, 14, *HALF), torch.ones(1, 14, *HALF)
    return KnownItem(sample, displacement, torch.ones(1, 1, *HALF), reading, known)


def test_the_displacements_loss_is_the_length_of_the_error_and_smooth_at_zero(item: KnownItem) -> None:
    assert displacement_loss(torch.zeros(1, 3, *HALF), item).item() == pytest.approx(math.hypot(5.0, 0.1))
    constant = item.displacement.clone().requires_grad_()  # a constant velocity moves by itself in the interior
    loss = displacement_loss(constant, item)
    assert loss.item() == pytest.approx(0.1, rel=1e-4)
    loss.backward()
    assert constant.grad is not None and constant.grad.isfinite().all()


def test_voxels_count_by_their_weight(item: KnownItem) -> None:
    item.weight[..., :4, :, :] = 0.25
    item.displacement[..., :4, :, :] = 0.0
    expected = (0.25 * 0.1 + math.hypot(5.0, 0.1)) / 1.25
    assert displacement_loss(torch.zeros(1, 3, *HALF), item).item() == pytest.approx(expected)


def test_reading_counts_only_channels_with_known_targets(item: KnownItem) -> None:
    read = torch.zeros(1, 14, *HALF)
    read[:, 13] = 1.0
    positions, bone = reading_losses(read, item)
    assert (positions.item(), bone.item()) == (1.0, 0.5)
    item.reading_weight[:, 7:] = 0.0
    positions, bone = reading_losses(read, item)
    assert (positions.item(), bone.item()) == (1.0, 1.0), "the MR is not counted"
    item.reading_weight[:, :6] = 0.0
    assert reading_losses(read, item)[0].item() == 0.0


def trained(item: KnownItem, reading: float, displacement: float, head_only: bool = False) -> set[str]:
    """The parts of the network whose gradient is not 0."""
    network, layer = strong_network(), reading_layer()
    loss = supervised_loss(network, layer, item, reading, displacement, "cpu", "fp32", head_only)
    loss.total.backward()
    parameters = {**dict(network.named_parameters()), **{f"layer.{k}": v for k, v in layer.named_parameters()}}
    return {k.split(".")[0] for k, v in parameters.items() if v.grad is not None and v.grad.abs().max() > 0}


def test_each_loss_trains_the_layers_that_it_uses(item: KnownItem) -> None:
    trunk = {"encoder", "decoder"}
    assert trained(item, 1.0, 0.0) == {*trunk, "layer"}
    assert trained(item, 0.0, 1.0) == {*trunk, "head", "velocity"}
    assert trained(item, 0.0, 1.0, head_only=True) == {"head", "velocity"}
    assert trained(item, 1.0, 1.0, head_only=True) == {*trunk, "layer", "head", "velocity"}


def test_the_total_has_both_weights_and_each_term_is_reported(item: KnownItem) -> None:
    network, layer = strong_network(), reading_layer()
    loss = supervised_loss(network, layer, item, 0.5, 2.0, "cpu", "fp32")
    assert set(loss.terms) == {"positions", "bone", "displacement"}
    expected = 0.5 * (loss.terms["positions"] + loss.terms["bone"]) + 2.0 * loss.terms["displacement"]
    assert loss.total.item() == pytest.approx(expected, rel=1e-5)
