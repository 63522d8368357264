"""The distortion of an MR: of third order, limited, and rigid for a bone."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.synthesis.distortion import Distortion, draw_distortion
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid

CENTRES = np.array([[0, 0, 100.0], [0, 5, 0], [0, 0, -100.0]])


def test_it_grows_with_the_third_power_up_to_the_edge_of_the_field_of_view() -> None:
    distortion = Distortion(2.0, np.array([10.0, 0, 0]), 100.0, np.diag([1.0, -1.0, 0.5]))
    points = np.array([[10.0, 0, 0], [60, 0, 0], [110, 0, 0], [310, 0, 0], [10, 50, 0], [10, 0, 100]])
    expected = [[0, 0, 0], [0.25, 0, 0], [2, 0, 0], [2, 0, 0], [0, -0.25, 0], [0, 0, 1]]
    np.testing.assert_allclose(distortion.at(points), expected, atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_no_point_is_displaced_further_than_the_size_and_no_bone_is_far_from_rigid(seed: int) -> None:
    distortion = draw_distortion(PortableRng(seed), CENTRES, (2.0, 2.0))
    grid = Grid((31, 21, 21), (12.0, 12.0, 12.0), (-120.0, -120.0, -180.0))
    field = distortion.on(grid)
    assert 1.0 < np.linalg.norm(field, axis=0).max() < 2.001
    np.testing.assert_allclose(np.moveaxis(field, 0, -1).reshape(-1, 3), distortion.at(grid.points_mm().reshape(-1, 3)),
                               atol=1e-4)  # fmt: skip
    bone = CENTRES[0] + np.array([(0, 0, 0), (20, 0, 10), (-20, 0, -10), (0, 20, 10), (0, -15, -10), (0, 55, -15)])
    rotation, translation = distortion.rigid_part(bone)
    left = bone + distortion.at(bone) - bone @ rotation.T - translation
    assert np.linalg.norm(left, axis=1).max() < 1.0 and np.sqrt(np.square(left).sum(axis=1).mean()) < 0.6


def test_no_size_is_no_distortion() -> None:
    distortion = draw_distortion(PortableRng(0), CENTRES, (0.0, 0.0))
    assert (distortion.at(CENTRES) == 0).all()
    rotation, translation = distortion.rigid_part(CENTRES + np.array([[0, 0, 0], [1.0, 0, 0], [0, 1.0, 0]]))
    np.testing.assert_allclose(rotation, np.eye(3), atol=1e-9)
    np.testing.assert_allclose(translation, 0, atol=1e-6)
