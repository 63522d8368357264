"""The files of one displacement, and their removal before a new result."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.results.fields import remove_fields, write_fields
from methods.base import Grid, Registration

GRID = Grid((4, 5, 6))
RESULT = Registration(np.zeros((*GRID.shape, 3), np.float32), {}, {20: np.eye(4), 21: np.eye(4)})


def names(folder: Path) -> list[str]:
    return sorted(str(f.relative_to(folder)) for f in folder.rglob("*") if f.is_file())


def test_a_result_is_written_in_every_format(tmp_path: Path) -> None:
    files = write_fields(tmp_path, "p1", RESULT, GRID, learn2reg=False)
    expected = ["p1.h5", "p1.nii.gz", "p1_vertebra_20.tfm", "p1_vertebra_21.tfm"]
    assert sorted(f.name for f in files) == names(tmp_path) == expected


def test_a_case_of_learn2reg_has_the_challenges_file_too(tmp_path: Path) -> None:
    write_fields(tmp_path, "A_0001_0000--A_0002_0000", RESULT, GRID, learn2reg=True)
    assert "learn2reg/disp_0001_0002.nii.gz" in names(tmp_path)


def test_an_earlier_result_is_removed_and_other_cases_stay(tmp_path: Path) -> None:
    for case in ("p1", "p[1]", "p1_b"):
        write_fields(tmp_path, case, RESULT, GRID, learn2reg=True)
    for case in ("p1", "p[1]"):
        remove_fields(tmp_path, case)
    left = ["p1_b.h5", "p1_b.nii.gz", "p1_b_vertebra_20.tfm", "p1_b_vertebra_21.tfm"]
    assert names(tmp_path) == ["learn2reg/disp_p1_b.nii.gz", *left]
