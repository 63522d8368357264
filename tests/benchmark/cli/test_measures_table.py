"""The printed measures have names, units, and say which end is better."""

from __future__ import annotations

from io import StringIO

import numpy as np
from rich.console import Console

from benchmark.cli.measures_table import print_measures
from methods.base import Case, Grid, Pair, Registration, Scan


def printed(displacement_mm: np.ndarray) -> str:
    """What is printed for a cube, L1, in both scans, and a small L2 in the moving one alone."""
    grid = Grid((24, 24, 24))
    labels = np.zeros(grid.shape, np.uint16)
    labels[8:16, 8:16, 8:16] = 20
    both = labels.copy()
    both[2:4, 2:4, 2:4] = 21
    image = np.random.default_rng(0).random(grid.shape, np.float32)
    pair = Pair("pair", Scan(image, labels, grid, modality="mr"), Scan(image, both, grid))
    screen = StringIO()
    print_measures(Case(pair), Registration(displacement_mm), Console(file=screen, width=120))
    return screen.getvalue()


def test_vertebrae_have_names_and_columns_have_units() -> None:
    output = printed(np.zeros((24, 24, 24, 3), np.float32))
    assert "│ L1 (20) │ 1 │ 1 │ 1 │ 0 │ 0 │" in " ".join(output.split())
    assert "vertebra ┃ DSC before ┃ DSC ┃ Rigid DSC ┃ Δvol [%] ┃ HD95 [mm]" in output
    assert "L2 (21) is not measured: only in the moving labels" in output
    assert "Rigid DSC: overlap of the warped label with the moving one" in output
    assert "whole field, lower is better: |J|≤0 [%] 0," in output and "l2r" not in output


def test_the_volume_change_has_a_sign() -> None:
    field = np.zeros((24, 24, 24, 3), np.float32)
    field[..., 2] = 0.2 * (np.arange(24) - 11.5)[:, None, None]  # a smaller warped label
    # Half of the 8 slices, at 0.6, 1.8 and 3.0 voxels from the middle, stay 1; at 4.2 the soft label is 0.3: 6.6 of 8.
    assert "│ -17.5" in printed(field)
