"""Vertebra labels as people bring them: other schemes, other structures, and contradictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import scan_files

from benchmark.datasets.io.images import write_image, write_labels
from benchmark.datasets.label_grids import read_vertebrae
from benchmark.errors import BadInput


def read(folder: Path, ids: dict[int, int], label_map: str | None = None, **options: bool) -> tuple:
    """The labels 20, 21, 22 of `scan_files`, stored with other ids, and read."""
    labels = scan_files.labels()
    stored = np.zeros_like(labels)
    for before, now in ids.items():
        stored[labels == before] = now
    write_image(folder / "ct.nii.gz", scan_files.noise(), scan_files.GRID)
    write_labels(folder / "mask.nii.gz", stored, scan_files.GRID)
    return read_vertebrae(folder / "mask.nii.gz", folder / "ct.nii.gz", scan_files.GRID, label_map, **options)


def test_verse_ids_are_read_without_notes(tmp_path: Path) -> None:
    labels, notes = read(tmp_path, {20: 20, 21: 21, 22: 22})
    np.testing.assert_array_equal(labels, scan_files.labels())
    assert notes == ()


def test_sacrum_and_discs_are_left_out_with_a_note(tmp_path: Path) -> None:
    labels, notes = read(tmp_path, {20: 24, 21: 124, 22: 26})
    assert list(np.unique(labels)) == [0, 24]
    assert len(notes) == 1 and "26 (sacrum), 124 (disc) are no vertebrae and left out" in notes[0]


@pytest.mark.parametrize(
    ("ids", "found"),
    [
        ({20: 31, 21: 30, 22: 29}, "found 29, 30, 31, which are no vertebrae"),
        ({20: 5, 21: 52, 22: 28}, "found 52, which are no vertebrae"),
        ({20: 26, 21: 26, 22: 26}, "found 26, which are no vertebrae"),
        ({20: 22, 21: 21, 22: 20}, "found ids numbered from the bottom up"),
        ({20: 28, 21: 28, 22: 25}, r"found T13 \(28\) without"),
    ],
)
def test_other_schemes_are_refused_and_label_map_is_named(tmp_path: Path, ids: dict[int, int], found: str) -> None:
    with pytest.raises(BadInput, match=rf"mask\.nii\.gz: expected .*{found}.*--label-map\): spider, .*-1, .*YAML"):
        read(tmp_path, ids)


@pytest.mark.parametrize(
    ("label_map", "ids"),
    [
        ("totalsegmentator", {20: 31, 21: 30, 22: 29}), ("totalsegmentator-1", {20: 22, 21: 21, 22: 20}),
        ("totalsegmentator-mr", {20: 6, 21: 5, 22: 4}), ("spider", {20: 5, 21: 4, 22: 3}),
    ],
)  # fmt: skip
def test_a_label_map_gives_verse_ids(tmp_path: Path, label_map: str, ids: dict[int, int]) -> None:
    labels, notes = read(tmp_path, ids, label_map)
    np.testing.assert_array_equal(labels, scan_files.labels())
    assert notes == ()


def test_the_wrong_label_map_is_noticed(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"from the bottom up.* after label_map spineps; .*another scheme"):
        read(tmp_path, {20: 5, 21: 4, 22: 3}, "spineps")


def test_labels_of_any_structure_are_read_with_a_note_at_most(tmp_path: Path) -> None:
    labels, notes = read(tmp_path, {20: 3, 21: 2, 22: 1}, any_structure=True)
    assert list(np.unique(labels)) == [0, 1, 2, 3] and "from the bottom up" in notes[0]
    labels, notes = read(tmp_path, {20: 104, 21: 300, 22: 1}, any_structure=True)
    assert list(np.unique(labels)) == [0, 1, 104, 300] and notes == ()
