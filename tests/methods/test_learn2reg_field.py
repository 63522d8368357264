"""Learn2Reg's convention: names of files, and fields that are read back as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from methods.base import Grid, Pair, Scan
from methods.learn2reg_field import case_field_name, field_name, to_learn2reg, write_learn2reg
from methods.precomputed import Precomputed

# Index x runs along +y of the patient and index y along -x.
GRID = Grid((8, 10, 12), (1.0, 2.0, 3.0), (5.0, -4.0, 7.0), (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0))


def test_a_file_has_the_name_that_the_challenge_expects() -> None:
    assert field_name("LungCT_0001_0000", "LungCT_0001_0001") == "disp_0001_0001"
    assert field_name("mr", "ct") == "disp_mr_ct"
    assert case_field_name("LungCT_0012_0000--LungCT_0013_0000") == "disp_0012_0013"
    assert case_field_name("sub-01") == "disp_sub-01"


def test_a_displacement_in_voxels_by_hand() -> None:
    """(-2, 2, -3) mm is 2 mm along index x, 2 mm along index y and -3 mm along index z."""
    displacement = np.broadcast_to(np.float32([-2, 2, -3]), (*GRID.shape, 3))
    found = to_learn2reg(displacement, GRID)
    assert found.shape == (12, 10, 8, 3) and found.dtype == np.float32
    np.testing.assert_allclose(found[3, 2, 1], (2.0, 1.0, -1.0), atol=1e-6)


@pytest.mark.parametrize("ending", [".nii.gz", ".npz"])
def test_a_written_field_is_read_back(tmp_path: Path, ending: str) -> None:
    field = np.random.default_rng(0).normal(0, 3, (*GRID.shape, 3)).astype(np.float32)
    write_learn2reg(tmp_path / f"disp_0001_0002{ending}", field, GRID)
    scan = Scan(np.random.default_rng(1).random(GRID.shape, np.float32), np.ones(GRID.shape, np.uint16), GRID)
    pair = Pair("A_0001_0000--A_0002_0000", scan, scan)
    found = Precomputed("fields", dir=tmp_path, convention="learn2reg").register(pair)
    np.testing.assert_allclose(found.displacement_mm, field, atol=1e-5)


def test_a_nifti_file_has_the_challenges_four_axes_and_the_grid(tmp_path: Path) -> None:
    write_learn2reg(tmp_path / "disp_a_b.nii.gz", np.zeros((*GRID.shape, 3), np.float32), GRID)
    image = sitk.ReadImage(str(tmp_path / "disp_a_b.nii.gz"))
    assert image.GetSize() == (12, 10, 8, 3)
    np.testing.assert_allclose(image.GetOrigin()[:3], GRID.origin_mm)
    np.testing.assert_allclose(np.reshape(image.GetDirection(), (4, 4))[:3, :3], GRID.matrix, atol=1e-6)
