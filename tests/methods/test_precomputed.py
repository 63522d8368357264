"""`precomputed`: all conventions give the same LPS millimetres; wrong files are refused, doubtful fields warned of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from methods.base import Grid, Pair, Scan
from methods.field_doubts import distance
from methods.geometry import to_sitk
from methods.precomputed import Precomputed
from methods.registry import create_method

TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # 90 degrees about z: index x runs along +y, index y along -x
GRID = Grid((8, 10, 12), (1.0, 2.0, 3.0), (5.0, -4.0, 7.0), TURN)


def pair_on(grid: Grid, displacement_mm: np.ndarray | None = None) -> Pair:
    """Smooth texture; the fixed image is the moving one pulled back by the displacement."""
    moving = gaussian_filter(np.random.default_rng(0).standard_normal(grid.shape), 2.0)
    moving = (moving - moving.min()) / np.ptp(moving)
    u = np.zeros((*grid.shape, 3)) if displacement_mm is None else displacement_mm
    index = np.moveaxis(grid.to_indices_xyz(grid.points_mm() + u)[..., ::-1], -1, 0)
    fixed = 1 - map_coordinates(moving, index, order=1, mode="nearest")
    labels = np.ones(grid.shape, np.uint16)
    return Pair("anna", Scan(fixed.astype(np.float32), None, grid), Scan(moving.astype(np.float32), labels, grid))


def read(folder: Path, pair: Pair, **settings: str) -> tuple[np.ndarray, dict[str, float | str]]:
    method = create_method("precomputed", {"dir": str(folder), **settings})
    assert method.unavailable("cpu") is None
    registration = method.register(pair)
    registration.check(pair.grid)
    return registration.displacement_mm, dict(registration.notes)


def in_voxels(shape: tuple[int, ...] = (12, 10, 8)) -> np.ndarray:
    """[X, Y, Z, 3]: 2 voxels along index x, 1 along y, -1 along z, all over."""
    return np.tile(np.array([2.0, 1.0, -1.0], np.float32), (*shape, 1))


# Along the grid's own axes (2, 1, -1) voxels are (2, 2, -3) mm; index x is +y and index y is -x in LPS.
EXPECTED_MM = (-2.0, 2.0, -3.0)


# --------------------------------------------------------------------------------------------------- conventions


def test_itk_field_is_returned_unchanged(tmp_path: Path) -> None:
    field = np.random.default_rng(0).standard_normal((*GRID.shape, 3)).astype(np.float32)
    for name in ("anna.nii.gz", "anna.mha"):
        sitk.WriteImage(to_sitk(field, GRID), str(tmp_path / name))
        displacement_mm, notes = read(tmp_path, pair_on(GRID))
        np.testing.assert_allclose(displacement_mm, field, atol=1e-6)
        assert (notes["file"], notes["convention"]) == (name, "itk")
        (tmp_path / name).unlink()


@pytest.mark.parametrize("components_first", [True, False])
@pytest.mark.parametrize("half", [True, False])
@pytest.mark.parametrize("suffix", ["npz", "npy", "nii.gz"])
def test_learn2reg_voxels_become_millimetres(tmp_path: Path, suffix: str, half: bool, components_first: bool) -> None:
    """An array of half resolution also counts voxels of the full-resolution grid."""
    values = in_voxels((6, 5, 4) if half else (12, 10, 8))
    values = np.moveaxis(values, -1, 0) if components_first else values
    path = tmp_path / f"disp_anna.{suffix}"
    if suffix == "npz":
        np.savez_compressed(path, values.astype(np.float16))
    elif suffix == "npy":
        np.save(path, values)
    else:
        sitk.WriteImage(sitk.GetImageFromArray(np.ascontiguousarray(values.T), isVector=False), str(path))
    displacement_mm, notes = read(tmp_path, pair_on(GRID))
    np.testing.assert_allclose(displacement_mm, np.broadcast_to(EXPECTED_MM, displacement_mm.shape), atol=1e-3)
    assert notes["convention"] == "learn2reg"


def test_each_voxel_of_a_learn2reg_array_keeps_its_place(tmp_path: Path) -> None:
    values = np.zeros((12, 10, 8, 3), np.float32)
    values[3, 5, 7] = (2, 1, -1)
    np.savez(tmp_path / "anna.npz", values)
    displacement_mm, _ = read(tmp_path, pair_on(GRID))
    np.testing.assert_allclose(displacement_mm[7, 5, 3], EXPECTED_MM, atol=1e-5)
    assert np.count_nonzero(displacement_mm.any(axis=-1)) == 1


def test_the_setting_overrides_the_convention_of_the_folder(tmp_path: Path) -> None:
    """The file is a vector image in voxels; by default a vector image is read as millimetres."""
    sitk.WriteImage(to_sitk(in_voxels((8, 10, 12)), GRID), str(tmp_path / "anna.nii.gz"))
    assert read(tmp_path, pair_on(GRID))[1]["convention"] == "itk"
    for name, text in (
        ("convention.json", '{"convention": "learn2reg"}'),
        ("convention.yaml", "convention: learn2reg"),
    ):
        (tmp_path / name).write_text(text)
        displacement_mm, notes = read(tmp_path, pair_on(GRID))
        np.testing.assert_allclose(displacement_mm[0, 0, 0], EXPECTED_MM, atol=1e-5)
        assert notes["convention"] == "learn2reg"
    assert read(tmp_path, pair_on(GRID), convention="itk")[1]["convention"] == "itk"
    (tmp_path / "convention.yaml").write_text("convention: ants")
    with pytest.raises(ValueError, match=r"convention\.yaml: expected 'convention: itk' or"):
        read(tmp_path, pair_on(GRID))


# ----------------------------------------------------------------------------------------------- unusable files


def test_unusable_files_are_named(tmp_path: Path) -> None:
    pair = pair_on(GRID)
    with pytest.raises(
        FileNotFoundError, match=r"expected the field of anna as anna\.nii\.gz or anna\.npz, found none"
    ):
        read(tmp_path, pair)
    path = tmp_path / "anna.npz"
    path.write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"anna\.npz: expected numpy's format"):
        read(tmp_path, pair)
    np.savez(path, a=in_voxels(), b=in_voxels())
    with pytest.raises(ValueError, match="expected one array in the file, found a, b"):
        read(tmp_path, pair)
    np.savez(path, in_voxels((12, 10, 9)))
    with pytest.raises(ValueError, match=r"\(X, Y, Z\) = \(12, 10, 8\) or \(6, 5, 4\), found \(12, 10, 9, 3\)"):
        read(tmp_path, pair)
    np.savez(path, np.full_like(in_voxels(), np.nan))
    with pytest.raises(ValueError, match="expected finite displacements"):
        read(tmp_path, pair)
    with pytest.raises(ValueError, match="expected ITK's displacement field, a vector image"):
        read(tmp_path, pair, convention="itk")
    np.save(tmp_path / "anna.npy", in_voxels())
    with pytest.raises(ValueError, match=r"expected one field of anna, found anna\.npz, anna\.npy; keep one"):
        read(tmp_path, pair)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (Grid((8, 10, 11), GRID.spacing_mm, GRID.origin_mm, TURN), r"expected the case's grid, \(8, 10, 12\)"),
        (Grid(GRID.shape, GRID.spacing_mm, (5.0, -4.0, 8.0), TURN), "found voxels up to 1 mm from it"),
        (Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm), "mm from it; resample it"),
    ],
)
def test_itk_field_on_another_grid_is_refused(tmp_path: Path, grid: Grid, message: str) -> None:
    sitk.WriteImage(to_sitk(np.zeros((*grid.shape, 3), np.float32), grid), str(tmp_path / "anna.mha"))
    with pytest.raises(ValueError, match=message):
        read(tmp_path, pair_on(GRID))


def test_without_a_folder_it_is_unavailable(tmp_path: Path) -> None:
    assert "say precomputed:DIR" in (create_method("precomputed").unavailable("cpu") or "")
    assert "found none at" in (create_method("precomputed", {"dir": str(tmp_path / "no")}).unavailable("cpu") or "")


def test_a_replaced_field_changes_the_fingerprint(tmp_path: Path) -> None:
    method = create_method("precomputed", {"dir": str(tmp_path)})
    np.savez(tmp_path / "anna.npz", in_voxels())
    before = method.fingerprint()
    assert json.loads(before)[0][0] == "anna.npz"
    np.savez(tmp_path / "anna.npz", in_voxels()[:6])
    assert method.fingerprint() != before


# ---------------------------------------------------------------------------------------------- wrong convention

CUBE = Grid((32, 36, 40), (1.0, 1.0, 1.0))


@pytest.mark.parametrize(
    ("change", "warning"),
    [
        (lambda u: -u, "the reverse field"),
        (lambda u: u[..., ::-1], "components in the order z, y, x"),
        (lambda u: u * (-1, -1, 1), "x and y of the other sign"),
    ],
)
def test_a_field_of_another_convention_is_warned_of(tmp_path: Path, change: object, warning: str) -> None:
    truth = np.tile(np.array([3.0, 1.0, -2.0]), (*CUBE.shape, 1))
    field = np.ascontiguousarray(change(truth), np.float32)
    sitk.WriteImage(to_sitk(field, CUBE), str(tmp_path / "anna.mha"))
    _, notes = read(tmp_path, pair_on(CUBE, truth))
    assert warning in str(notes["warning"])


def test_a_correct_field_and_one_that_no_convention_corrects_give_no_warning(tmp_path: Path) -> None:
    truth = np.tile(np.array([3.0, 1.0, -2.0]), (*CUBE.shape, 1))
    for displacement_mm, pair in ((truth, pair_on(CUBE, truth)), (truth, pair_on(CUBE))):
        sitk.WriteImage(to_sitk(displacement_mm.astype(np.float32), CUBE), str(tmp_path / "anna.mha"))
        assert "warning" not in read(tmp_path, pair)[1]


def test_the_distance_is_least_at_the_true_length() -> None:
    """Comparing every second voxel does not change the unit of the displacement."""
    truth = np.tile(np.array([3.0, 1.0, -2.0], np.float32), (*CUBE.shape, 1))
    everywhere = torch.ones((1, 1, *CUBE.shape))
    distances = [distance(truth * scale, pair_on(CUBE, truth), everywhere) for scale in (0.5, 1.0, 2.0)]
    assert distances.index(min(distances)) == 1


def test_no_other_built_in_method_receives_the_cases_name() -> None:
    from methods.registry import METHODS

    assert [e.name for e in METHODS if e.origin == "built in" and e.load().knows_case] == ["precomputed"]
    assert Precomputed.argument == "dir"
