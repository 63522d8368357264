"""metrics/_histogram.py: the joint histogram's sum, and its gradient in images and weights."""

from __future__ import annotations

import pytest
import torch

from metrics._histogram import JointSums, Limits


def noise(seed: int) -> torch.Tensor:
    return torch.rand(2, 40, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("limits", [(None, None), ((0.2, 0.8), (-0.5, 1.5))])
def test_the_sum_is_that_of_the_weights(limits: tuple[Limits | None, Limits | None]) -> None:
    weights = noise(2)
    joint = JointSums.apply(noise(0), noise(1), weights, 7, limits)
    assert joint.shape == (2, 7, 7)
    torch.testing.assert_close(joint.sum(dim=(1, 2)), weights.sum(dim=1))


def test_the_gradient_is_that_of_finite_differences() -> None:
    """In both images, where values lie beyond the limits too, and in the weights."""
    inputs = [noise(seed).requires_grad_() for seed in range(3)]
    limits = ((0.2, 0.8), (-0.5, 1.5))
    assert torch.autograd.gradcheck(lambda a, b, w: JointSums.apply(a, b, w, 7, limits), inputs)
