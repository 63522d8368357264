"""Positions are refused, and a field that aligns the bones better in another reading is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.still_tissue import GRID, PAIR, TRUTH, bone_in_front_of_still_tissue, lps_field

from methods.base import Grid, Registration
from methods.field_doubts import are_normalised_positions, are_positions, from_normalised, suspicion
from methods.geometry import to_sitk
from methods.registry import create_method


def read(folder: Path, **settings: str) -> Registration:
    return create_method("precomputed", {"dir": str(folder), **settings}).register(PAIR)


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1)])
def test_positions_are_refused(tmp_path: Path, signs: tuple[int, int, int]) -> None:
    positions = (GRID.points_mm() + lps_field()) * signs
    sitk.WriteImage(to_sitk(positions.astype(np.float32), GRID), str(tmp_path / "anna.mha"))
    with pytest.raises(ValueError, match=r"anna\.mha: expected displacements, found positions \(a deformation field\)"):
        read(tmp_path)


def test_positions_in_voxels_are_refused(tmp_path: Path) -> None:
    x, y, z = GRID.shape[::-1]
    np.savez(tmp_path / "anna.npz", np.stack(np.meshgrid(*map(np.arange, (x, y, z)), indexing="ij")) + 2.0)
    with pytest.raises(ValueError, match="expected displacements, found positions"):
        read(tmp_path)


def test_a_rotation_by_20_degrees_is_a_displacement() -> None:
    c, s = np.cos(np.radians(20)), np.sin(np.radians(20))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    points = GRID.points_mm()
    assert not are_positions((points @ rotation.T - points).astype(np.float32), PAIR)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda u: -u, "with the reverse field ("),
        (lambda u: u[..., ::-1], "with components in the order z, y, x ("),
        (lambda u: u * (-1, -1, 1), "with x and y of the other sign (RAS)"),
        (lambda u: u * (1, 1, -1), "with the reverse field with x and y of the other sign (RAS)"),
    ],
)
def test_another_convention_is_noted_where_the_surroundings_agree_without_motion(
    tmp_path: Path, change: object, words: str
) -> None:
    field = np.ascontiguousarray(change(lps_field()), np.float32)
    sitk.WriteImage(to_sitk(field, GRID), str(tmp_path / "anna.mha"))
    assert words in str(read(tmp_path).notes["warning"])


def normalised(lps_mm: np.ndarray, corners: int) -> np.ndarray:
    """The same displacement as torch's grid_sample counts it. corners: 1 with align_corners, else 0."""
    return lps_mm * 2 / (np.array(GRID.shape[::-1]) - corners)


@pytest.mark.parametrize("corners", [0, 1])
@pytest.mark.parametrize("suffix", ["mha", "npz"])
def test_normalised_units_are_noted(tmp_path: Path, corners: int, suffix: str) -> None:
    field = normalised(lps_field(), corners).astype(np.float32)
    if suffix == "mha":
        sitk.WriteImage(to_sitk(field, GRID), str(tmp_path / "anna.mha"))
    else:
        np.savez(tmp_path / "anna.npz", field.transpose(2, 1, 0, 3))
    warning = str(read(tmp_path).notes["warning"])
    assert "with values from -1 to 1 over the grid, as torch's grid_sample has them (MIND" in warning


def test_normalised_units_of_the_reverse_field_are_noted() -> None:
    note = suspicion(normalised(-lps_field(), 1).astype(np.float32), PAIR)
    assert note is not None and "grid_sample has them, and the reverse field (" in note


def test_normalised_units_on_a_turned_and_anisotropic_grid_become_millimetres() -> None:
    turn = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)  # index x runs along +y, index y along -x
    grid = Grid((11, 21, 41), (1.0, 2.0, 3.0), (5.0, -4.0, 7.0), turn)
    part = np.tile(np.array([0.1, 0.2, -0.2], np.float32), (*grid.shape, 1))  # 2, 2 and -1 voxels along the axes
    expected = (-4.0, 2.0, -3.0)
    as_voxels = part * grid.spacing_mm @ grid.matrix.T  # read as a Learn2Reg array
    for values, unit in ((part, "mm"), (as_voxels, "voxels")):
        np.testing.assert_allclose(from_normalised(values, grid, unit)[0, 0, 0], expected, rtol=0.06)


@pytest.mark.parametrize("unit", ["mm", "voxels"])
def test_a_sampling_grid_is_refused(tmp_path: Path, unit: str) -> None:
    x, y, z = GRID.shape[::-1]
    axes = [np.linspace(-1, 1, n) for n in (x, y, z)]
    positions = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1) + normalised(lps_field(), 1).transpose(2, 1, 0, 3)
    if unit == "voxels":
        np.savez(tmp_path / "anna.npz", positions)
    else:
        sitk.WriteImage(to_sitk(positions.transpose(2, 1, 0, 3).astype(np.float32), GRID), str(tmp_path / "anna.mha"))
    with pytest.raises(ValueError, match=r"found positions from -1 to 1 \(a sampling grid of torch's grid_sample\)"):
        read(tmp_path)


@pytest.mark.parametrize("motion", [(0.0, 0.0, 0.0), (1.0, 0.0, 0.0), (1.0, 0.0, -1.0)])
@pytest.mark.parametrize("part", [0.2, 0.9])
def test_a_small_field_has_no_note_where_the_motion_is_small(motion: tuple[float, ...], part: float) -> None:
    pair = bone_in_front_of_still_tissue(np.array(motion, np.float32))
    small = np.tile(np.array(motion if any(motion) else (0.5, 0.2, 0.1), np.float32) * part, (*GRID.shape, 1))
    assert suspicion(small, pair) is None
    assert not are_normalised_positions(small, pair)


@pytest.mark.parametrize("part", [1.0, 0.5])
def test_a_right_field_has_no_note(part: float) -> None:
    assert suspicion(lps_field(TRUTH * part), PAIR) is None


def test_no_motion_has_no_note() -> None:
    assert suspicion(np.zeros((*GRID.shape, 3), np.float32), PAIR) is None
