"""Patients that are not used for their file names are listed with the reason."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import invoke
from support.patient_folder import write

from benchmark.datasets.folders import Folders
from benchmark.datasets.unused_files import unused_patients
from benchmark.errors import BadInput


@pytest.fixture
def patients(tmp_path: Path) -> Path:
    """One patient, and what looks like others: a session, unknown names, DICOM slices, a loose scan."""
    folder = tmp_path / "patients"
    for name in ("p1", "session/ses-1", "names"):
        write(folder / name, displacement_mm=None)
    for file in list((folder / "names").iterdir()):
        file.rename(file.with_name(f"scan_{file.name}"))
    for file in ("series/a/1.dcm", "p5_ct.nii.gz", "notes/readme.txt", ".hidden/ct.nii.gz", "table.csv"):
        (folder / file).parent.mkdir(exist_ok=True, parents=True)
        (folder / file).touch()
    return folder


def test_what_looks_like_a_patient_has_a_reason(patients: Path) -> None:
    unused = unused_patients(patients)
    assert list(unused) == ["names", "p5_ct.nii.gz", "series", "session"]
    assert "its files lie deeper, in ses-1; move them up, or give " in unused["session"]
    assert "no file has a known name, only scan_ct.nii.gz; rename the files to ct.nii.gz" in unused["names"]
    assert "only a/1.dcm" in unused["series"]
    assert "a scan outside a patient's folder" in unused["p5_ct.nii.gz"]


def test_a_run_lists_them_also_under_the_table(patients: Path, tmp_path: Path) -> None:
    result = invoke("run", "--dataset", f"folders:{patients}", "--methods", "initial", "--out", tmp_path / "run")
    words = " ".join(result.output.split())
    assert result.exit_code == 0
    for name in ("names", "series", "session", "p5_ct.nii.gz"):
        assert f"{name} was left out: " in words
    assert "4 patients are" in words and "names: no file has a known name" in words


def test_a_split_file_that_names_one_says_why(patients: Path, tmp_path: Path) -> None:
    split = tmp_path / "split.json"
    split.write_text('{"test": ["session"]}')
    with pytest.raises(BadInput, match="found 'session' in 'test', which cannot be used: its files lie deeper"):
        Folders("folders", dir=patients, split_file=split).cases("test")
    split.write_text('{"test": ["p1"]}')
    dataset = Folders("folders", dir=patients, split_file=split)
    assert dataset.cases("test") == ["p1"] and dataset.left_out("test") == {}


def test_a_folder_without_any_patient_says_what_is_there(patients: Path) -> None:
    (patients / "p1").rename(patients / ".p1")
    with pytest.raises(BadInput, match=r"expected a sub-folder per patient .*, found none; names: no file has a known"):
        Folders("folders", dir=patients).cases("test")
