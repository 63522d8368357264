"""`run`: exit statuses, what it writes, and the dry run."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.command_line import invoke, refused
from support.patient_folder import arrays, write
from support.small_runs import run_tiny, tiny_config

from benchmark.cli.run import dry_run
from benchmark.datasets.folders import load_patient
from benchmark.execution.runner import RunOptions


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration with a row whose time can be estimated and one whose time is unknown."""
    file = tmp_path / "tiny.yaml"
    file.write_text("dataset: {name: tiny}\nmethods: [initial, sleeper]\nthreads: 1\n")
    return file


def test_a_run_with_a_plugin_writes_table_and_figure(tiny: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: {name: tiny}\nmethods: [initial, true-shift]\nthreads: 1\n")
    out = tmp_path / "run"
    result = invoke("run", "--config", config, "--plugin", tiny, "--out", out)
    assert result.exit_code == 0, result.output
    assert "Table 1: tiny" in result.output and "true-shift" in result.output
    for name in ("index.md", "table1.md", "table1.csv", "fig2.png", "fig2.pdf"):
        assert (out / "report" / name).stat().st_size > 100
    assert invoke("report", out).exit_code == 0


def test_a_failed_cell_is_status_1_and_the_report_is_written(tiny: Path, tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: {name: tiny, limit: 1}\nmethods: [initial, faulty]\nthreads: 1\n")
    result = invoke("run", "--config", config, "--plugin", tiny, "--out", tmp_path / "run")
    assert result.exit_code == 1 and (tmp_path / "run" / "report" / "table1.md").is_file()
    assert "it did not work" in result.output


def test_a_dataset_file_that_points_outside_its_folder_is_refused(tmp_path: Path) -> None:
    pair = {"fixed": "./imagesTs/a.nii.gz", "moving": "../../etc/b.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"registration_test": [pair]}))
    line = refused("run", "--dataset", f"learn2reg:{tmp_path}", "--out", tmp_path / "run")
    assert "expected files inside its folder, found '../../etc/b.nii.gz'" in line
    assert not (tmp_path / "run").exists()


def test_a_dry_run_lists_cells_and_writes_nothing(tiny: Path, tmp_path: Path, config: Path) -> None:
    out = tmp_path / "runs" / "a"
    result = invoke("run", "--config", config, "--plugin", tiny, "--out", out, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "initial@cpu, sleeper@cpu: one two" in result.output
    assert (
        "4 cells to run" in result.output
        and "estimated" in result.output
        and "plus the unknown time of sleeper@cpu" in result.output
    )
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_of_a_row_without_estimate_gives_no_time(tiny: Path, tmp_path: Path, config: Path) -> None:
    arguments = ["run", "--config", config, "--plugin", tiny, "--out", tmp_path / "run", "--methods", "sleeper"]
    assert "time unknown for sleeper@cpu. Nothing was run." in invoke(*arguments, "--dry-run").output


def test_a_dry_run_keeps_finished_cells_and_estimates_from_them(tiny: Path, tmp_path: Path, config: Path) -> None:
    arguments = ["run", "--config", config, "--plugin", tiny, "--out"]
    out = tmp_path / "runs" / "a"
    assert invoke(*arguments, out, "--methods", "sleeper").exit_code == 0
    known = invoke(*arguments, out, "--dry-run").output
    assert "2 cells to run" in known and "sleeper@cpu: one" not in known
    other = invoke(*arguments, tmp_path / "runs" / "b", "--dry-run", "--jobs", 2).output
    assert "2 cells in" in other and "with 2 jobs" in other and "unknown" not in other


def test_a_dry_run_estimates_another_training_from_its_row(tiny: Path, tmp_path: Path) -> None:
    again = {"method": "true-shift", "name": "again", "of": "true-shift", "seed": 3}
    run_tiny(tiny, tmp_path / "run", ["true-shift", again])
    console = Console(file=io.StringIO(), width=200)
    dry_run(tiny_config(tiny, ["true-shift", {**again, "seed": 5}]), tmp_path / "run", RunOptions(), console)
    assert re.search(r"again@cpu +2 +0 .* 4 cells in", console.file.getvalue())


@pytest.fixture
def fields(tmp_path: Path) -> Path:
    """Four patients, and fields: right for p1, of another size for p2, none for p3, positions for p4."""
    folder = tmp_path / "fields"
    folder.mkdir()
    for name in ("p1", "p2", "p3", "p4"):
        grid = load_patient(write(tmp_path / "patients" / name)).pair.grid
        sizes = {"p1": grid.shape[::-1], "p2": (9, 10, 11)}
        if name in sizes:
            np.savez(folder / f"{name}.npz", np.zeros((3, *sizes[name]), np.float32))
    np.savez(folder / "p4.npz", np.stack(np.meshgrid(*map(np.arange, grid.shape[::-1]), indexing="ij")) + 1.0)
    return folder


def test_a_dry_run_reads_the_fields_and_says_what_the_run_says(fields: Path, tmp_path: Path) -> None:
    arguments = ["run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", f"precomputed:{fields}", "--out",
                 tmp_path / "run"]  # fmt: skip
    dry = invoke(*arguments, "--dry-run")
    assert dry.exit_code == 0 and not (tmp_path / "run").exists()
    said = dict(line.split(" would fail: ") for line in dry.output.splitlines() if " would fail: " in line)
    assert list(said) == [f"precomputed-fields@cpu, {name}" for name in ("p2", "p3", "p4")]
    found = ("found (3, 9, 10, 11)", "found none", "found positions (a deformation field)")
    for words, cause in zip(found, said.values(), strict=True):
        assert words in cause
    assert invoke(*arguments).exit_code == 1
    for cell, cause in said.items():
        stored = json.loads((tmp_path / "run" / "cells" / "precomputed-fields@cpu" / f"{cell[-2:]}.json").read_text())
        assert stored["case"]["status"] == "failed" and cause in stored["case"]["error"]


def test_a_dry_run_says_that_a_folder_of_fields_is_absent(fields: Path, tmp_path: Path) -> None:
    result = invoke("run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", f"precomputed:{tmp_path}/no",
                    "--out", tmp_path / "run", "--dry-run")  # fmt: skip
    lines = [line for line in result.output.splitlines() if "would be unavailable" in line]
    assert len(lines) == 1 and lines[0].startswith("precomputed-no@cpu would be unavailable: dir: expected a folder")


def test_a_dry_run_leaves_out_a_case_that_cannot_be_loaded_for_its_field(fields: Path, tmp_path: Path) -> None:
    (tmp_path / "patients" / "p2" / "mr_mask.nii.gz").write_bytes(
        (tmp_path / "patients" / "p2" / "displacement.nii.gz").read_bytes()
    )
    result = invoke("run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", f"precomputed:{fields}",
                    "--out", tmp_path / "run", "--dry-run")  # fmt: skip
    assert "p2 would be left out: " in result.output and "precomputed-fields@cpu, p2" not in result.output


def test_a_dry_run_refuses_ids_of_another_scheme(tmp_path: Path) -> None:
    ids = {"ct_labels": np.where(arrays()["ct_labels"] > 0, arrays()["ct_labels"] + 11, 0).astype(np.uint16)}
    write(tmp_path / "patients" / "verse")
    write(tmp_path / "patients" / "other", **ids)
    dry = invoke("run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", "initial", "--out",
                 tmp_path / "run", "--dry-run")  # fmt: skip
    cause = f"{tmp_path / 'patients' / 'other' / 'ct_mask.nii.gz'}: expected VerSe ids"
    assert f"other would be left out: {cause}" in dry.output
    assert ["initial@cpu", "1", "0"] in [line.split()[:3] for line in dry.output.splitlines()], "nothing is kept"


def test_a_dry_run_scales_its_estimate_by_voxels(tmp_path: Path) -> None:
    """Small patients take a small part of the time of a phantom."""
    for name in ("p1", "p2"):
        write(tmp_path / "patients" / name)
    arguments = ["run", "--methods", "voxelmorph", "--out", tmp_path / "run", "--dry-run", "--dataset"]
    small = invoke(*arguments, f"folders:{tmp_path / 'patients'}").output
    assert "scaled by voxels" in " ".join(small.split()) and "2 cells" in small
    voxels = np.prod(load_patient(tmp_path / "patients" / "p1").pair.grid.shape)
    seconds = 2 * 3.5 * voxels / 3.2e6
    said = re.search(r"an estimated ([0-9.]+) s", small)
    assert said is not None and float(said[1]) == pytest.approx(seconds, rel=0.06)
