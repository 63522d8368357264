"""Adam over one level: the step length, the bound, and when it stops."""

from __future__ import annotations

import math

import pytest
import torch
from support.shifted_pair import shifted_pair

from methods.base import Grid
from methods.deformable.level import Level
from methods.deformable.optimise import Objective, Outcome, are_more_alike, optimise, step_length
from methods.deformable.pyramid import load
from methods.deformable.settings import DeformableSettings, LevelSettings
from methods.deformable.spline import ControlGrid, least_slack
from methods.registry import PENALTIES

OWN = LevelSettings(image_mm=2, lattice_mm=2, control_mm=12, iterations=40, step_mm=0.5, samples=500)


def run(shift: float, own: LevelSettings = OWN, seed: int = 0, **settings: object) -> tuple[torch.Tensor, Outcome]:
    scans = load(shifted_pair(Grid((36, 40, 30)), (0.0, shift, 0.0)), "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, OWN.control_mm)
    level = Level(scans, own, control, control.zeros("cpu"), False)
    row = DeformableSettings(levels=(own,), **settings)
    generator = torch.Generator().manual_seed(seed)
    return optimise(level, control, control.zeros("cpu"), row, {"oc": 0.1}, generator)


def test_the_step_length_is_a_half_cosine() -> None:
    assert step_length(2.0, 0.2, 0, 40) == 2.0
    assert step_length(2.0, 0.2, 20, 40) == pytest.approx(1.1)
    assert 0.2 < step_length(2.0, 0.2, 39, 40) < 0.22


def test_a_shift_is_found_and_the_bound_is_kept() -> None:
    found, outcome = run(2.0)
    middle = found[:, 2:4, 2:4, 2:4].mean(dim=(1, 2, 3))
    torch.testing.assert_close(middle, torch.tensor([0.0, 2.0, 0.0]), atol=0.4, rtol=0)
    assert outcome.iterations == 40 and outcome.gain > 0
    tight, _ = run(2.0, least_slack=0.98)
    assert least_slack(tight, 12.0) > 0.95 > least_slack(found, 12.0)


def test_a_level_ends_when_the_labels_stand_still() -> None:
    _, early = run(0.0, tolerance_mm=100.0)
    assert early.iterations == 10 and early.converged
    _, late = run(0.0, tolerance_mm=0.0)
    assert late.iterations == 40 and not late.converged and math.isfinite(late.moved_mm)


def test_one_seed_gives_one_result() -> None:
    torch.testing.assert_close(run(2.0)[0], run(2.0)[0], rtol=0, atol=0)
    assert not torch.equal(run(2.0)[0], run(2.0, seed=1)[0])


def test_a_level_that_does_not_lower_the_objective_is_not_kept() -> None:
    """One step of 30 mm leaves the true position."""
    found, outcome = run(0.0, OWN.model_copy(update={"iterations": 1, "step_mm": 30.0}))
    assert outcome.gain < 0 and (found == 0).all()


def test_a_field_that_leaves_the_moving_scan_is_no_gain() -> None:
    scans = load(shifted_pair(Grid((36, 40, 30)), (0.0, 0.0, 0.0)), "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, OWN.control_mm)
    level = Level(scans, OWN, control, control.zeros("cpu"), False)
    objective = Objective(level, control, DeformableSettings(), {})
    away = control.zeros("cpu")
    away[0] = 1000.0
    assert objective.gain(control.zeros("cpu"), away, torch.arange(level.count)) == -math.inf


def test_penalties_grow_within_a_level() -> None:
    """The larger they are at the end, the more rigid is the label."""
    scans = load(shifted_pair(Grid((36, 40, 30)), (0.0, 2.0, 0.0)), "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, OWN.control_mm)
    level, found = Level(scans, OWN, control, control.zeros("cpu"), False), []
    for growth in (1.0, 20.0):
        coefficients, _ = run(2.0, OWN.model_copy(update={"penalty_growth": growth}))
        found.append(PENALTIES["oc"].load()(level.warped(level.field_mm(coefficients), None)).item())
    assert found[1] < 0.5 * found[0], found


def test_the_field_with_the_more_alike_images_is_chosen() -> None:
    scans = load(shifted_pair(Grid((36, 40, 30)), (0.0, 2.0, 0.0)), "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, OWN.control_mm)
    right = control.zeros("cpu")
    right[1] = 2.0
    levels = [Level(scans, OWN, control, c, False) for c in (control.zeros("cpu"), right)]
    generator = torch.Generator().manual_seed(0)
    assert are_more_alike(levels, control.zeros("cpu"), right, generator)
    assert not are_more_alike(levels, right, control.zeros("cpu"), generator)
