"""Muon: orthogonal steps of a known size for weights, Adam's steps for all other parameters."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from methods.voxelmorph.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(16, 40), (40, 16), (24, 24)])
def test_orthogonalised_keeps_singular_vectors_and_leads_singular_values_to_one(shape: tuple[int, int]) -> None:
    torch.manual_seed(0)
    u, _, v = torch.linalg.svd(torch.randn(shape), full_matrices=False)
    values = torch.linspace(1.0, 0.1, min(shape))
    result = u.mT @ orthogonalised(u @ values.diag() @ v) @ v.mT
    diagonal = result.diagonal()
    assert diagonal.min() > 0.6 and diagonal.max() < 1.3
    assert (result - diagonal.diag()).abs().max() < 1e-4


def test_a_step_does_not_depend_on_the_size_of_the_gradient() -> None:
    gradient = torch.randn(8, 4, 3, 3, 3, generator=torch.Generator().manual_seed(0))
    steps = []
    for scale in (1.0, 1e-4):
        weight = nn.Parameter(torch.zeros(8, 4, 3, 3, 3))
        weight.grad = scale * gradient
        Muon([weight], [], lr=0.01).step()
        steps.append(weight.detach())
    torch.testing.assert_close(steps[0], steps[1], rtol=0.02, atol=1e-5)
    assert steps[0].square().mean().sqrt() == pytest.approx(0.01 * 0.2, rel=0.3)
    assert (steps[0] * gradient).sum() < 0


def test_other_parameters_have_adams_steps() -> None:
    ours, reference = (nn.Parameter(torch.ones(5)) for _ in range(2))
    muon, adam = Muon([], [ours], lr=0.1), torch.optim.Adam([reference], lr=0.1, betas=(0.9, 0.99))
    for seed in range(4):
        gradient = torch.randn(5, generator=torch.Generator().manual_seed(seed))
        ours.grad, reference.grad = gradient.clone(), gradient.clone()
        muon.step()
        adam.step()
    torch.testing.assert_close(ours, reference)


def test_parameters_without_gradient_stay() -> None:
    weight, bias = nn.Parameter(torch.ones(4, 4)), nn.Parameter(torch.ones(4))
    Muon([weight], [bias], lr=0.1).step()
    assert torch.equal(weight, torch.ones(4, 4)) and torch.equal(bias, torch.ones(4))


def test_a_closure_is_refused() -> None:
    with pytest.raises(ValueError, match="closure: expected None, got a function"):
        Muon([], [nn.Parameter(torch.ones(1))], lr=0.1).step(lambda: 0.0)


def test_an_optimiser_that_is_saved_and_loaded_continues_with_the_same_bits() -> None:
    def steps(optimiser: Muon, seeds: range) -> None:
        for seed in seeds:
            for i, group in enumerate(optimiser.param_groups):
                for parameter in group["params"]:
                    generator = torch.Generator().manual_seed(10 * seed + i)
                    parameter.grad = torch.randn(parameter.shape, generator=generator)
            optimiser.step()

    def parameters() -> tuple[nn.Parameter, nn.Parameter]:
        return nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(4))

    weight, bias = parameters()
    whole = Muon([weight], [bias], lr=0.1)
    steps(whole, range(3))
    saved = copy.deepcopy(whole.state_dict())
    other_weight, other_bias = (nn.Parameter(p.detach().clone()) for p in (weight, bias))
    steps(whole, range(3, 6))
    resumed = Muon([other_weight], [other_bias], lr=0.1)
    resumed.load_state_dict(saved)
    steps(resumed, range(3, 6))
    assert torch.equal(weight, other_weight) and torch.equal(bias, other_bias)
