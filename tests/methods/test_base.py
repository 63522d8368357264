"""The contract's types refuse wrong arrays and name the argument."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from methods.base import Grid, Method, Pair, Progress, Registration, Scan, trainable, vertebra_ids
from methods.registry import create_method

GRID = Grid((2, 3, 4))
FIELD = np.zeros((*GRID.shape, 3), np.float32)
IMAGE, LABELS = np.zeros(GRID.shape, np.float32), np.ones(GRID.shape, np.uint16)


def pair_of_scans() -> Pair:
    return Pair("anna", Scan(IMAGE, LABELS, GRID), Scan(IMAGE, LABELS, GRID))


def test_a_displacement_on_the_grid_in_millimetres_is_accepted() -> None:
    Registration(FIELD).check(GRID)


@pytest.mark.parametrize(
    ("displacement", "message"),
    [
        (FIELD.astype(np.float64), "float32"),
        (FIELD[:1], "shape"),
        (np.full_like(FIELD, np.inf), "finite millimetres, got NaN or infinity in 72 of 72 values"),
        (np.full_like(FIELD, 100.0), "expected millimetres, got a median length of 173.2"),
        (FIELD.tolist(), "numpy array"),
    ],
)
def test_a_displacement_that_cannot_be_evaluated_is_refused(displacement: object, message: str) -> None:
    with pytest.raises(ValueError, match=f"displacement_mm: .*{message}"):
        Registration(displacement).check(GRID)


def test_a_blind_pair_has_a_token_and_no_fixed_labels() -> None:
    pair = pair_of_scans()
    blind = pair.blind("token")
    assert blind.case == "token" and blind.fixed.labels is None
    assert blind.moving.labels is LABELS and blind.fixed.image is IMAGE


def test_a_pair_on_two_grids_is_refused() -> None:
    other = Grid((2, 3, 4), (2.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="pair anna: expected one grid"):
        Pair("anna", Scan(IMAGE, LABELS, GRID), Scan(IMAGE, LABELS, other))


def test_a_pair_without_moving_labels_is_refused() -> None:
    with pytest.raises(ValueError, match="pair anna: the moving scan has no labels"):
        Pair("anna", Scan(IMAGE, LABELS, GRID), Scan(IMAGE, None, GRID))


def test_labels_of_another_type_are_refused() -> None:
    with pytest.raises(ValueError, match="labels: expected uint16, got int64"):
        Scan(IMAGE, LABELS.astype(np.int64), GRID)


def test_an_image_on_another_grid_is_refused() -> None:
    with pytest.raises(ValueError, match="image: expected the grid's shape"):
        Scan(IMAGE[1:], LABELS, GRID)


@pytest.mark.parametrize(
    ("inside", "message"),
    [
        (np.ones(GRID.shape, np.uint8), "inside: expected bool, got uint8"),
        (np.ones((1, 3, 4), bool), "inside: expected the grid's shape"),
        (np.zeros(GRID.shape, bool), "inside: expected a scan that saw at least one voxel"),
    ],
)
def test_a_wrong_field_of_view_is_refused(inside: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Scan(IMAGE, LABELS, GRID, inside)


def test_an_unknown_modality_is_refused() -> None:
    with pytest.raises(ValueError, match="modality: expected ct, mr, cbct, got 'pet'"):
        Scan(IMAGE, LABELS, GRID, modality="pet")


def test_a_blind_pair_keeps_field_of_view_and_modality() -> None:
    inside = np.arange(24).reshape(GRID.shape) > 4
    pair = Pair("anna", Scan(IMAGE, LABELS, GRID, inside, "mr"), Scan(IMAGE, LABELS, GRID, ~inside, "cbct"))
    blind = pair.blind("token")
    assert blind.fixed.inside is inside and blind.fixed.modality == "mr"
    assert blind.moving is pair.moving


def test_vertebra_ids_are_ascending_without_background() -> None:
    assert list(vertebra_ids(np.array([[22, 0], [20, 22]], np.uint16))) == [20, 22]


def test_a_method_without_fit_is_not_trainable_and_says_so(tmp_path: Path) -> None:
    method: Method = create_method("initial")
    assert not trainable(method) and trainable(create_method("voxelmorph"))
    with pytest.raises(TypeError, match="method initial has nothing to train"):
        method.fit([], [], tmp_path, 0, Progress())
