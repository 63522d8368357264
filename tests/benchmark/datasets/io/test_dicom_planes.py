"""DICOM slices that are no right-angled box: read where ImagePositionPatient puts them, or refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from benchmark.datasets.io.images import read_image
from benchmark.errors import BadInput
from methods.base import Grid

UID = "1.2.826.0.1.3680043.2.1125"
ORIGIN, SPACING, ROWS, COLUMNS, DISTANCE = np.array([-20.0, 10.0, 50.0]), (0.8, 1.1), 24, 20, 2.5
SLOPE = np.array([3.0, -5.0, 7.0])  # of the pattern, a linear function of the position
AXIAL = np.eye(3)[:2]


def pattern(points_mm: np.ndarray) -> np.ndarray:
    return (points_mm - ORIGIN) @ SLOPE + 20


def tilted(degrees: float) -> np.ndarray:
    return Rotation.from_euler("x", -degrees, degrees=True).apply(AXIAL)


def write_slice(
    file: Path, axes: np.ndarray, position_mm: np.ndarray, spacing: Sequence[float] = SPACING, values: object = None,
    tags: dict[str, str] | None = None,
) -> None:  # fmt: skip
    """One slice with the pattern, or `values`, stored in hundredths."""
    y, x = np.mgrid[:ROWS, :COLUMNS]
    points = position_mm + x[..., None] * spacing[0] * axes[0] + y[..., None] * spacing[1] * axes[1]
    array = np.rint(100 * pattern(points)).astype(np.int32) if values is None else np.asarray(values, np.int32)
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    number = file.stem
    known = {
        "0020|000e": f"{UID}.1", "0008|0018": f"{UID}.1.{number}", "0020|000d": f"{UID}.9", "0020|0013": number,
        "0008|0060": "CT", "0020|0037": "\\".join(f"{v:.6f}" for v in np.ravel(axes)),
        "0020|0032": "\\".join(f"{v:.6f}" for v in position_mm),
    }  # fmt: skip
    for key, value in {**known, **(tags or {})}.items():
        image.SetMetaData(key, value)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(file))
    writer.Execute(image)


def series(folder: Path, axes: np.ndarray, positions_mm: Sequence[np.ndarray]) -> Path:
    folder.mkdir(exist_ok=True)
    for k, position in enumerate(positions_mm):
        write_slice(folder / f"{len(positions_mm) - k}.dcm", axes, np.asarray(position, float))
    return folder


def along_z(count: int = 12, step: float = DISTANCE) -> list[np.ndarray]:
    return [np.add(ORIGIN, (0, 0, step * k)) for k in range(count)]


def check_pattern(image: np.ndarray, grid: Grid, covered: float) -> None:
    """Every voxel that a slice covers has the pattern; `covered` is their part of the grid."""
    seen = image > image.min()
    assert seen.mean() == pytest.approx(covered, abs=0.03)
    np.testing.assert_allclose(image[seen] / 100, pattern(grid.points_mm())[seen], atol=0.02)


@pytest.mark.parametrize("degrees", [5, 15, -20])
def test_gantry_tilt_is_resampled_on_the_true_planes(
    tmp_path: Path, degrees: float, capsys: pytest.CaptureFixture
) -> None:
    image, grid = read_image(series(tmp_path / "ct", tilted(degrees), along_z()))
    assert grid.spacing_mm == pytest.approx((*SPACING, DISTANCE * np.cos(np.radians(degrees))), abs=1e-5)
    np.testing.assert_allclose(grid.matrix @ grid.matrix.T, np.eye(3), atol=1e-6)
    rows = 11 * DISTANCE * np.sin(np.radians(abs(degrees))) / SPACING[1]
    assert grid.shape == (12, ROWS + int(np.ceil(rows)), COLUMNS)
    check_pattern(image, grid, (ROWS - 0.9) / grid.shape[1])
    assert f"a gantry tilt of {abs(degrees)} degrees" in capsys.readouterr().err


def test_tilted_slices_lie_at_their_positions(tmp_path: Path) -> None:
    """One bright voxel in each slice is found at its position, within the width of the interpolation."""
    folder, positions, axes = tmp_path / "ct", along_z(), tilted(15)
    folder.mkdir()
    for k, position in enumerate(positions):
        values = np.zeros((ROWS, COLUMNS), int)
        values[8, 6] = 1000
        write_slice(folder / f"{k}.dcm", axes, position, values=values)
    image, grid = read_image(folder)
    for k, position in enumerate(positions):
        bright = position + 6 * SPACING[0] * axes[0] + 8 * SPACING[1] * axes[1]
        y, x = np.mgrid[: grid.shape[1], : grid.shape[2]]
        weights = image[k] / image[k].sum()
        centre = grid.to_points_mm(np.array([(x * weights).sum(), (y * weights).sum(), k]))
        np.testing.assert_allclose(centre, bright, atol=2e-3)


def test_a_table_that_moves_in_plane_is_resampled_on_the_true_planes(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    positions = [np.add(p, (0, 7.4 * (k >= 6), 0)) for k, p in enumerate(along_z())]
    image, grid = read_image(series(tmp_path / "ct", AXIAL, positions))
    assert grid.shape == (12, ROWS + 7, COLUMNS)
    check_pattern(image, grid, ROWS / (ROWS + 7))
    assert "slices that are displaced in plane by up to 7.4 mm" in capsys.readouterr().err


def test_unequal_distances_are_resampled_on_the_true_planes(tmp_path: Path) -> None:
    heights = np.cumsum([0, 2.0, 2.6, 2.1, 2.9, 2.4, 2.0, 2.8, 2.3])
    image, grid = read_image(series(tmp_path / "ct", AXIAL, [np.add(ORIGIN, (0, 0, z)) for z in heights]))
    assert grid.spacing_mm[2] == pytest.approx(heights[-1] / 8)
    np.testing.assert_allclose(image / 100, pattern(grid.points_mm()), atol=0.02)


def test_rounded_positions_are_read_without_resampling(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    positions = [np.round(np.add(p, (0.02 * (k % 2), 0, 0)), 2) for k, p in enumerate(along_z(step=2.503))]
    image, grid = read_image(series(tmp_path / "ct", AXIAL, positions))
    assert image.shape == grid.shape == (12, ROWS, COLUMNS)
    assert capsys.readouterr().err == ""


def test_a_single_wider_gap_is_a_missing_slice(tmp_path: Path) -> None:
    positions = along_z()
    del positions[5]
    with pytest.raises(BadInput, match=r"found 5 mm between two of them and 2\.5 mm elsewhere; export the whole"):
        read_image(series(tmp_path / "ct", AXIAL, positions))


def test_slices_of_another_orientation_are_refused_with_the_angle(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", AXIAL, along_z())
    write_slice(folder / "scout.dcm", np.array([[1.0, 0, 0], [0, 0, -1.0]]), ORIGIN)
    with pytest.raises(BadInput, match=r"expected parallel slices, found .* turned by 90 degrees against"):
        read_image(folder)
    folder = series(tmp_path / "mr", AXIAL, along_z())
    write_slice(folder / "turned.dcm", tilted(2), np.add(ORIGIN, (0, 0, 60)))
    with pytest.raises(BadInput, match=r"turned by 2 degrees"):
        read_image(folder)


def test_slices_of_another_pixel_spacing_are_refused_with_both(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", AXIAL, along_z())
    write_slice(folder / "0.dcm", AXIAL, np.add(ORIGIN, (0, 0, 30)), spacing=(0.5, 0.5))
    with pytest.raises(BadInput, match=r"20 x 24.* of 0\.8 x 1\.1 mm .* and 20 x 24.* of 0\.5 x 0\.5 mm \(0\.dcm\)|"
                       r"20 x 24.* of 0\.5 x 0\.5 mm \(0\.dcm\) and"):  # fmt: skip
        read_image(folder)


def test_a_doubled_slice_is_named(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", AXIAL, along_z())
    write_slice(folder / "copy.dcm", AXIAL, along_z()[4])
    with pytest.raises(BadInput, match=r"one slice at each position, found (8|copy)\.dcm and (8|copy)\.dcm at one"):
        read_image(folder)


def test_echoes_in_one_series_are_refused_with_their_number(tmp_path: Path) -> None:
    folder = series(tmp_path / "mr", AXIAL, along_z())
    for k, position in enumerate(along_z()):
        write_slice(folder / f"{100 + k}.dcm", AXIAL, position)
    with pytest.raises(BadInput, match=r"found 2 at each of them \(echoes, phases or times\)"):
        read_image(folder)


def test_two_series_in_a_folder_are_counted(tmp_path: Path) -> None:
    folder = series(tmp_path / "ct", AXIAL, along_z())
    write_slice(folder / "0.dcm", AXIAL, ORIGIN, tags={"0020|000e": f"{UID}.2"})
    with pytest.raises(BadInput, match=r"found 2 series of (12 and 1|1 and 12) files; give each its own folder"):
        read_image(folder)
