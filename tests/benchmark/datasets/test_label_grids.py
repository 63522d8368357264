"""Labels on another grid than their image: reordered, resampled by position beside a tilted series, or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation
from support.command_line import invoke
from support.patient_folder import GRID as PATIENT_GRID
from support.patient_folder import arrays, write
from support.scan_files import GRID, labels, noise, save
from support.tilted_series import write_tilted

from benchmark.datasets.folders import Folders
from benchmark.datasets.io.images import read_grid, read_image, write_labels
from benchmark.datasets.label_grids import check_label_grid, read_vertebrae
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from methods.base import Grid
from methods.geometry import from_sitk, to_sitk

BIG = Grid((90, 60, 60), (1.0, 1.0, 1.0), (-30.0, -30.0, 0.0))


def vertebrae(points_mm: np.ndarray) -> np.ndarray:
    """Three ellipsoids in space, 22 below; points (..., 3) in LPS mm."""
    found = np.zeros(points_mm.shape[:-1], np.uint16)
    for v, middle in ((22, 20), (21, 44), (20, 68)):
        found[np.square((points_mm - (0, 2, middle)) / (15, 12, 10)).sum(axis=-1) < 1] = v
    return found


def hu(points_mm: np.ndarray) -> np.ndarray:
    return np.where(vertebrae(points_mm) > 0, 600.0, -50.0 + points_mm[..., 1])


@pytest.mark.parametrize("order", ["RAS", "LAS", "PIR", "SLP"])
def test_labels_with_axes_in_another_order_are_reordered(tmp_path: Path, order: str) -> None:
    save(tmp_path / "ct.nii.gz", noise())
    array, grid = from_sitk(sitk.DICOMOrient(to_sitk(labels(), GRID), order))
    write_labels(tmp_path / "seg.nii.gz", array, grid)
    _, image_grid = read_image(tmp_path / "ct.nii.gz")
    read, notes = read_vertebrae(tmp_path / "seg.nii.gz", tmp_path / "ct.nii.gz", image_grid)
    np.testing.assert_array_equal(read, labels())
    assert notes == ()
    check_label_grid(tmp_path / "seg.nii.gz", grid, tmp_path / "ct.nii.gz", image_grid)


def test_labels_of_an_untilted_series_as_dcm2niix_stores_them_fit(tmp_path: Path) -> None:
    """dcm2niix turns the rows of a series around."""
    write_tilted(tmp_path / "ct", hu, 0)
    image, grid = read_image(tmp_path / "ct")
    array, turned = from_sitk(sitk.Flip(to_sitk(vertebrae(grid.points_mm()), grid), (False, True, False), False))
    write_labels(tmp_path / "seg.nii.gz", array, turned)
    read, notes = read_vertebrae(tmp_path / "seg.nii.gz", tmp_path / "ct", grid)
    np.testing.assert_array_equal(read, vertebrae(grid.points_mm()))
    assert notes == () and image.shape == grid.shape


@pytest.mark.parametrize("degrees", [8, -15])
def test_labels_of_a_tilted_series_are_resampled_by_position(tmp_path: Path, degrees: float) -> None:
    write_tilted(tmp_path / "ct", hu, degrees)
    _, grid = read_image(tmp_path / "ct")
    write_labels(tmp_path / "seg.nii.gz", vertebrae(BIG.points_mm()), BIG)
    read, (note,) = read_vertebrae(tmp_path / "seg.nii.gz", tmp_path / "ct", grid)
    assert read.shape == grid.shape and "resampled by position" in note
    found, expected = centroids_mm(read, grid), centroids_mm(vertebrae(BIG.points_mm()), BIG)
    for v in (20, 21, 22):
        np.testing.assert_allclose(found[v], expected[v], atol=0.1)
    overlap = (read > 0) & (vertebrae(grid.points_mm()) > 0)
    assert 2 * overlap.sum() / ((read > 0).sum() + (vertebrae(grid.points_mm()) > 0).sum()) > 0.95


def elsewhere(grid: Grid) -> Grid:
    return Grid(grid.shape, grid.spacing_mm, (400.0, 0.0, 0.0), grid.direction)


def finer(grid: Grid) -> Grid:
    return Grid(grid.shape, (0.5, 0.5, 0.5), grid.origin_mm, grid.direction)


def turned(grid: Grid) -> Grid:
    matrix = Rotation.from_euler("z", 5, degrees=True).as_matrix()
    return Grid(grid.shape, grid.spacing_mm, grid.origin_mm, tuple(matrix.ravel()))


def test_labels_outside_a_tilted_series_are_refused(tmp_path: Path) -> None:
    write_tilted(tmp_path / "ct", hu, 10)
    _, grid = read_image(tmp_path / "ct")
    write_labels(tmp_path / "seg.nii.gz", vertebrae(BIG.points_mm()), elsewhere(BIG))
    with pytest.raises(
        BadInput, match=r"seg\.nii\.gz: expected labels inside .*ct, found 100 % of their volume outside"
    ):
        read_vertebrae(tmp_path / "seg.nii.gz", tmp_path / "ct", grid)


@pytest.mark.parametrize("change", [elsewhere, finer, turned])
def test_labels_on_another_grid_than_a_file_are_refused(tmp_path: Path, change: Callable[[Grid], Grid]) -> None:
    save(tmp_path / "ct.nii.gz", noise())
    write_labels(tmp_path / "seg.nii.gz", labels(), change(GRID))
    with pytest.raises(BadInput, match=r"seg\.nii\.gz: expected the grid of .*ct\.nii\.gz"):
        read_vertebrae(tmp_path / "seg.nii.gz", tmp_path / "ct.nii.gz", GRID)


def test_an_untilted_series_refuses_labels_on_another_grid_also_by_header(tmp_path: Path) -> None:
    write_tilted(tmp_path / "ct", hu, 0)
    write_labels(tmp_path / "seg.nii.gz", vertebrae(BIG.points_mm()), BIG)
    grid = read_grid(tmp_path / "ct")
    assert grid == read_image(tmp_path / "ct")[1]
    with pytest.raises(BadInput, match="expected the grid of"):
        check_label_grid(tmp_path / "seg.nii.gz", BIG, tmp_path / "ct", grid)


def test_a_patient_with_a_tilted_series_is_used_with_a_note(tmp_path: Path) -> None:
    folder = write(tmp_path / "patients" / "p1", displacement_mm=None)
    (folder / "ct.nii.gz").unlink()
    mask = arrays()["ct_labels"]

    def stored(points_mm: np.ndarray) -> np.ndarray:
        index = np.rint(PATIENT_GRID.to_indices_xyz(points_mm)).astype(int)[..., ::-1]
        index = np.moveaxis(index.clip(0, np.array(PATIENT_GRID.shape) - 1), -1, 0)
        return np.where(mask[tuple(index)] > 0, 600, -50 + 3 * np.sin(points_mm).sum(axis=-1))

    write_tilted(folder / "ct", stored, 12, origin=(-20.0, -5.0, 95.0), size=(50, 50), slices=50, spacing=(0.9, 0.9))
    dataset = Folders("folders", dir=folder.parent)
    dataset.check("p1")
    result = invoke("run", "--dataset", f"folders:{folder.parent}", "--methods", "initial", "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert "p1 is used with doubt: " in words and "resampled by position" in words
