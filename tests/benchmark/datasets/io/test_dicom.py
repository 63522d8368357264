"""A folder of DICOM slices that replaces an image file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from benchmark.datasets.folders import Folders, load_patient, write_patient
from benchmark.datasets.io.images import read_image
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

GRID = Grid((30, 20, 18), (1.0, 1.5, 2.5), (-10.0, 5.0, 100.0))
UID = "1.2.826.0.1.3680043.2.1125"


def write_series(folder: Path, array: np.ndarray, grid: Grid = GRID, series: str = "1") -> Path:
    """Write slices along the third axis, as scanners do."""
    folder.mkdir(parents=True, exist_ok=True)
    image = sitk.Cast(to_sitk(array, grid), sitk.sitkInt16)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    orientation = "\\".join(f"{v:.6f}" for v in grid.matrix.T[:2].ravel())
    for i in range(image.GetDepth()):
        cut = image[:, :, i]
        tags = {
            "0020|000e": f"{UID}.{series}", "0008|0018": f"{UID}.{series}.{i}", "0020|000d": f"{UID}.9",
            "0020|0037": orientation, "0020|0013": str(i), "0008|0060": "CT",
            "0020|0032": "\\".join(f"{v:.6f}" for v in image.TransformIndexToPhysicalPoint((0, 0, i))),
        }  # fmt: skip
        for key, value in tags.items():
            cut.SetMetaData(key, value)
        # The names are in the opposite order of the slices: only positions count.
        writer.SetFileName(str(folder / f"{series}-{99 - i}.dcm"))
        writer.Execute(cut)
    return folder


def noise() -> np.ndarray:
    return np.rint(np.random.default_rng(0).normal(0, 300, GRID.shape)).astype(np.int16)


def test_a_series_is_read_like_a_file(tmp_path: Path) -> None:
    image, grid = read_image(write_series(tmp_path / "Série 1", noise()))
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
    write_series(tmp_path / "p" / "ct", noise())
    before = dataset.fingerprint("p")
    pair = dataset.load("p").pair
    np.testing.assert_allclose(pair.moving.image, expected.moving.image, atol=1e-5)
    np.testing.assert_array_equal(pair.moving.labels, expected.moving.labels)
    write_series(tmp_path / "p" / "ct", noise() + 1)
    assert dataset.fingerprint("p") != before


def test_folders_without_one_complete_series_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="empty: expected an image file, found a folder without DICOM slices"):
        read_image(tmp_path / "empty")
    write_series(write_series(tmp_path / "two", noise()), noise(), series="2")
    with pytest.raises(BadInput, match="two: expected the slices of one DICOM series, found 2 series"):
        read_image(tmp_path / "two")
    (write_series(tmp_path / "gap", noise()) / "1-90.dcm").unlink()
    with pytest.raises(
        BadInput, match=r"gap: expected evenly spaced slices, found 5 mm between two of them and 2\.5 mm"
    ):
        read_image(tmp_path / "gap")
