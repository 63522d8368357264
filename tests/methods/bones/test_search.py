"""The search finds the rigid transform of each vertebra without fixed labels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support.bone_pairs import (
    MOTION,
    OBLIQUE,
    PLAIN,
    apply,
    fixed_position,
    moved_pair,
    register,
    rotation_deg,
    true_transform,
)

from methods.base import Grid, Pair, Scan
from methods.bones import search
from methods.bones.lattice import Pose
from methods.bones.search import SearchSettings, find_bones


@pytest.mark.parametrize("grid", [PLAIN, OBLIQUE], ids=["plain", "oblique"])
def test_the_motion_of_each_bone_is_found(grid: Grid) -> None:
    """The motion is up to 4 mm and 7 degrees; the error is below 0.3 mm and 0.5 degrees."""
    pair = moved_pair(grid)
    matches = find_bones(pair, SearchSettings())
    assert list(matches.to_moving) == [20, 21] and not matches.borrowed
    for v, transform in matches.to_moving.items():
        truth = true_transform(v, pair.moving.labels, grid)
        points = grid.points_mm()[fixed_position(v, pair, truth)]
        assert np.linalg.norm(apply(truth, points) - points, axis=1).mean() > 3, "the motion is not zero"
        assert np.linalg.norm(apply(transform, points) - apply(truth, points), axis=1).mean() < 0.3
        assert rotation_deg(np.linalg.inv(truth) @ transform) < 0.5


def test_matches_are_chosen_along_the_spine_with_t13_between_t12_and_l1(monkeypatch: pytest.MonkeyPatch) -> None:
    """T13 is 28 and lies above L1, 20."""
    pair = moved_pair(PLAIN)
    labels = np.select([pair.moving.labels == 20, pair.moving.labels == 21], [28, 20]).astype(np.uint16)
    found: list[float] = []

    def choose(centres_mm: np.ndarray, matches: object) -> list[None]:
        found.extend(centres_mm[:, 2])
        return [None, None]

    monkeypatch.setattr(search, "choose", choose)
    monkeypatch.setattr(search, "_matches", lambda *_: (Pose.identity(), torch.zeros(1)))
    with pytest.raises(ValueError, match="shows none of the 2"):
        find_bones(Pair("p", pair.fixed, replace(pair.moving, labels=labels)), SearchSettings())
    assert found == sorted(found, reverse=True), "from the head down"


@pytest.fixture
def alike(monkeypatch: pytest.MonkeyPatch) -> Pair:
    """Two bones that move almost alike, as neighbours do."""
    monkeypatch.setitem(MOTION, 20, ((3.0, 0.0, -1.0), (2.0, -2.0, 2.0)))
    monkeypatch.setitem(MOTION, 21, ((1.0, 2.0, 0.0), (2.0, -1.0, 1.0)))
    return moved_pair(PLAIN)


@pytest.mark.parametrize("wrong", [False, True])
def test_a_vertebra_without_its_right_match_is_found_from_its_neighbour(
    alike: Pair, monkeypatch: pytest.MonkeyPatch, wrong: bool
) -> None:
    """As where all matches of a small vertebra show other vertebrae: left out of the chain, or in a wrong place."""
    monkeypatch.setattr(search, "choose", lambda *_: [0 if wrong else None, 0])
    if wrong:
        matches = search._matches
        away = Pose(torch.eye(3)[None], torch.tensor([[4.0, -3.0, 5.0]]))
        first = iter([True, False])
        monkeypatch.setattr(search, "_matches", lambda *a: (away, torch.ones(1)) if next(first) else matches(*a))
    found = find_bones(alike, SearchSettings())
    assert not found.borrowed
    for v, transform in found.to_moving.items():
        truth = true_transform(v, alike.moving.labels, PLAIN)
        points = PLAIN.points_mm()[alike.moving.labels == v]
        assert np.linalg.norm(apply(transform, points) - apply(truth, points), axis=1).mean() < 0.3


def test_an_inverted_contrast_gives_the_same_transforms() -> None:
    pair = moved_pair(PLAIN)
    negative = Pair("n", Scan(1 - pair.fixed.image, None, PLAIN), pair.moving)
    transforms = [find_bones(p, SearchSettings()).to_moving for p in (pair, negative)]
    for v in (20, 21):
        np.testing.assert_allclose(transforms[0][v], transforms[1][v], atol=1e-2)


def test_a_vertebra_outside_the_fixed_image_moves_as_its_neighbour_and_is_named() -> None:
    pair = moved_pair(PLAIN)
    image = pair.fixed.image.copy()
    image[34:] = 0  # all of 20, at the top
    registration = register("edt-interpolation", Pair("p", Scan(image, None, PLAIN), pair.moving))
    assert registration.notes["not_found"] == "20: moved as 21"
    assert "20:" not in registration.notes["match_distances"]


def test_an_unseen_vertebra_moves_as_its_neighbour_whatever_the_image_shows_there() -> None:
    pair = moved_pair(PLAIN)
    inside = np.ones(PLAIN.shape, bool)
    inside[34:] = False  # all of 20, at the top
    registration = register("edt-interpolation", Pair("p", replace(pair.fixed, inside=inside), pair.moving))
    assert registration.notes["not_found"] == "20: moved as 21"


def test_a_vertebra_cut_by_the_border_is_found() -> None:
    """The grid ends in the middle of 20; the rest of 20 and all of 21 are found."""
    full = moved_pair(PLAIN)
    grid = replace(PLAIN, shape=(48, 52, 48))
    scans = [Scan(s.image[:48], None if s.labels is None else s.labels[:48], grid) for s in (full.fixed, full.moving)]
    matches = find_bones(Pair("cut", *scans), SearchSettings())
    for v, within_mm in ((20, 1.0), (21, 0.3)):
        truth = true_transform(v, full.moving.labels, PLAIN)
        points = grid.points_mm()[scans[1].labels == v]
        assert np.linalg.norm(apply(matches.to_moving[v], points) - apply(truth, points), axis=1).mean() < within_mm


def test_a_volume_smaller_than_a_descriptor_is_refused() -> None:
    """The volume has 4 x 5 x 6 voxels of 1 mm; a descriptor needs 7 voxels along each axis."""
    grid = Grid((4, 5, 6))
    rng = np.random.default_rng(0)
    labels = np.zeros(grid.shape, np.uint16)
    labels[1:3, 1:4, 1:5] = 7
    scans = [rng.random(grid.shape, np.float32) for _ in range(2)]
    with pytest.raises(ValueError, match="pair tiny: the fixed image shows none of the 1 labelled vertebrae"):
        register("polyrigid", Pair("tiny", Scan(scans[0], None, grid), Scan(scans[1], labels, grid)))
