"""`simulate`: patients made from one CT, usable by a run."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from support.command_line import invoke, refused
from support.patient_folder import GRID, arrays

from benchmark.datasets.io.images import write_image, write_labels
from methods.base import Grid


def arguments(scans: dict[str, Path], out: Path) -> list[object]:
    return ["simulate", "--ct", scans["ct"], "--labels", scans["labels"], "--out", out]


def test_labels_on_another_grid_are_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    write_labels(scans["labels"], np.ones((20, 40, 40), np.uint16), Grid((20, 40, 40)))
    assert "labels.nii.gz" in refused(*arguments(scans, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_an_unknown_weighting_is_refused(scans: dict[str, Path], tmp_path: Path) -> None:
    line = refused(*arguments(scans, tmp_path / "out"), "--weighting", "PD")
    assert "--weighting PD: expected T1 or T2" in line
    assert not (tmp_path / "out").exists()


def test_a_read_only_folder_is_refused_before_the_work(
    scans: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _, mode, **__: not mode & os.W_OK)
    assert "expected a folder to write into" in refused(*arguments(scans, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_a_run_uses_simulated_patients_and_names_a_damaged_one(scans: dict[str, Path], tmp_path: Path) -> None:
    patients = tmp_path / "patients"
    command = [*arguments(scans, patients), "--count", 2]
    made = invoke(*command)
    assert made.exit_code == 0 and "simulated-001: 1 vertebra" in made.output and " mm apart, at most " in made.output
    assert "expected a new folder, found it there already" in refused(*command)
    name = scans["ct"].parent.name + "/" + scans["ct"].name
    for number in range(2):
        written = (patients / f"simulated-00{number}" / "patient.txt").read_text(encoding="utf-8")
        assert written == f"{name}\n", "motions of one spine are one patient"
    (patients / "simulated-001" / "mr_t1.nii.gz").write_bytes(b"not an image")
    result = invoke("run", "--dataset", f"folders:{patients}", "--methods", "initial", "--out", tmp_path / "run")
    assert result.exit_code == 1, "one patient of two was refused"
    assert "simulated-001" in result.output and "Table 1: folders" in result.output


def test_the_motion_can_be_chosen(tmp_path: Path) -> None:
    given = arrays()
    write_image(tmp_path / "ct.nii.gz", given["ct_hu"], GRID)
    write_labels(tmp_path / "labels.nii.gz", given["ct_labels"], GRID)
    scans = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "labels")}
    sizes = []
    for size in (2, 6):
        out = tmp_path / str(size)
        made = invoke(*arguments(scans, out), "--count", 1, "--motion-mm", size)
        assert made.exit_code == 0, made.output
        sizes.append(float(made.output.split(" mm apart")[0].split()[-1]))
    assert 1 < sizes[0] < 3 and sizes[1] > 2 * sizes[0]
    assert "--motion-mm 40: expected 1.2 to 14 mm" in refused(*arguments(scans, tmp_path / "x"), "--motion-mm", 40)
