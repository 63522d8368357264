"""A field that puts the vertebrae one level off, on a column of blocks that differ a little."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from methods.base import Grid, Pair, Scan
from methods.deformable.level import Level
from methods.deformable.neighbours import Neighbour, compare_neighbours, doubt
from methods.deformable.pyramid import Scans, load
from methods.deformable.settings import LevelSettings
from methods.deformable.spline import ControlGrid

GRID, STEP = Grid((84, 32, 32)), 16
OWN = LevelSettings(image_mm=2, lattice_mm=4, control_mm=12, iterations=1, step_mm=1)


def column() -> Scans:
    """Four labelled blocks, 16 mm apart, each with its own texture; the fixed image has the inverse contrast."""
    image = gaussian_filter(np.random.default_rng(0).random(GRID.shape), 1.5).astype(np.float32)
    image = (image - image.min()) / np.ptp(image)
    labels = np.zeros(GRID.shape, np.uint16)
    for k in range(4):
        labels[12 + STEP * k : 24 + STEP * k, 8:24, 8:24] = 23 - k  # ids increase downwards
    return load(Pair("p", Scan(1 - image, None, GRID), Scan(image, labels, GRID)), "cpu")


def comparisons(shift_mm: float) -> list[Neighbour]:
    scans = column()
    control = ControlGrid(scans.shape, scans.spacing_mm, OWN.control_mm)
    coefficients = control.zeros("cpu")
    coefficients[0] = shift_mm
    field = torch.zeros(3, *GRID.shape)
    field[0] = shift_mm
    return compare_neighbours(Level(scans, OWN, control, coefficients, False), scans, field)


def test_a_field_that_is_right_raises_no_doubt() -> None:
    found = comparisons(0.0)
    assert [n.step for n in found] == [-1, 1] and all(n.vertebrae >= 2 and n.moved > n.own for n in found)
    assert doubt(found) == ""


def test_a_field_one_level_off_is_said_with_its_direction() -> None:
    """Each fixed block is mapped one block up: the fixed scan shows the one below."""
    text = doubt(comparisons(float(STEP)))
    assert text.startswith("the labels may lie one level off") and "more like the next one below" in text


def test_one_vertebra_alone_is_no_doubt() -> None:
    assert doubt([Neighbour(1, 0.2, 0.1, 1)]) == "" and doubt([Neighbour(1, float("nan"), float("nan"), 0)]) == ""
    assert "more like the next one above" in doubt([Neighbour(-1, 0.2, 0.1, 2), Neighbour(1, 0.2, 0.3, 2)])
