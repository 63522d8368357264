"""The shift from which the optimisation starts."""

from __future__ import annotations

import pytest
import torch
from support.shifted_pair import shifted_pair

from methods.base import Grid
from methods.deformable.capture import best_shift
from methods.deformable.level import Level
from methods.deformable.pyramid import load
from methods.deformable.settings import LevelSettings
from methods.deformable.spline import ControlGrid

OWN = LevelSettings(image_mm=4, lattice_mm=4, control_mm=24, similarity="nmi", iterations=1, step_mm=4)


@pytest.mark.parametrize(("shift", "found"), [(14.0, [0.0, 14.0, 0.0]), (2.0, [0.0, 0.0, 0.0])])
def test_a_far_shift_is_found_and_a_near_one_is_left_to_the_optimisation(shift: float, found: list[float]) -> None:
    scans = load(shifted_pair(Grid((56, 72, 48)), (0.0, shift, 0.0)), "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, OWN.control_mm)
    level = Level(scans, OWN, control, control.zeros("cpu"), False)
    best = best_shift(level, torch.Generator().manual_seed(0))
    torch.testing.assert_close(best, torch.tensor(found), atol=2.5 if shift > 6 else 0, rtol=0)
