"""Minimise eq. 1 over the coefficients of one level by Adam, with a bound that excludes folds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from methods.deformable.level import Level, penalty_functions
from methods.deformable.settings import DeformableSettings
from methods.deformable.spline import ControlGrid, bending_energy, bounded
from methods.penalties import Warped

BETAS = (0.9, 0.99)
WINDOW = 10  # iterations between two looks at how far the labels moved
COMPARED = 4096  # points that decide whether a level is kept
UNSEEN = 5e-4  # per mm^2: weight of the mean squared motion of vertebrae that no image shows, from `rest_mm`
KEPT = 0.5  # the least part of the points that must stay in the moving scan


@dataclass(frozen=True)
class Outcome:
    """How far a level went.

    Attributes:
        iterations: their number.
        moved_mm: root mean square motion of the labelled points in the last ten iterations.
        converged: whether that is below the tolerance.
        gain: by how much the level lowered eq. 1. A level that does not lower it is not kept.
    """

    iterations: int
    moved_mm: float
    converged: bool
    gain: float


def step_length(first: float, last: float, iteration: int, iterations: int) -> float:
    """A half cosine from `first` at iteration 0 towards `last` at the end."""
    return last + (first - last) * 0.5 * (1 + math.cos(math.pi * iteration / iterations))


def optimise(
    level: Level,
    control: ControlGrid,
    coefficients: Tensor,
    settings: DeformableSettings,
    weights: Mapping[str, float],
    generator: torch.Generator,
) -> tuple[Tensor, Outcome]:
    """Minimise eq. 1 at one level.

    Args:
        level: the terms of eq. 1.
        control: the level's control grid.
        coefficients: (3, mz, my, mx), mm, to start from.
        settings: of the row.
        weights: of each penalty, without the level's factor.
        generator: draws the points, on the CPU.

    Returns:
        The coefficients, those of the start if the level did not lower eq. 1, and how far it went.
    """
    own = level.settings
    objective = Objective(level, control, settings, weights)
    start, first, second = coefficients, torch.zeros_like(coefficients), torch.zeros_like(coefficients)
    before, moved, done = None, math.inf, 0
    for done in range(own.iterations):
        if done % WINDOW == 0:
            with torch.no_grad():
                now = level.labelled(level.field_mm(coefficients))
            if before is not None:
                moved = _root_mean_square(now - before)
                if moved < settings.tolerance_mm:
                    break
            before = now
        if done % settings.refresh == 0:
            objective.repeat_labels_of(coefficients)
        variable = coefficients.requires_grad_()
        share = 1 + (own.penalty_growth - 1) * done / own.iterations
        share *= settings.penalty_every if done % settings.penalty_every == 0 else 0
        total = objective(variable, level.draw(own.samples, generator), share)
        (gradient,) = torch.autograd.grad(total, variable)
        first.lerp_(gradient, 1 - BETAS[0])
        second.lerp_(gradient.square(), 1 - BETAS[1])
        step = step_length(own.step_mm, own.step_mm * settings.final_step, done, own.iterations)
        unbiased = (second / (1 - BETAS[1] ** (done + 1))).sqrt_().add_(1e-8)
        coefficients = coefficients.detach() - step / (1 - BETAS[0] ** (done + 1)) * first / unbiased
        coefficients = bounded(coefficients, control.control_mm, settings.least_slack)
    else:
        done = own.iterations
    coefficients = coefficients.detach()
    gain = objective.gain(start.detach(), coefficients, level.draw(COMPARED, generator))
    if gain < 0:
        coefficients = start.detach()
    return coefficients, Outcome(done, moved, moved < settings.tolerance_mm, gain)


@torch.no_grad()
def are_more_alike(levels: Sequence[Level], before: Tensor, after: Tensor, generator: torch.Generator) -> bool:
    """Whether images are more alike under `after`, where both fields map points into what the moving scan saw.

    Args:
        levels: one resolution from several starts; the points of each count alike.
        before: (3, mz, my, mx), mm, coefficients.
        after: the same.
        generator: draws the points, on the CPU.
    """
    gain = 0.0
    for level in levels:
        drawn = level.draw(COMPARED, generator)
        if len(drawn):
            fields = [level.field_mm(c) for c in (before, after)]
            drawn = drawn[level.seen(fields[0], drawn) & level.seen(fields[1], drawn)]
        if len(drawn):
            gain += float(level.distance(fields[0], drawn) - level.distance(fields[1], drawn))
    return gain > 0


class Objective:
    """Eq. 1 at one level, as a function of the coefficients and the drawn points."""

    def __init__(
        self, level: Level, control: ControlGrid, settings: DeformableSettings, weights: Mapping[str, float]
    ) -> None:
        """Prepare the terms. weights: of each penalty, without the level's factor."""
        self.level, self.control_mm = level, control.control_mm
        factor = level.settings.penalty_factor
        self.penalties = penalty_functions({name: weight * factor for name, weight in weights.items()})
        # The sum over control points becomes a mean over those that the compared points determine.
        determined = level.count * math.prod(level.spacing_mm) / control.control_mm**3
        self.bending = settings.bending / max(determined, 1.0)
        self.earlier: Warped | None = None
        self.unseen: Tensor | None = None

    def repeat_labels_of(self, coefficients: Tensor) -> None:
        """Use the labels that these coefficients warp, until this is called again.

        The penalties of the field are weighed by them, and those that no image shows are held.
        """
        if not self.penalties and self.unseen is not None:
            return
        with torch.no_grad():
            self.earlier = self.level.warped(self.level.field_mm(coefficients), None)
            if self.unseen is None:
                self.unseen = self.level.unseen(self.earlier.weights)

    def __call__(self, coefficients: Tensor, drawn: Tensor, penalty_factor: float = 1) -> Tensor:
        """Scalar, differentiable in the coefficients (3, mz, my, mx)."""
        field = self.level.field_mm(coefficients)
        total = self.bending * bending_energy(coefficients, self.control_mm)
        if len(drawn):
            total = total + self.level.distance(field, drawn)
        if self.unseen is not None and len(self.unseen):  # smoothness would continue their neighbours' motion to them
            moved = field.flatten(1).index_select(1, self.unseen) - self.level.rest_mm
            total = total + UNSEEN * moved.square().sum(dim=0).mean()
        if self.penalties and penalty_factor:
            warped = self.level.warped(field, self.earlier)
            total = total + penalty_factor * sum(weight * penalty(warped) for weight, penalty in self.penalties)
        return total

    @torch.no_grad()
    def gain(self, before: Tensor, after: Tensor, drawn: Tensor) -> float:
        """By how much the objective is lower, at points that both fields map into what the moving scan saw.

        -inf where `after` maps most of the points of `before` out of it: the objective of the others says little.
        """
        seen = self.level.seen(self.level.field_mm(before), drawn)
        both = seen & self.level.seen(self.level.field_mm(after), drawn)
        if both.sum() < KEPT * seen.sum():
            return -math.inf
        self.repeat_labels_of(after)
        growth = self.level.settings.penalty_growth
        return float(self(before, drawn[both], growth) - self(after, drawn[both], growth))


def _root_mean_square(vectors: Tensor) -> float:
    return float(vectors.square().sum(dim=0).mean().sqrt()) if vectors.numel() else 0.0
