"""NIfTI geometry in force: forms, units and shear."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
from support.scan_files import GRID, file_with, labels, noise, turned

from benchmark.datasets.io.images import check_same_grid, corners_mm, read_image, read_labels
from benchmark.errors import BadInput
from methods.base import Grid

UNITS, PIXDIM, Q_CODE, S_CODE, S_FORM, Q_OFFSET = 123, 80, 252, 254, 280, 268
METRES, MICROMETRES = 1, 3


def ras_rows(grid: Grid, shear_degrees: float = 0.0) -> np.ndarray:
    """The 3 x 4 RAS matrix of a grid, its third axis inclined towards the second."""
    to_ras = np.diag([-1.0, -1.0, 1.0])
    columns = to_ras @ grid.matrix @ np.diag(grid.spacing_mm)
    columns[:, 2] += grid.spacing_mm[2] * np.tan(np.radians(shear_degrees)) * (to_ras @ grid.matrix)[:, 1]
    return np.column_stack([columns, to_ras @ grid.origin_mm])


def with_shear(folder: Path, array: np.ndarray, degrees: float, grid: Grid = GRID) -> Path:
    return file_with(folder, array, (S_FORM, ras_rows(grid, degrees)), (Q_CODE, np.int16(0)), grid=grid)


def test_an_s_form_alone_decides_the_spacing(tmp_path: Path) -> None:
    rows = ras_rows(GRID)
    rows[:, :3] *= 2
    path = file_with(tmp_path, noise(), (S_FORM, rows), (Q_CODE, np.int16(0)))
    _, grid = read_image(path)
    np.testing.assert_allclose(grid.spacing_mm, np.multiply(GRID.spacing_mm, 2), rtol=1e-6)
    np.testing.assert_allclose(grid.origin_mm, GRID.origin_mm, rtol=1e-6)
    affine = nibabel.load(path).affine
    np.testing.assert_allclose(corners_mm(grid)[-1] * (-1, -1, 1), affine[:3] @ [17, 19, 29, 1], atol=1e-3)


def test_an_s_form_alone_decides_on_an_oblique_grid(tmp_path: Path) -> None:
    grid = turned(30)
    path = file_with(tmp_path, noise(), (S_FORM, ras_rows(grid)), (Q_CODE, np.int16(0)), (PIXDIM, [3, 3, 3]), grid=grid)
    np.testing.assert_allclose(corners_mm(read_image(path)[1]), corners_mm(grid), atol=1e-3)


def test_a_q_form_alone_is_read_whatever_the_s_form_says(tmp_path: Path) -> None:
    path = file_with(tmp_path, noise(), (S_FORM, np.ones((3, 4))), (S_CODE, np.int16(0)))
    np.testing.assert_allclose(corners_mm(read_image(path)[1]), corners_mm(GRID), atol=1e-4)


def test_without_both_forms_pixdim_is_the_spacing(tmp_path: Path) -> None:
    path = file_with(tmp_path, noise(), (Q_CODE, np.int16(0)), (S_CODE, np.int16(0)))
    np.testing.assert_allclose(read_image(path)[1].spacing_mm, GRID.spacing_mm, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_an_s_form_that_is_no_geometry_is_refused(tmp_path: Path, value: float) -> None:
    path = file_with(tmp_path, noise(), (S_FORM, np.full((3, 4), value)), (Q_CODE, np.int16(0)))
    with pytest.raises(BadInput, match="found an affine that is not finite or has parallel axes; export it again"):
        read_image(path)


@pytest.mark.parametrize(("code", "factor"), [(METRES, 1e-3), (MICROMETRES, 1e3), (0, 1.0)])
@pytest.mark.parametrize("form", [Q_CODE, S_CODE])
def test_the_unit_applies_to_spacing_and_position(tmp_path: Path, code: int, factor: float, form: int) -> None:
    rows, origin = ras_rows(GRID), ras_rows(GRID)[:, 3]
    path = file_with(
        tmp_path, noise(), (UNITS, np.uint8(code)), (PIXDIM, np.multiply(GRID.spacing_mm, factor)),
        (S_FORM, rows * factor), (Q_OFFSET, origin * factor), (form, np.int16(0)),
    )  # fmt: skip
    np.testing.assert_allclose(corners_mm(read_image(path)[1]), corners_mm(GRID), atol=1e-3)


def test_millimetres_declared_as_metres_are_refused(tmp_path: Path) -> None:
    path = file_with(tmp_path, noise(), (UNITS, np.uint8(METRES)))
    with pytest.raises(BadInput, match=r"found spacing_mm \(1000, 1100, 1200\); correct its unit"):
        read_image(path)


def test_a_harmless_shear_is_read_with_the_nearest_rotation(tmp_path: Path) -> None:
    """0.05 degrees over 35 mm are 0.03 mm. The direction is a rotation and no voxel moves by more than 0.1 mm."""
    for grid in (GRID, turned(30)):
        path = with_shear(tmp_path, noise(), 0.05, grid)
        image, found = read_image(path)
        np.testing.assert_array_equal(image, noise())
        np.testing.assert_allclose(found.matrix @ found.matrix.T, np.eye(3), atol=1e-9)
        affine = nibabel.load(path).affine
        index = np.array([[i, j, k] for i in (0, 17) for j in (0, 19) for k in (0, 29)])
        stored = (index @ affine[:3, :3].T + affine[:3, 3]) * (-1, -1, 1)
        assert np.linalg.norm(found.to_points_mm(index) - stored, axis=1).max() < 0.02


def test_labels_with_the_same_shear_fit_their_image(tmp_path: Path) -> None:
    (tmp_path / "labels").mkdir()
    image_path, labels_path = with_shear(tmp_path, noise(), 0.05), with_shear(tmp_path / "labels", labels(), 0.05)
    check_same_grid(labels_path, read_labels(labels_path)[1], image_path, read_image(image_path)[1])


def test_a_shear_that_moves_voxels_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(
        BadInput, match=r"found a shear of 1 degrees, which moves voxels by 0\.\d+ mm .*; save the q-form alone, or res"
    ):
        read_image(with_shear(tmp_path, noise(), 1.0))


def test_a_shear_beside_a_q_form_is_not_in_force(tmp_path: Path) -> None:
    path = file_with(tmp_path, noise(), (S_FORM, ras_rows(GRID, 0.1)))
    np.testing.assert_allclose(corners_mm(read_image(path)[1]), corners_mm(GRID), atol=1e-4)
