"""The command line as a whole: its help, and one line for a request that cannot be used."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.command_line import ROOT, invoke, refused

COMMANDS = ("run", "report", "train", "runtime", "list", "register", "split", "simulate")


@pytest.mark.alone
def test_help_takes_little_time() -> None:
    times = []
    for _ in range(3):
        start = time.perf_counter()
        subprocess.run([sys.executable, "run_benchmark.py", "--help"], cwd=ROOT, capture_output=True, check=True)
        times.append(time.perf_counter() - start)
    assert min(times) < 1


def test_help_imports_no_torch() -> None:
    code = "import sys, run_benchmark; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_help_names_every_command() -> None:
    output = invoke("--help").output
    for command in COMMANDS:
        assert f"  {command} " in output


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_has_an_example(command: str) -> None:
    lines = [line.strip() for line in invoke(command, "--help").output.splitlines()]
    assert any(line.startswith(f"rigidbench {command}") for line in lines)


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
def test_a_wrong_request_is_one_line_and_writes_nothing(arguments: list[str], line: str, tmp_path: Path) -> None:
    out = [] if arguments[0] in ("report", "list") else ["--out", tmp_path / "out"]
    assert line in refused(*arguments, *out)
    assert not (tmp_path / "out").exists()


def test_without_a_command_the_first_line_says_what_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    started = []
    monkeypatch.setattr("run_benchmark.run", lambda: started.append(True))
    result = invoke()
    assert started == [True] and result.exit_code == 0
    first = result.output.splitlines()[0]
    assert first.startswith("Quick benchmark:") and "minutes" in first and "--help lists the other commands" in first
