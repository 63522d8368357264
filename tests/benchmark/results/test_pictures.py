"""Slices that are saved for the reports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.small_runs import run_tiny


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
    from benchmark.datasets.io.images import read_displacement

    field, grid = read_displacement(tmp_path / "run" / "fields" / "true-shift@cpu" / "one.nii.gz")
    assert grid.origin_mm == (-10, 5, 20) and (field == (2, 0, 0)).all()
