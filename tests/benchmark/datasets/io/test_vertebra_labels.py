"""Vertebra labels as people bring them: other schemes, other structures, and contradictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import scan_files

from benchmark.datasets.io.images import write_image, write_labels
from benchmark.datasets.label_grids import read_vertebrae
from benchmark.errors import BadInput
from methods.base import Grid


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


def spine(folder: Path, ids: list[int], label_map: str | None = None) -> tuple:
    """Blocks of 14 mm, one above the other, with the ids from the bottom up, and read."""
    grid = Grid((16 * len(ids) + 4, 20, 18))
    labels = np.zeros(grid.shape, np.uint16)
    for i, v in enumerate(ids):
        labels[2 + 16 * i : 16 + 16 * i, 5:15, 5:13] = v
    write_image(folder / "ct.nii.gz", np.random.default_rng(0).normal(0, 100, grid.shape).astype(np.float32), grid)
    write_labels(folder / "mask.nii.gz", labels, grid)
    return read_vertebrae(folder / "mask.nii.gz", folder / "ct.nii.gz", grid, label_map)


@pytest.mark.parametrize(
    ("ids", "label_map", "scheme"),
    [
        ([27, 28, 29, 30], None, "totalsegmentator-1 or totalsegmentator-2"),
        ([18, 19, 20, 21], "totalsegmentator", "totalsegmentator-1 or totalsegmentator-mr"),
        ([43, 44, 45, 46], None, "totalsegmentator-2"), ([24, 23, 22], "totalsegmentator-1", "verse"),
        ([1, 2, 3, 4], None, "spider"),
    ],
)  # fmt: skip
def test_the_error_names_the_scheme_under_which_the_ids_are_consecutive(
    tmp_path: Path, ids: list[int], label_map: str | None, scheme: str
) -> None:
    with pytest.raises(BadInput, match=rf"\. As {scheme} the ids are consecutive$"):
        spine(tmp_path, ids, label_map)


def test_a_version_of_a_scheme_that_names_more_vertebrae_is_a_doubt(tmp_path: Path) -> None:
    labels, notes = spine(tmp_path, [24, 25, 26, 27, 28], "totalsegmentator-2")
    assert set(np.unique(labels)) == {0, 24, 23}
    assert len(notes) == 1 and "as totalsegmentator-1 the ids are consecutive; name the label_map" in notes[0]
    assert spine(tmp_path, [1, 2, 3, 4], "totalsegmentator-mr")[1] == (), "1 is the sacrum there and L5 for spider"


def test_a_skipped_id_names_the_scheme_in_which_none_is_skipped(tmp_path: Path) -> None:
    """Ids of VerSe's T12 to L2 with T13, as another scheme would number them, lie a vertebra apart."""
    (tmp_path / "map.yaml").write_text("27: 24\n28: 23\n29: 22\n30: 20\n", encoding="utf-8")
    _, notes = spine(tmp_path, [27, 28, 29, 30], str(tmp_path / "map.yaml"))
    assert "an id is skipped?" in notes[0] and "as totalsegmentator-1 or totalsegmentator-2 the ids" in notes[-1]


def test_the_value_1_alone_is_no_c1_without_a_word(tmp_path: Path) -> None:
    labels, notes = read(tmp_path, {20: 1})
    assert set(np.unique(labels)) == {0, 1} and "the value 1 alone, read as C1" in notes[0]
    with pytest.raises(BadInput, match="found the value 1 alone on 45 mm, a mask without vertebra ids"):
        spine(tmp_path, [1, 1, 1])


def test_labels_that_the_border_cuts_are_no_measure_of_height(tmp_path: Path) -> None:
    """The one whole vertebra of a cropped scan is taller than the others, with and without padding."""
    grid = Grid((70, 20, 18))
    labels, ct = np.zeros(grid.shape, np.uint16), np.random.default_rng(0).normal(0, 100, grid.shape)
    for v, low, high in ((22, 10, 18), (21, 20, 50), (20, 52, 60)):
        labels[low:high, 5:15, 5:13] = v
    for padding, notes in ((True, 0), (False, 1)):
        ct[:10] = ct[60:] = -1000
        if not padding:
            ct[:10] = ct[60:] = np.random.default_rng(1).normal(0, 100, (10, 20, 18))
        write_image(tmp_path / "ct.nii.gz", ct.astype(np.float32), grid)
        write_labels(tmp_path / "mask.nii.gz", labels, grid)
        found = read_vertebrae(tmp_path / "mask.nii.gz", tmp_path / "ct.nii.gz", grid, scan=ct)[1]
        assert len(found) == notes and all("two vertebrae?" in note for note in found)
