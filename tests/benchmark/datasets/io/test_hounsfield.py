"""The unit of a CT, checked on bone in soft tissue and air."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmark.datasets.io.hounsfield import ct_doubts

FILE = Path("ct.nii.gz")


def body() -> tuple[np.ndarray, np.ndarray]:
    """Air, fat, muscle and bone in nested boxes, HU, and the labels of the bone."""
    hu = np.random.default_rng(0).normal(0, 15, (60, 60, 60)).astype(np.float32)
    depth = np.minimum.reduce(np.minimum(np.indices(hu.shape), 59 - np.indices(hu.shape)))
    hu += np.select([depth < 4, depth < 8, depth < 20], [-1000, -100, 50], 250)
    return hu, np.where(depth >= 20, 22, 0).astype(np.uint16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda hu: hu + 1024, "no value below"),
        (lambda hu: np.clip(hu + 1024, 0, None), "no value below 0; is it the MR"),
        (lambda hu: np.clip(hu, -160, 240) / 400 * 255 + 102, "no value below 0"),
        (lambda hu: (np.clip(hu, -1000, 2000) + 1000) / 3000, "no value below 0"),
        (lambda hu: hu / 1000 * 19 + 19, "no value below"),
        (lambda hu: hu - 1024, "vertebrae of -77"),
        (lambda hu: np.where(hu < -900, -1000, hu + 1024), "vertebrae of 127"),
        (lambda hu: np.where(hu < -50, hu, np.where(hu > 150, hu, hu + 600)), "soft tissue of 6"),
        (lambda hu: np.clip(hu, -160, 240), "of voxels at the lowest value, -160"),
    ],
)
def test_other_units_are_noticed(change: Callable[[np.ndarray], np.ndarray], words: str) -> None:
    hu, labels = body()
    (doubt,) = ct_doubts(FILE, change(hu), labels)
    assert doubt.startswith("ct.nii.gz: expected a CT in HU, found ") and words in doubt


def test_a_ct_in_hu_is_accepted() -> None:
    hu, labels = body()
    assert ct_doubts(FILE, hu, labels) == ()
    assert ct_doubts(FILE, np.where(hu < -900, -3024, hu), labels) == (), "padding outside a round field of view"
    assert ct_doubts(FILE, hu[8:-8, 8:-8, 8:-8] - 40, labels[8:-8, 8:-8, 8:-8]) == (), "a crop without air"


def test_labels_of_other_structures_need_not_be_bone() -> None:
    hu, labels = body()
    assert ct_doubts(FILE, np.where(labels > 0, -800, hu), None) == ()
