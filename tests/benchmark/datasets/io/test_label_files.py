"""Labels as TotalSegmentator writes them by default: a folder with one mask for each structure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support import scan_files

from benchmark.datasets.io.images import write_labels
from benchmark.datasets.io.label_files import holds_structures, in_verse_ids, read_label_file, read_label_grid
from benchmark.errors import BadInput

NAMES = {20: "vertebrae_L1", 21: "vertebrae_L2", 22: "vertebrae_L3"}


def masks(folder: Path) -> Path:
    """The labels of `scan_files` as masks, beside an organ and an absent vertebra."""
    folder.mkdir()
    labels = scan_files.labels()
    for v, name in NAMES.items():
        write_labels(folder / f"{name}.nii.gz", labels == v, scan_files.GRID)
    write_labels(folder / "liver.nii.gz", np.ones_like(labels), scan_files.GRID)
    write_labels(folder / "vertebrae_C3.nii.gz", np.zeros_like(labels), scan_files.GRID)
    return folder


def test_a_folder_of_masks_is_one_label_map_in_verse_ids(tmp_path: Path) -> None:
    folder = masks(tmp_path / "total")
    labels, grid, doubts = read_label_file(folder)
    np.testing.assert_array_equal(labels, scan_files.labels())
    assert labels.dtype == np.uint16 and grid == read_label_grid(folder) and doubts == ()
    np.testing.assert_array_equal(in_verse_ids(folder, labels, "totalsegmentator-2"), labels)


def test_overlapping_masks_are_a_doubt(tmp_path: Path) -> None:
    folder = masks(tmp_path / "total")
    write_labels(folder / "vertebrae_L2.nii.gz", scan_files.labels() >= 21, scan_files.GRID)
    labels, _, doubts = read_label_file(folder)
    assert (labels == 21).sum() == 2 * 8 * 10 * 8 and not (labels == 22).any()
    assert doubts == (f"{folder}: 640 voxels are in the masks of two vertebrae; the upper one keeps them",)


def test_a_single_mask_is_refused_and_its_folder_named(tmp_path: Path) -> None:
    folder = masks(tmp_path / "total")
    with pytest.raises(BadInput, match=rf"vertebrae_L1.nii.gz: .* the mask of L1 alone; give the folder .*{folder}$"):
        read_label_file(folder / "vertebrae_L1.nii.gz")


def test_a_label_map_that_is_named_after_a_vertebra_is_read(tmp_path: Path) -> None:
    write_labels(tmp_path / "vertebrae_L1.nii.gz", scan_files.labels(), scan_files.GRID)
    assert read_label_file(tmp_path / "vertebrae_L1.nii.gz")[0].max() == 22


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    folder = masks(tmp_path / "total")
    write_labels(folder / "vertebrae_L2.nii.gz", scan_files.labels(), scan_files.GRID)
    with pytest.raises(BadInput, match=r"vertebrae_L2.nii.gz: expected a mask of 0 and 1"):
        read_label_file(folder)
    write_labels(folder / "vertebrae_L2.nii.gz", scan_files.labels() == 21, scan_files.turned(5))
    with pytest.raises(BadInput, match=r"vertebrae_L2.nii.gz: expected the grid of .*vertebrae_C3.nii.gz"):
        read_label_file(folder)
    write_labels(folder / "vertebrae_L2.nii", scan_files.labels() == 21, scan_files.GRID)
    with pytest.raises(BadInput, match=r"expected one mask of L2, found vertebrae_L2.nii and vertebrae_L2.nii.gz"):
        read_label_file(folder)
    for file in folder.glob("vertebrae_*"):
        file.unlink()
    with pytest.raises(BadInput, match=r"expected masks of vertebrae such as .*, found liver.nii.gz; give a label map"):
        read_label_file(folder)
    write_labels(folder / "vertebrae_L2.nii", np.zeros_like(scan_files.labels()), scan_files.GRID)
    with pytest.raises(BadInput, match=r"expected a mask of a vertebra, found empty ones"):
        read_label_file(folder)


def test_dicom_folders_hold_no_structures(tmp_path: Path) -> None:
    (tmp_path / "1.dcm").touch()
    assert not holds_structures(tmp_path) and not holds_structures(tmp_path / "1.dcm")
