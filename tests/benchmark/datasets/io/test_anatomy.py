"""Vertebra ids against anatomy, on columns of blocks 30 mm apart."""

from __future__ import annotations

import re

import numpy as np
import pytest

from benchmark.datasets.io.anatomy import contradictions
from methods.base import Grid

STEP = 15  # voxels of 2 mm


def column(*ids: int) -> tuple[np.ndarray, Grid]:
    """Blocks from the head down, with id 0 where a level has no label, and their grid with 2 mm voxels."""
    labels = np.zeros((STEP * len(ids), 24, 24), np.uint16)
    for level, vertebra in enumerate(reversed(ids)):
        labels[STEP * level + 2 : STEP * level + 12, 6:18, 6:18] = vertebra
    return labels, Grid(labels.shape, (2.0, 2.0, 2.0))


@pytest.mark.parametrize(
    "ids",
    [
        (20, 21, 22, 23, 24), (18, 19, 28, 20, 21), (17, 18, 20, 21), (22,), (20, 21, 0, 23), (24, 25), (0, 1, 2, 3),
        (19, 20, 21),
    ],
)  # fmt: skip
def test_a_spine_with_common_variants_is_accepted(ids: tuple[int, ...]) -> None:
    assert contradictions(*column(*ids)) == ([], [])


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((24, 23, 22, 21), r"from the bottom up: L2 \(21\) lies lowest, L5 \(24\) highest"),
        ((20, 22, 21, 23), r"L3 \(22\) 30 mm above L2 \(21\)"),
        ((21, 22, 0, 22, 24), r"L3 \(22\) on two structures 60 mm apart"),
        ((28, 25), r"T13 \(28\) without T12 \(19\) and L1 \(20\)"),
        ((21, 20), r"L2 \(21\) 30 mm above L1 \(20\)"),
    ],
)
def test_a_contradiction_is_found(ids: tuple[int, ...], words: str) -> None:
    wrong, _ = contradictions(*column(*ids))
    assert wrong and re.search(words, wrong[0]), wrong


@pytest.mark.parametrize(
    ("ids", "words"),
    [
        ((20, 21, 22, 24), "an id is skipped?"),
        ((19, 20, 21, 0, 22), "a vertebra without label between them?"),
    ],
)
def test_an_uneven_step_is_a_doubt(ids: tuple[int, ...], words: str) -> None:
    wrong, doubts = contradictions(*column(*ids))
    assert wrong == [] and len(doubts) == 1 and doubts[0].endswith(words), doubts


def test_a_label_over_two_vertebrae_is_a_doubt() -> None:
    labels, grid = column(20, 21, 22, 22, 24)
    labels[STEP + 2 : 2 * STEP + 12, 14:16, 6:18] = 22  # the arches touch
    wrong, doubts = contradictions(labels, grid)
    assert wrong == [] and "L3 (22) is 48 mm tall, the others 18: two vertebrae?" in doubts


def test_a_fractured_vertebra_is_one_vertebra() -> None:
    labels, grid = column(20, 21, 22)
    labels[:, 11:13] = 0
    assert contradictions(labels, grid) == ([], [])
