"""Muon: momentum whose step is made orthogonal, for the weights of convolutions; Adam for all other parameters.

The gradient of a layer's weights has a few large singular values. With an orthogonal step, all directions of the layer
learn at the same rate. The step is scaled to the size of Adam's steps, so that both share one learning rate.

References:
    K. Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024, https://kellerjordan.github.io.
    J. Liu et al., Muon is scalable for LLM training, arXiv:2502.16982, 2025, for the scale of a step.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of Newton-Schulz, which lead singular values to between 0.7 and 1.2
ITERATIONS = 5
MOMENTUM = 0.95
BETAS = (0.9, 0.99)  # of Adam
STEP_RMS = 0.2  # root mean square of a step over the learning rate, about that of Adam


def orthogonalised(matrix: Tensor, iterations: int = ITERATIONS) -> Tensor:
    """A matrix with the singular vectors of `matrix` and singular values near 1, by Newton-Schulz iteration.

    Args:
        matrix: (rows, columns), float32.
        iterations: their number.

    Returns:
        (rows, columns); singular values between about 0.7 and 1.2, less for those that are tiny beside the largest.
    """
    a, b, c = COEFFICIENTS
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / (wide.norm() + 1e-7)
    for _ in range(iterations):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Muon with Nesterov momentum for some parameters, Adam for the others.

    Args:
        weights: parameters of two or more axes, of which the first is the output; trained by Muon.
        others: trained by Adam.
        lr: learning rate of both.
    """

    def __init__(self, weights: Iterable[Tensor], others: Iterable[Tensor], lr: float) -> None:
        groups = [{"params": list(weights), "muon": True}, {"params": list(others), "muon": False}]
        super().__init__(groups, {"lr": lr})

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update every parameter that has a gradient.

        Args:
            closure: must be None; the loss is computed once.

        Raises:
            ValueError: a closure is given.
        """
        if closure is not None:
            raise ValueError("closure: expected None, got a function; compute the loss before the step")
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, group["lr"])

    def _muon(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(gradient, 1 - MOMENTUM)
        matrix = gradient.lerp(state["momentum"], MOMENTUM).flatten(1)
        step = orthogonalised(matrix) * (STEP_RMS * max(matrix.shape) ** 0.5)
        parameter.add_(step.view_as(parameter), alpha=-lr)

    def _adam(self, parameter: Tensor, gradient: Tensor, lr: float) -> None:
        state, (first, second) = self.state[parameter], BETAS
        if not state:
            state |= {"mean": torch.zeros_like(parameter), "square": torch.zeros_like(parameter),
                      "step": torch.tensor(0.0)}  # fmt: skip
        state["step"] += 1
        count = int(state["step"])
        state["mean"].lerp_(gradient, 1 - first)
        state["square"].mul_(second).addcmul_(gradient, gradient, value=1 - second)
        spread = (state["square"] / (1 - second**count)).sqrt().add_(1e-8)
        parameter.addcdiv_(state["mean"], spread, value=-lr / (1 - first**count))
