"""The door as a user meets it: commands, exit statuses, and one line for what cannot be used."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from benchmark.cli.requests import parse_method
from benchmark.datasets.io.images import read_displacement, read_labels, write_image, write_labels
from benchmark.datasets.splits import read_splits
from benchmark.errors import BadInput
from methods.base import Grid
from run_benchmark import app

ROOT = Path(__file__).resolve().parents[1]
TINY = ROOT / "tests" / "plugins" / "tiny.py"
GRID = Grid((40, 40, 40), (1.0, 1.0, 1.0), (10.0, -20.0, 5.0))


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def refused(*arguments: object) -> str:
    """The one line of a command that cannot be carried out."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.strip()]
    assert len(lines) == 1 and lines[0].startswith("error: "), result.stderr
    return lines[0]


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, Path]:
    rng = np.random.default_rng(0)
    labels = np.zeros(GRID.shape, np.uint16)
    labels[12:28, 12:28, 10:26] = 20
    noise = rng.random(GRID.shape, np.float32)
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "mr", "labels")}
    write_image(files["ct"], (500.0 * (labels > 0) + 50 * noise - 100).astype(np.float32), GRID)
    write_image(files["mr"], (100 - 60.0 * (np.roll(labels, 2, 2) > 0) + 5 * noise).astype(np.float32), GRID)
    write_labels(files["labels"], labels, GRID)
    return files


@pytest.mark.alone
def test_help_is_quick_and_names_every_command() -> None:
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "run_benchmark.py", "--help"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and time.perf_counter() - began < 5
    for command in ("run", "report", "train", "runtime", "list", "register", "split", "simulate"):
        assert f"  {command} " in done.stdout
    code = "import sys, run_benchmark; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0, "the door imports torch"


@pytest.mark.parametrize("what", ["methods", "datasets", "metrics", "penalties", "configs"])
def test_list(what: str) -> None:
    expected = {
        "methods": "staring",
        "datasets": "folders",
        "metrics": "rigid_dsc",
        "penalties": "pc",
        "configs": "quick",
    }
    result = invoke("list", what)
    assert result.exit_code == 0 and expected[what] in result.output


def test_a_run_with_a_plugin_reports_table_and_figure(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: {name: tiny}\nmethods: [initial, true-shift]\nthreads: 1\n")
    out = tmp_path / "run"
    result = invoke("run", "--config", config, "--plugin", TINY, "--out", out)
    assert result.exit_code == 0, result.output
    assert "Table 1: tiny" in result.output and "true-shift" in result.output
    for name in ("index.md", "table1.md", "table1.csv", "fig2.png", "fig2.pdf"):
        assert (out / "report" / name).stat().st_size > 100
    assert invoke("report", out).exit_code == 0


def test_a_failed_cell_is_status_1_and_the_report_is_still_written(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: {name: tiny, limit: 1}\nmethods: [initial, faulty]\nthreads: 1\n")
    result = invoke("run", "--config", config, "--plugin", TINY, "--out", tmp_path / "run")
    assert result.exit_code == 1 and (tmp_path / "run" / "report" / "table1.md").is_file()
    assert "it did not work" in result.output


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["run", "--config", "tabel1"], "expected a YAML file or one of"),
        (["run", "--methods", "inital"], "did you mean 'initial'?"),
        (["run", "--dataset", "folder:x"], "did you mean 'folders'?"),
        (["run", "--dataset", "folders:/no/such/folder"], "/no/such/folder: expected a folder of patients"),
        (["run", "--device", "tpu"], "Input should be 'cpu' or 'cuda', got 'tpu'"),
        (["run", "--on-stale", "never"], "--on-stale never: expected redo, keep, fail"),
        (["run", "--engine", "slurm"], "--engine slurm: expected local, dask"),
        (["run", "--scheduler", "tcp://a:1"], "--scheduler tcp://a:1: expected --engine dask with it, got local"),
        (["runtime", "--spacings", "2,fine"], "--spacings 2,fine: expected millimetres from 0.5 to 4"),
        (["runtime", "--spacings", "9"], "--spacings 9: expected millimetres"),
        (["run", "--plugin", "absent.py"], "--plugin: expected a Python file, found nothing at absent.py"),
        (["report", "/no/such/run"], "/no/such/run: expected a run folder"),
        (["train", "--methods", "initial"], "--methods initial: it has nothing to train"),
        (["train", "--methods", "vxm"], "unknown method 'vxm'"),
        (["split", "--dataset", "phantom"], "phantom has its own splits"),
        (["split", "--dataset", "folders"], "expected the folder of patients, as folders:DIR"),
        (["split", "--dataset", "folders:/no/such/folder"], "/no/such/folder: expected a folder of patients"),
        (["run", "--dataset", "learn2reg:/no/such/folder"], "/no/such/folder: expected one dataset.json"),
        (["list", "kinds"], "expected methods, datasets, metrics, penalties or configs"),
    ],
)
def test_a_wrong_request_is_one_line(arguments: list[str], line: str, tmp_path: Path) -> None:
    out = [] if arguments[0] in ("report", "list") else ["--out", tmp_path / "out"]
    assert line in refused(*arguments, *out)
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_a_plugin_that_cannot_be_run_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module\n")
    line = refused("run", "--plugin", file, "--out", tmp_path / "out")
    assert str(file) in line and "no_such_module" in line


def test_register_writes_what_other_tools_read(scans: dict[str, Path], tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["--fixed", scans["mr"], "--moving", scans["ct"], "--moving-labels", scans["labels"], "--out", out]
    result = invoke("register", "--method", "initial", *arguments)
    assert result.exit_code == 0, result.output
    field, grid = read_displacement(out / "displacement.nii.gz")
    labels, labels_grid = read_labels(out / "warped_labels.nii.gz")
    assert not field.any() and grid == labels_grid and (labels == 20).sum() == 16**3
    assert "in HU" not in result.output
    swapped = ["--fixed", scans["ct"], "--moving", scans["mr"], "--moving-labels", scans["labels"], "--out", out]
    result = invoke("register", "--method", "initial", *swapped)
    assert result.exit_code == 0 and "mr.nii.gz: expected a CT in HU, found no value below" in result.output
    assert "unknown method 'inital'; did you mean 'initial'?" in refused("register", "--method", "inital", *arguments)


@pytest.mark.parametrize("wrong", ["ct", "labels", "mr"])
def test_register_refuses_a_file_that_is_not_there(scans: dict[str, Path], tmp_path: Path, wrong: str) -> None:
    scans[wrong].unlink()
    line = refused("register", "--method", "initial", "--fixed", scans["mr"], "--moving", scans["ct"],
                   "--moving-labels", scans["labels"], "--out", tmp_path / "out")  # fmt: skip
    assert f"{wrong}.nii.gz: expected an image file, found nothing" in line
    assert not (tmp_path / "out").exists()


def test_simulate_refuses_labels_on_another_grid_and_an_existing_patient(
    scans: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    write_labels(scans["labels"], np.ones((20, 40, 40), np.uint16), Grid((20, 40, 40)))
    assert "labels.nii.gz" in refused("simulate", "--ct", scans["ct"], "--labels", scans["labels"], "--out", out)
    line = refused("simulate", "--ct", scans["ct"], "--labels", scans["labels"], "--out", out, "--weighting", "PD")
    assert "--weighting PD: expected T1 or T2" in line
    assert not out.exists()


def test_simulate_then_run_on_the_folders(scans: dict[str, Path], tmp_path: Path) -> None:
    patients = tmp_path / "patients"
    arguments = ["simulate", "--ct", scans["ct"], "--labels", scans["labels"], "--out", patients, "--count", 2]
    made = invoke(*arguments)
    assert made.exit_code == 0 and "simulated-001: 1 vertebra" in made.output and " mm apart, at most " in made.output
    assert "expected a new folder, found it there already" in refused(*arguments)
    (patients / "simulated-001" / "mr_t1.nii.gz").write_bytes(b"not an image")
    result = invoke("run", "--dataset", f"folders:{patients}", "--methods", "initial", "--out", tmp_path / "run")
    assert result.exit_code == 1, "one patient of two was refused"
    assert "simulated-001" in result.output and "Table 1: folders" in result.output


def test_split_writes_a_file_that_a_run_can_use(tmp_path: Path) -> None:
    for name in ("a", "b", "c", "d"):
        (tmp_path / "patients" / name).mkdir(parents=True)
        (tmp_path / "patients" / name / "mr_mask.nii.gz").touch()
    file = tmp_path / "split.json"
    arguments = ["split", "--dataset", f"folders:{tmp_path / 'patients'}", "--seed", 0, "--out", file]
    result = invoke(*arguments)
    assert result.exit_code == 0 and "2 train, 1 val, 1 test" in result.output
    splits = read_splits(file)
    assert sorted(splits.train + splits.val + splits.test) == ["a", "b", "c", "d"]
    assert "expected a new file" in refused(*arguments)


def test_a_dataset_file_that_points_outside_ends_with_status_2(tmp_path: Path) -> None:
    pair = {"fixed": "./imagesTs/a.nii.gz", "moving": "../../etc/b.nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps({"registration_test": [pair]}))
    line = refused("run", "--dataset", f"learn2reg:{tmp_path}", "--out", tmp_path / "run")
    assert "expected files inside its folder, found '../../etc/b.nii.gz'" in line
    assert not (tmp_path / "run").exists()


def test_commands_on_one_pair_say_before_the_work_that_they_cannot_write(
    scans: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("os.access", lambda _, mode, **__: not mode & os.W_OK)
    line = refused("register", "--method", "initial", "--fixed", scans["mr"], "--moving", scans["ct"],
                   "--moving-labels", scans["labels"], "--out", tmp_path / "out")  # fmt: skip
    assert "out: expected a folder to write into, found a read-only folder" in line
    line = refused("simulate", "--ct", scans["ct"], "--labels", scans["labels"], "--out", tmp_path / "out")
    assert "expected a folder to write into" in line and not (tmp_path / "out").exists()


def test_register_takes_paths_with_spaces_and_accents(scans: dict[str, Path], tmp_path: Path) -> None:
    folder = tmp_path / "Étude du rachis 1"
    folder.mkdir()
    moved = {name: file.rename(folder / f"é {name}.nii.gz") for name, file in scans.items()}
    arguments = ["--moving", moved["ct"], "--moving-labels", moved["labels"], "--out", folder / "ergebnis ü"]
    assert invoke("register", "--method", "initial", "--fixed", moved["mr"], *arguments).exit_code == 0
    assert (folder / "ergebnis ü" / "displacement.nii.gz").is_file()


def test_a_method_with_an_argument_is_a_row_of_its_own() -> None:
    assert parse_method("precomputed:some/where/mine/") == {
        "method": "precomputed",
        "name": "precomputed-mine",
        "settings": {"dir": "some/where/mine/"},
    }
    assert parse_method("initial") == {"method": "initial"}
    for text, says in (("initial:x", "initial takes nothing after the colon"), ("precomputed:", "precomputed:DIR")):
        with pytest.raises(BadInput, match=says):
            parse_method(text)
    assert "unknown method 'precomputd'; did you mean 'precomputed'" in refused("run", "--methods", "precomputd:x")


def test_a_dry_run_prints_every_cell_and_an_estimate_and_runs_nothing(tmp_path: Path) -> None:
    config = tmp_path / "tiny.yaml"
    config.write_text("dataset: {name: tiny}\nmethods: [initial, sleeper]\nthreads: 1\n")
    arguments = ["run", "--config", config, "--plugin", TINY, "--out", tmp_path / "runs" / "a"]
    result = invoke(*arguments, "--dry-run")
    assert result.exit_code == 0, result.output
    assert "initial@cpu, sleeper@cpu: one two" in result.output
    assert "4 cells to run" in result.output and "and what sleeper@cpu takes" in result.output
    alone = invoke(*arguments, "--methods", "sleeper", "--dry-run").output
    assert ", as long as sleeper@cpu takes. Nothing was run." in alone, "no guess is no 0 s"
    assert not (tmp_path / "runs").exists()
    assert invoke(*arguments, "--methods", "sleeper").exit_code == 0
    known = invoke(*arguments, "--dry-run")
    assert "2 cells to run" in known.output and "sleeper@cpu: one" not in known.output, "what is there is kept"
    beside = invoke(*arguments[:-1], tmp_path / "runs" / "b", "--dry-run", "--jobs", 2).output
    assert "2 cells in" in beside and "with 2 jobs" in beside and "and what" not in beside, "as in the run beside it"


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        (["run", "--methods", "initial,vox"], {"initial,voxelmorph"}),
        (["run", "--config", "t"], {"table1"}),
        (["run", "--device", "cpu,"], {"cpu,cuda"}),
        (["run", "--dataset", "fol"], {"folders"}),
        (["run", "--on-stale", ""], {"redo", "keep", "fail"}),
        (["runti"], {"runtime"}),
    ],
)
def test_a_shell_is_offered_what_fits(words: list[str], offered: set[str]) -> None:
    line = " ".join(["rigidbench", *words])
    asked = {"_RIGIDBENCH_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words))}
    code = "import run_benchmark, sys; sys.argv[0] = 'rigidbench'; run_benchmark.app(prog_name='rigidbench')"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=os.environ | asked, capture_output=True, text=True
    )
    assert offered == set(done.stdout.split()), done.stderr


def test_an_unexpected_error_is_one_line_unless_debug_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("benchmark.cli.requests.request", broken)
    result = invoke("run", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.strip() == "error: unexpected KeyError: 'a bug'; --debug shows where"
    assert isinstance(invoke("--debug", "run", "--out", tmp_path / "run").exception, KeyError)


def test_runtime_without_a_gpu_says_why_and_is_no_failure(tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    out = tmp_path / "runtime"
    result = invoke("runtime", "--methods", "initial,voxelmorph", "--spacings", "4,3", "--limit", 1, "--repeats", 2,
                    "--out", out)  # fmt: skip
    assert result.exit_code == 0, result.output
    text = (out / "report" / "runtime.md").read_text(encoding="utf-8")
    assert "VoxelMorph on cuda: unavailable: torch sees no CUDA device" in text
    kinds = ("md", "csv", "png", "pdf", "svg")
    assert {f.name for f in (out / "report").iterdir()} == {f"runtime.{kind}" for kind in kinds}
