"""A folder of DICOM slices that replaces an image file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.dicom_series import write_series

from benchmark.datasets.folders import Folders, load_patient, write_patient
from benchmark.datasets.io.images import read_image
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

GRID = Grid((30, 20, 18), (1.0, 1.5, 2.5), (-10.0, 5.0, 100.0))


def noise() -> np.ndarray:
    return np.rint(np.random.default_rng(0).normal(0, 300, GRID.shape)).astype(np.int16)


def test_a_series_is_read_like_a_file(tmp_path: Path) -> None:
    image, grid = read_image(write_series(tmp_path / "Série 1", noise(), GRID))
    np.testing.assert_array_equal(image, noise())
    np.testing.assert_allclose([*grid.spacing_mm, *grid.origin_mm], [*GRID.spacing_mm, *GRID.origin_mm], atol=1e-4)


def test_sagittal_slices_are_read_at_their_positions(tmp_path: Path) -> None:
    sagittal, grid = from_sitk(sitk.DICOMOrient(to_sitk(noise(), GRID), "PIR"))
    image, read_grid = read_image(write_series(tmp_path / "series", sagittal, grid))
    back, back_grid = from_sitk(sitk.DICOMOrient(to_sitk(image, read_grid), "LPS"))
    np.testing.assert_array_equal(back, noise())
    np.testing.assert_allclose(back_grid.origin_mm, GRID.origin_mm, atol=1e-3)


def test_a_patient_with_a_series_equals_one_with_a_file(tmp_path: Path) -> None:
    labels = np.zeros(GRID.shape, np.uint16)
    labels[4:12, 5:15, 5:13], labels[17:26, 5:15, 5:13] = 21, 20
    write_patient(tmp_path / "p", noise(), labels, noise(), labels, None, GRID)
    expected = load_patient(tmp_path / "p").pair
    (tmp_path / "p" / "ct.nii.gz").unlink()
    dataset = Folders("folders", dir=tmp_path)
    write_series(tmp_path / "p" / "ct", noise(), GRID)
    before = dataset.fingerprint("p")
    pair = dataset.load("p").pair
    np.testing.assert_allclose(pair.moving.image, expected.moving.image, atol=1e-5)
    np.testing.assert_array_equal(pair.moving.labels, expected.moving.labels)
    write_series(tmp_path / "p" / "ct", noise() + 1, GRID)
    assert dataset.fingerprint("p") != before


def test_folders_without_one_complete_series_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty: expected an image file, found a folder without DICOM slices"):
        read_image(tmp_path / "empty")
    write_series(tmp_path / "export" / "study" / "T1", noise(), GRID)
    with pytest.raises(
        BadInput, match=r"export: .* its slices are in study/T1: give that folder, or move its slices here"
    ):
        read_image(tmp_path / "export")
    with pytest.raises(BadInput, match=r"1-99.dcm: expected a volume, .* give the folder of its series"):
        read_image(tmp_path / "export" / "study" / "T1" / "1-99.dcm")
    write_series(write_series(tmp_path / "two", noise(), GRID), noise(), GRID, series="2")
    with pytest.raises(BadInput, match="two: expected the slices of one DICOM series, found 2 series"):
        read_image(tmp_path / "two")
    (write_series(tmp_path / "gap", noise(), GRID) / "1-90.dcm").unlink()
    with pytest.raises(
        BadInput, match=r"gap: expected evenly spaced slices, found 5 mm between two of them and 2\.5 mm"
    ):
        read_image(tmp_path / "gap")
