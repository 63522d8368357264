"""The labels of two scans of one patient are of the same parts of the vertebrae, and numbered alike."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.label_agreement import compare_labels
from benchmark.datasets.vertebral_bodies import bodies_by_cut
from methods.base import Grid


@pytest.fixture(scope="module")
def spine() -> tuple[np.ndarray, Grid]:
    """Three vertebrae of a body (60 % of the volume), two pedicles and an arch."""
    grid = Grid((90, 60, 48))
    points = grid.points_mm() - (23.5, 20.0, 0.0)
    x, y, z = np.abs(points[..., 0]), points[..., 1], points[..., 2]
    labels = np.zeros(grid.shape, np.uint16)
    for vertebra, height in ((20, 74.5), (21, 44.5), (22, 14.5)):
        flat = np.abs(z - height)
        body = (x < 11) & (np.abs(y) < 9.5) & (flat < 9)
        pedicles = (x > 5) & (x < 9) & (y >= 9) & (y < 16) & (flat < 5)
        arch = (x < 16) & (y >= 16) & (y < 24) & (flat < 8)
        labels[body | pedicles | arch] = vertebra
    return labels, grid


def thirds(labels: np.ndarray) -> np.ndarray:
    """The left third of every vertebra, which is no body."""
    return np.where(np.arange(labels.shape[2]) < 19, labels, 0).astype(np.uint16)


def test_equal_labels_raise_no_doubt(spine: tuple[np.ndarray, Grid]) -> None:
    found = compare_labels(spine, spine)
    assert found.doubts == () and found.body_centroids is None


def test_other_volumes_of_the_same_vertebrae_are_a_doubt(spine: tuple[np.ndarray, Grid]) -> None:
    labels, grid = spine
    (doubt,) = compare_labels((thirds(labels), grid), spine).doubts
    assert doubt.startswith("fixed labels have 3") and "bodies against whole vertebrae, or other structures?" in doubt
    (doubt,) = compare_labels(spine, (thirds(labels), grid)).doubts
    assert doubt.startswith(("fixed labels have 2", "fixed labels have 3"))


def test_whole_vertebrae_against_bodies_are_a_doubt(spine: tuple[np.ndarray, Grid]) -> None:
    (doubt,) = compare_labels(spine, spine, bodies=thirds(spine[0])).doubts
    assert "whole vertebrae? `evaluate: vertebrae` compares these" in doubt


def test_a_cut_vertebra_says_nothing_about_the_parts(spine: tuple[np.ndarray, Grid]) -> None:
    labels, grid = spine
    ids = np.unique(labels)[1:]
    cut = np.where(np.isin(labels, ids[:-1]), thirds(labels), labels).astype(np.uint16)
    assert compare_labels((cut, grid), spine).doubts
    assert not compare_labels((cut, grid), spine, cut=frozenset(int(v) for v in ids[:-1])).doubts


def test_bodies_give_the_centroids_of_bodies_in_both_scans(spine: tuple[np.ndarray, Grid]) -> None:
    bodies = bodies_by_cut(*spine)
    found = compare_labels((bodies, spine[1]), spine)
    assert len(found.doubts) == 1 and "--evaluate bodies" in found.doubts[0]
    assert found.body_centroids is not None
    for v, point in found.body_centroids[0].items():
        np.testing.assert_allclose(point, found.body_centroids[1][v], atol=1e-6)
    assert compare_labels((bodies, spine[1]), spine, bodies=bodies).doubts == ()
