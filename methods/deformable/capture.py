"""The start of the optimisation: the shift of the whole moving scan under which the images are most alike.

A spine that lies more than half a vertebra from its place is out of reach of the gradient of any similarity. The search
ends within `REACH_MM`, less than the distance of two lumbar or thoracic levels, so that it does not jump to another
level.
"""

from __future__ import annotations

from itertools import product

import torch
from torch import Tensor

from methods.deformable.level import Level

REACH_MM, STEP_MM, LAST_STEP_MM = 16.0, 8.0, 2.0
SAMPLES = 1024
LEAST_SEEN = 0.7  # of the points seen without a shift, that a shift must keep in the moving scan
LEAST_MM = 6.0  # a smaller shift is within reach of the optimisation


def best_shift(level: Level, generator: torch.Generator) -> Tensor:
    """Search the shift with the least image distance: all on a grid, then around the best in ever smaller steps.

    Args:
        level: the coarsest resolution, without displacement.
        generator: draws the points, on the CPU.

    Returns:
        (3,), mm, components along the grid's axes (z, y, x); 0 where no shift is better, or a small one.
    """
    drawn = level.draw(SAMPLES, generator)
    start = torch.zeros(3, device=drawn.device)
    if not len(drawn):
        return start
    points_mm = level.points_mm()[:, drawn]
    first, seen = level.distance_at(points_mm, drawn)
    least, best = first, start
    ends = torch.arange(-REACH_MM, REACH_MM + 1, STEP_MM).tolist()
    around, step = [torch.tensor(v) for v in product(ends, repeat=3)], STEP_MM
    while True:
        for shift in around:
            shift = shift.to(start.device)
            distance, share = level.distance_at(points_mm + shift.view(3, 1), drawn)
            if distance < least and share >= LEAST_SEEN * seen:
                least, best = distance, shift
        step /= 2
        if step < LAST_STEP_MM:
            break
        around = [best + sign * step * axis for axis in torch.eye(3, device=best.device) for sign in (1, -1)]
    return best if best.norm() >= LEAST_MM else start
