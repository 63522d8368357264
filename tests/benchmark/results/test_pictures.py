"""benchmark/results/pictures.py: the saved slices, and the box that every picture of a case is cut to."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.small_runs import run_tiny

from benchmark.datasets.io.images import read_displacement
from benchmark.results import pictures
from methods.base import Case, Grid, Pair, Registration, Scan

GRID = Grid((60, 40, 50), (1.0, 2.0, 3.0))


def case(labels: np.ndarray) -> Case:
    image = np.zeros(GRID.shape, np.float32)
    return Case(Pair("a", Scan(image, labels, GRID), Scan(image, labels, GRID)))


def test_the_box_is_that_of_the_moving_labels_with_15_mm_on_each_side() -> None:
    labels = np.zeros(GRID.shape, np.uint16)
    labels[30:33, 5:20, 25:49] = 20
    # 15 mm are 5 voxels along z, 8 along y and 15 along x; y and x end at the border.
    assert pictures.of_case(case(labels))["box"].tolist() == [[25, 38], [0, 28], [10, 50]]


def test_without_moving_labels_the_box_is_the_grid() -> None:
    assert pictures.of_case(case(np.zeros(GRID.shape, np.uint16)))["box"].tolist() == [[0, 60], [0, 40], [0, 50]]


def test_the_box_is_computed_once_for_a_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = np.ones(GRID.shape, np.uint16)
    computed = []
    bounding_box = pictures.bounding_box
    monkeypatch.setattr(pictures, "bounding_box", lambda mask: (computed.append(1), bounding_box(mask))[1])
    pictures.of_cell(case(labels), labels, Registration(np.zeros((*GRID.shape, 3), np.float32)), with_field=False)
    assert len(computed) == 1


def test_pictures_hold_no_pickle_and_show_the_same_slices(tiny: Path, tmp_path: Path) -> None:
    run_tiny(tiny, tmp_path / "run", ["true-shift"], save_fields=True)
    folder = tmp_path / "run" / "pictures"
    pair, cell = (np.load(f, allow_pickle=False) for f in (folder / "one.npz", folder / "true-shift@cpu" / "one.npz"))
    assert pair["ct_sagittal"].dtype == np.uint8 and pair["ct_sagittal"].shape == pair["fixed_labels_sagittal"].shape
    np.testing.assert_array_equal(cell["warped_labels_axial"], pair["fixed_labels_axial"])
    # The true shift is of two whole voxels along x, which is the last axis of an axial slice.
    np.testing.assert_allclose(cell["warped_ct_axial"][..., :-2], pair["ct_axial"][..., 2:].astype(float), atol=1)
    assert cell["warped_ct_sagittal"].dtype == np.uint8
    np.testing.assert_array_equal(np.unique(cell["field"].reshape(-1, 3), axis=0), [[200, 0, 0]])  # 0.01 mm
    field, grid = read_displacement(tmp_path / "run" / "fields" / "true-shift@cpu" / "one.nii.gz")
    assert grid.origin_mm == (-10, 5, 20) and (field == (2, 0, 0)).all()
