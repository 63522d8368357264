"""The terms of eq. 1 at one resolution: which points are compared, and their gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.shifted_pair import shifted_pair

from benchmark.datasets.resampling import fill_unseen
from methods.base import Grid, Pair
from methods.deformable.level import DILATION, RADIUS, Level, penalty_functions
from methods.deformable.pyramid import load
from methods.deformable.settings import LevelSettings
from methods.deformable.spline import ControlGrid

GRID = Grid((36, 40, 30), (1.0, 1.0, 1.0))
OWN = LevelSettings(image_mm=1, lattice_mm=2, control_mm=8, iterations=1, step_mm=1, samples=200, near_mm=8)


def level_of(pair: Pair, velocity: bool = False, **changes: object) -> tuple[Level, ControlGrid]:
    scans, own = load(pair, "cpu"), OWN.model_copy(update=changes)
    control = ControlGrid(scans.shape, scans.spacing_mm, own.control_mm)
    return Level(scans, own, control, control.zeros("cpu"), velocity), control


def everything(level: Level) -> torch.Tensor:
    return torch.arange(level.count)


@pytest.mark.parametrize("similarity", ["mind", "nmi"])
def test_the_distance_is_least_for_the_true_shift(similarity: str) -> None:
    level, control = level_of(shifted_pair(GRID, (0.0, 2.0, 0.0)), similarity=similarity)
    found = []
    for shift in (-2.0, 0.0, 2.0, 4.0):
        coefficients = control.zeros("cpu")
        coefficients[1] = shift
        found.append(float(level.distance(level.field_mm(coefficients), everything(level))))
    assert min(found) == found[2]


@pytest.mark.parametrize("velocity", [False, True])
@pytest.mark.parametrize("similarity", ["mind", "nmi"])
def test_the_gradient_is_that_of_finite_differences(similarity: str, velocity: bool) -> None:
    # No point crosses the volume's border, where its weight changes by a step.
    level, control = level_of(shifted_pair(GRID, (0.0, 1.3, 0.7)), velocity, similarity=similarity, near_mm=3.0)
    start = 0.3 * torch.randn(3, *control.counts, generator=torch.Generator().manual_seed(0))
    direction = torch.randn(start.shape, generator=torch.Generator().manual_seed(1))
    variable = start.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(level.distance(level.field_mm(variable), everything(level)), variable)
    step = 1e-2
    ends = [float(level.distance(level.field_mm(start + s * direction), everything(level))) for s in (step, -step)]
    assert (gradient * direction).sum().item() == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=0.05)


def test_voxels_that_a_scan_did_not_see_have_no_effect() -> None:
    """Neither their values nor, for MIND, the edge of the field of view."""
    pair, inside = shifted_pair(GRID, (0.0, 1.0, 0.0)), np.ones(GRID.shape, bool)
    inside[:, :, 20:] = False
    results = []
    for value in (0.0, 1.0):
        scans = []
        for scan in (pair.fixed, pair.moving):
            image = np.where(inside, scan.image, np.float32(value))
            scans.append(replace(scan, image=image, inside=inside))
        level, control = level_of(Pair("p", *scans))
        results.append((level.count, float(level.distance(level.field_mm(control.zeros("cpu")), everything(level)))))
    assert results[0] == results[1] and results[0][0] > 0
    whole, _ = level_of(pair)
    assert results[0][0] < whole.count
    filled = [replace(s, image=fill_unseen(s.image, inside), inside=inside) for s in (pair.fixed, pair.moving)]
    level, _ = level_of(Pair("p", *filled))
    assert int((level._points[2] + RADIUS + DILATION).max()) < 20


def test_without_a_common_voxel_nothing_is_compared() -> None:
    pair, inside = shifted_pair(GRID, (0.0, 1.0, 0.0)), np.zeros(GRID.shape, bool)
    inside[0, 0, 0] = True
    level, _ = level_of(Pair("p", replace(pair.fixed, inside=inside), pair.moving))
    assert level.count == 0


def test_points_are_near_the_warped_labels() -> None:
    """A field that moves the labels to the fixed scan's end draws the points there."""
    pair = shifted_pair(GRID, (0.0, 0.0, 0.0))
    scans = load(pair, "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, 8.0)
    far = control.zeros("cpu")
    far[0] = -8.0  # the labels of p lie at p - 8 in the moving image: their fixed position is 8 mm higher
    means = [float(Level(scans, OWN, control, c, False)._points[0].mean()) for c in (control.zeros("cpu"), far)]
    assert means[1] - means[0] == pytest.approx(8.0, abs=2.5)


def test_the_lattice_reaches_labels_that_the_field_has_moved() -> None:
    """Also where the field has moved them further than points are drawn from them."""
    pair = shifted_pair(Grid((80, 40, 30)), (0.0, 0.0, 0.0))
    labels = np.zeros_like(pair.moving.labels)
    labels[50:60, 12:28, 8:22] = 20
    scans = load(Pair("p", pair.fixed, replace(pair.moving, labels=labels)), "cpu")
    control = ControlGrid(scans.shape, scans.spacing_mm, 8.0)
    far = control.zeros("cpu")
    far[0] = 30.0
    level = Level(scans, OWN, control, far, False)
    assert (level.warped(level.field_mm(far), None).warped_soft.sum() * 8).item() == pytest.approx(
        10 * 16 * 14, rel=0.2
    )


def test_penalties_get_the_lattice_in_its_own_voxels() -> None:
    level, control = level_of(shifted_pair(GRID, (0.0, 0.0, 0.0)))
    coefficients = control.zeros("cpu")
    coefficients[1] = 3.0
    warped = level.warped(level.field_mm(coefficients), None)
    assert warped.spacing_mm == (2.0, 2.0, 2.0) and warped.labels.shape == warped.displacement.shape[2:]
    torch.testing.assert_close(warped.displacement[0, 1], torch.full_like(warped.displacement[0, 1], 1.5))
    functions = penalty_functions({"pc": 0.5, "oc": 0.0, "rigid-field": 1.0})
    assert [weight for weight, _ in functions] == [0.5, 1.0]
    for _, penalty in functions:
        assert penalty(warped).item() == pytest.approx(0, abs=1e-5)


def test_points_that_leave_the_moving_scan_have_no_part_in_the_distance() -> None:
    level, control = level_of(shifted_pair(GRID, (0.0, 1.0, 0.0)))
    half, drawn = control.zeros("cpu"), everything(level)
    half[0] = 12.0
    field = level.field_mm(half)
    seen = level.seen(field, drawn)
    assert 0.2 < seen.float().mean() < 0.8
    of_seen = level.distance(field, drawn[seen])
    assert level.distance(field, drawn).item() == pytest.approx(of_seen.item() * seen.float().mean().item(), rel=1e-5)
    half[0] = 1000.0
    assert not level.seen(level.field_mm(half), drawn).any() and level.distance(level.field_mm(half), drawn) == 0


def test_a_vertebra_that_no_image_shows_is_unseen() -> None:
    """Two labels, of which the fixed scan saw one."""
    pair, inside = shifted_pair(Grid((72, 40, 30)), (0.0, 0.0, 0.0)), np.ones((72, 40, 30), bool)
    labels = np.zeros(pair.grid.shape, np.uint16)
    labels[8:20, 12:28, 8:22], labels[50:62, 12:28, 8:22] = 20, 19
    inside[36:] = False
    scans = (replace(pair.fixed, inside=inside), replace(pair.moving, labels=labels))
    level, control = level_of(Pair("p", *scans))
    weights = level.warped(level.field_mm(control.zeros("cpu")), None).weights
    z = level.unseen(weights) // (weights.shape[2] * weights.shape[3])
    assert len(z) and bool((z > weights.shape[1] // 2).all())
