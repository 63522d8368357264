"""`split`: a split file that a run can use."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import invoke, refused

from benchmark.datasets.splits import read_splits


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """A folder of four patients with labels of the MR."""
    for name in ("a", "b", "c", "d"):
        (tmp_path / "patients" / name).mkdir(parents=True)
        (tmp_path / "patients" / name / "mr_mask.nii.gz").touch()
    return tmp_path / "patients"


def test_every_patient_is_in_one_split(patients: Path, tmp_path: Path) -> None:
    file = tmp_path / "split.json"
    command = ["split", "--dataset", f"folders:{patients}", "--seed", 0, "--out", file]
    result = invoke(*command)
    assert result.exit_code == 0 and "2 train, 1 val, 1 test" in result.output
    splits = read_splits(file)
    assert sorted(splits.train + splits.val + splits.test) == ["a", "b", "c", "d"]
    assert "expected a new file" in refused(*command)


def test_the_default_file_is_in_the_working_directory(
    patients: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert invoke("split", "--dataset", f"folders:{patients}").exit_code == 0
    assert (tmp_path / "data_splits" / "patients.json").is_file()
