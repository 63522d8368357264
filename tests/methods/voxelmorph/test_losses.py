"""The training loss and its similarities."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch

from methods import penalties
from methods.voxelmorph import losses
from methods.voxelmorph.losses import training_loss
from methods.voxelmorph.samples import make_sample
from metrics.similarity import mind_loss

BLOCK = torch.zeros(24, 24, 24, dtype=torch.int32)
BLOCK[6:16, 6:16, 7:16] = 20
NAMES = ["pc", "oc", "rigid-dice", "rigid-field", "volume"]


def test_the_loss_of_a_fixed_input_keeps_its_values() -> None:
    """Values of commit 5f07508, so that moving code changes no training. Another processor may round differently."""
    generator = torch.Generator().manual_seed(3)
    moving, fixed = torch.rand(2, 1, 1, 24, 24, 24, generator=generator).unbind()
    velocity = (0.4 * torch.randn(1, 3, 12, 12, 12, generator=generator)).requires_grad_()
    labels = torch.zeros(24, 24, 24, dtype=torch.int32)
    labels[4:12, 5:15, 6:16], labels[13:21, 5:15, 6:17] = 20, 21
    weights = {"pc": 2.0, "oc": 1.0, "rigid-dice": 1.0, "rigid-field": 0.03, "volume": 3.0}
    loss = training_loss(velocity, moving, fixed, labels, [20, 21], 0.3, weights, (1.0, 1.2, 0.9))
    expected = {
        "similarity": 0.27422225, "smoothness": 0.6235034, "pc": 0.076205559, "oc": 0.66694712,
        "rigid-dice": 0.022566646, "rigid-field": 0.48338127, "volume": 0.00015241327,
    }  # fmt: skip
    assert loss.terms == pytest.approx(expected, rel=1e-5)
    (gradient,) = torch.autograd.grad(loss.total, velocity)
    assert gradient.double().abs().sum().item() == pytest.approx(5.7829285, rel=1e-5)


def test_the_old_import_of_warped_still_works() -> None:
    assert losses.Warped is penalties.Warped


@pytest.mark.parametrize("name", [*NAMES, "my-penalty"])
def test_a_penalty_is_added_with_its_weight(name: str, learner: ModuleType) -> None:
    sample = make_sample(learner.block_case(0).pair, 1)
    velocity = 0.3 * torch.randn(1, 3, 16, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = training_loss(velocity, sample.moving, sample.fixed, sample.labels, [20], 0.1, {})
    penalised = training_loss(velocity, sample.moving, sample.fixed, sample.labels, [20], 0.1, {name: 0.5})
    assert penalised.total.item() == pytest.approx(plain.total.item() + 0.5 * penalised.terms[name], rel=1e-5)
    assert penalised.terms[name] > 0


@pytest.mark.parametrize("similarity", ["mind", "nmi", "ngf"])
def test_every_similarity_is_best_for_the_true_motion(similarity: str, learner: ModuleType) -> None:
    sample = make_sample(learner.block_case(0).pair, 1)
    values = []
    for shift in (-1.0, 0.0, 1.0):  # velocity in voxels of the half resolution; the truth is 1, 2 voxels along x
        velocity = torch.zeros(1, 3, 16, 16, 16)
        velocity[:, 2] = shift
        loss = training_loss(velocity, sample.moving, sample.fixed, sample.labels, [], 0, {}, similarity=similarity)
        values.append(loss.terms["similarity"])
    assert values[2] < values[1] < values[0]
    with pytest.raises(ValueError, match="expected mind, nmi or ngf, got 'mi'"):
        training_loss(velocity, sample.moving, sample.fixed, sample.labels, [], 0, {}, similarity="mi")


def test_the_similarity_compares_voxels_that_both_scans_saw() -> None:
    """Without motion the mask is that of both scans, in both directions."""
    moving, fixed = torch.rand(2, 1, 1, 24, 24, 24, generator=torch.Generator().manual_seed(0)).unbind()
    moving_inside, fixed_inside = torch.ones(2, 1, 1, 24, 24, 24, dtype=torch.bool).unbind()
    moving_inside[..., :8], fixed_inside[:, :, 14:] = False, False
    velocity, both = torch.zeros(1, 3, 12, 12, 12), (moving_inside & fixed_inside).float()
    terms = training_loss(
        velocity, moving, fixed, BLOCK, [20], 1.0, {}, moving_inside=moving_inside, fixed_inside=fixed_inside
    ).terms
    expected = mind_loss(moving, fixed, both) + mind_loss(fixed, moving, both)
    assert terms["similarity"] == pytest.approx(expected.item(), rel=1e-5)
    assert terms["similarity"] != pytest.approx(
        training_loss(velocity, moving, fixed, BLOCK, [20], 1.0, {}).terms["similarity"]
    )
