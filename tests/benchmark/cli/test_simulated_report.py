"""`simulate` says how much of a motion is between bones, and which vertebrae its scan does not show whole."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.cli.simulated_report import MotionSize, input_notes, motion_size
from benchmark.datasets.synthesis.from_ct import SimulatedPair
from methods.base import Grid

GRID = Grid((40, 24, 20), origin_mm=(-10.0, 5.0, 100.0))


def pair(upper_mm: tuple[float, float, float], lower_mm: tuple[float, float, float]) -> SimulatedPair:
    """Two equal blocks, 20 above 21, each with its own shift."""
    labels = np.zeros(GRID.shape, np.uint16)
    labels[24:34, 8:16, 6:14], labels[8:18, 8:16, 6:14] = 20, 21
    displacement = np.zeros((*GRID.shape, 3), np.float32)
    displacement[labels == 20], displacement[labels == 21] = upper_mm, lower_mm
    image = np.zeros(GRID.shape, np.float32)
    centroids = {20: np.zeros(3), 21: np.zeros(3)}
    return SimulatedPair(image, labels, image, labels, displacement, labels > 0, centroids, GRID)


def test_one_rigid_motion_of_all_is_no_motion_between_bones() -> None:
    size = motion_size(pair((3, 4, 0), (3, 4, 0)))
    assert size.mean_mm == pytest.approx(5) and size.between_bones_mm == pytest.approx(0, abs=1e-4)
    words, doubt = size.describe(None)
    assert words.startswith("2 vertebrae, 5.0 mm apart, at most 5.0; motion between bones")
    assert doubt is not None and "--motion-mm" in doubt and "--seed" in doubt


def test_what_the_best_rigid_transform_leaves_is_the_motion_between_bones() -> None:
    """Blocks 16 mm apart that move 2 mm towards each other: no rigid transform reduces that."""
    size = motion_size(pair((0, 0, -2), (0, 0, 2)))
    assert size.between_bones_mm == pytest.approx(2, rel=1e-3)
    words, doubt = size.describe(2)
    assert "motion between bones 2 mm RMS (after the best single rigid transform of all)" in words and doubt is None


def test_less_motion_than_was_asked_for_is_a_doubt() -> None:
    _, doubt = motion_size(pair((0, 0, -2), (0, 0, 2))).describe(12)
    assert doubt is not None and "less motion than --motion-mm 12 asks for" in doubt


def test_one_vertebra_has_no_motion_between_bones() -> None:
    words, doubt = MotionSize(2.0, 2.0, 0.0, 1).describe(4)
    assert words == "1 vertebra, 2.0 mm apart, at most 2.0; the motion of one vertebra is rigid" and doubt is None


def test_cut_and_tiny_vertebrae_are_named() -> None:
    labels = pair((0, 0, 0), (0, 0, 0)).ct_labels.copy()
    assert input_notes(labels, GRID, frozenset()) == [
        "the CT is resampled to 1 mm and cropped to its labels and 40 mm around them"
    ]
    labels[0:2, 8:16, 6:14] = 22
    _, cut, tiny = input_notes(labels, GRID, frozenset({21, 22}))
    assert cut.startswith("cut by the scan's border: L2 (21); they move and are measured like the others")
    assert tiny == "under 500 mm3: L3 (22), 128 mm3; they move like the others and are not measured"
