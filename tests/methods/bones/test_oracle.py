"""The oracle: each vertebra's transform comes from its fixed label, on any grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from support.bone_pairs import MOTION, OBLIQUE, apply, index_of, moved_pair, register, true_transform

from methods.base import Pair, Registration
from methods.geometry import to_voxels
from methods.registry import METHODS
from metrics.label_warping import warp_labels
from metrics.overlap import dice


def with_fixed_labels(pair: Pair, keep: tuple[int, ...] = (20, 21)) -> Pair:
    """The pair with the labels of its fixed image, moved by the true transforms."""
    moving = pair.moving.labels
    assert moving is not None
    fixed = np.zeros_like(moving)
    for v in keep:
        moved = index_of(apply(true_transform(v, moving, pair.grid), pair.grid.points_mm()), pair.grid)
        fixed[map_coordinates((moving == v).astype(float), moved, order=1) > 0.5] = v
    return replace(pair, fixed=replace(pair.fixed, labels=fixed))


@pytest.fixture(scope="module")
def pair() -> Pair:
    return with_fixed_labels(moved_pair(OBLIQUE))


@pytest.fixture(scope="module")
def registration(pair: Pair) -> Registration:
    return register("oracle-polyrigid", pair)


@pytest.mark.parametrize("label", sorted(MOTION))
def test_the_transform_of_a_bone_is_the_true_one_in_lps_millimetres(
    pair: Pair, registration: Registration, label: int
) -> None:
    points = pair.grid.points_mm()[pair.fixed.labels == label]
    true = apply(true_transform(label, pair.moving.labels, pair.grid), points)
    found = apply(registration.rigid_transforms[label], points)
    assert np.linalg.norm(true - points, axis=-1).mean() > 3
    assert np.linalg.norm(true - found, axis=-1).mean() < 0.5, "half of a voxel"


def test_the_warped_labels_lie_on_the_fixed_labels(pair: Pair, registration: Registration) -> None:
    labels, fixed = (torch.from_numpy(scan.labels.astype(np.int32)) for scan in (pair.moving, pair.fixed))
    warped = warp_labels(labels, to_voxels(registration.displacement_mm, pair.grid), [20, 21])
    assert dice(warped, fixed, [20, 21]).min() > 0.95


def test_a_bone_without_a_fixed_label_moves_with_its_neighbour(pair: Pair) -> None:
    found = register("oracle-polyrigid", with_fixed_labels(pair, keep=(21,)))
    assert found.notes["not_found"] == "20: moved as 21"
    np.testing.assert_array_equal(found.rigid_transforms[20], found.rigid_transforms[21])


def test_a_pair_without_fixed_labels_is_refused(pair: Pair) -> None:
    with pytest.raises(ValueError, match="pair token: expected fixed labels, got none; only `run` shows them"):
        register("oracle-polyrigid", pair.blind("token"))
    empty = replace(pair, fixed=replace(pair.fixed, labels=np.zeros_like(pair.fixed.labels)))
    with pytest.raises(ValueError, match="pair small: no vertebra is in both label maps"):
        register("oracle-polyrigid", empty)


def test_it_is_the_one_built_in_oracle() -> None:
    assert [e.name for e in METHODS if e.origin == "built in" and e.oracle] == ["oracle-polyrigid"]
