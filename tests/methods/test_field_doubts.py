"""Positions are refused, and a field that aligns the bones better in another reading is noted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.still_tissue import GRID, PAIR, TRUTH, lps_field

from methods.base import Registration
from methods.field_doubts import are_positions, suspicion
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


@pytest.mark.parametrize("part", [1.0, 0.5])
def test_a_right_field_has_no_note(part: float) -> None:
    assert suspicion(lps_field(TRUTH * part), PAIR) is None


def test_no_motion_has_no_note() -> None:
    assert suspicion(np.zeros((*GRID.shape, 3), np.float32), PAIR) is None
