"""`run`: exit statuses, what it writes, and the dry run."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path

import pytest
from rich.console import Console
from support.command_line import invoke, refused
from support.small_runs import run_tiny, tiny_config

from benchmark.cli.run import dry_run
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
    assert "4 cells to run" in result.output and "plus the unknown time of sleeper@cpu" in result.output
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
