"""`simulate`: patients made from one CT, usable by a run."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
from support.command_line import invoke, refused
from support.patient_folder import GRID, arrays
from support.self_labelled import self_labelled_ct

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
    assert "the motion of one vertebra is rigid" in made.output
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
    """A spine of five vertebrae, whose joints can turn."""
    grid = Grid((176, 80, 64), origin_mm=(-32.0, -32.0, -88.0))
    ct, labels = self_labelled_ct(grid)
    write_image(tmp_path / "ct.nii.gz", ct, grid)
    write_labels(tmp_path / "labels.nii.gz", labels, grid)
    scans = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "labels")}
    sizes = []
    for size in (1.5, 5):
        out = tmp_path / str(size)
        made = invoke(*arguments(scans, out), "--count", 1, "--motion-mm", size)
        assert made.exit_code == 0, made.output
        sizes.append(float(made.output.split("motion between bones ")[1].split()[0]))
    assert sizes[0] < 1.5 and sizes[1] > 2 * sizes[0]
    assert "--motion-mm 40: expected 1.2 to 14 mm" in refused(*arguments(scans, tmp_path / "x"), "--motion-mm", 40)


def test_each_step_is_shown_and_the_next_command_named(
    scans: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/rigidbench", "simulate"])
    made = invoke(*arguments(scans, tmp_path / "my pairs"), "--count", 1)
    for words in ("Reading the files ...", "simulated-000, 1 of 1: motion, MR and its labels ...", "resampled to 1 mm",
                  f"next: .venv/bin/rigidbench run --dataset 'folders:{tmp_path / 'my pairs'}' --out"):  # fmt: skip
        assert words in made.output


def test_an_mr_is_named_after_its_weighting_and_read(scans: dict[str, Path], tmp_path: Path) -> None:
    patients = tmp_path / "patients"
    assert invoke(*arguments(scans, patients), "--count", 1, "--weighting", "T2").exit_code == 0
    folder = patients / "simulated-000"
    assert (folder / "mr_t2.nii.gz").is_file() and not (folder / "mr_t1.nii.gz").exists()
    assert invoke("run", "--dataset", f"folders:{patients}", "--methods", "initial", "--out", tmp_path / "run",
                  "--dry-run").exit_code == 0  # fmt: skip


def test_a_simulated_pair_is_used_without_doubt(tmp_path: Path) -> None:
    """Its centroids lie no farther from its labels than an annotator's, also where no file says what it is."""
    given = arrays()
    write_image(tmp_path / "ct.nii.gz", given["ct_hu"], GRID)
    write_labels(tmp_path / "labels.nii.gz", given["ct_labels"], GRID)
    scans = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "labels")}
    assert invoke(*arguments(scans, tmp_path / "out"), "--count", 1, "--motion-mm", 6).exit_code == 0
    folder = tmp_path / "out" / "simulated-000"
    result = invoke("register", "--method", "initial", "--fixed", folder / "mr_t1.nii.gz", "--moving",
                    folder / "ct.nii.gz", "--moving-labels", folder / "ct_mask.nii.gz", "--fixed-labels",
                    folder / "mr_mask.nii.gz", "--fixed-centroids", folder / "mr_centroids.json", "--out",
                    tmp_path / "registered")  # fmt: skip
    assert result.exit_code == 0 and "off the centroids" not in result.output, result.output
