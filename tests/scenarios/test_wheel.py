"""An installed rigidbench works away from the checkout: the wheel holds every file that the program reads."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("benchmark", "data_splits", "methods", "metrics", "reports")


def run(command: Sequence[object], folder: Path, **variables: str) -> str:
    """Run a command in `folder` and return its output; the test fails if the exit status is not 0."""
    done = subprocess.run([str(part) for part in command], cwd=folder, env=os.environ | variables,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8")  # fmt: skip
    assert done.returncode == 0, done.stdout
    return done.stdout


def tracked_files() -> list[str]:
    """Files of the checkout that git tracks or would track."""
    listed = run(["git", "ls-files", "--cached", "--others", "--exclude-standard"], ROOT)
    return [name for name in listed.splitlines() if (ROOT / name).is_file()]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which the wheel is installed. It is built from a copy: a build leaves files in its source."""
    source, wheels, target = (tmp_path_factory.mktemp(name) for name in ("source", "wheels", "installed"))
    for name in tracked_files():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / name, source / name)
    pip = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    run([*pip, "wheel", "--no-index", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, source], wheels)
    run([*pip, "install", "--no-index", "--no-deps", "--target", target, next(wheels.glob("*.whl"))], wheels)
    return target


def rigidbench(installed: Path, folder: Path, *arguments: str) -> str:
    """Output of the installed command, which imports the wheel and not the checkout."""
    variables = {"PYTHONPATH": str(installed), "RIGIDBENCH_CACHE": "off", "COLUMNS": "200"}
    return run([installed / "bin" / "rigidbench", *arguments], folder, **variables)


def test_the_wheel_is_what_is_imported(installed: Path, tmp_path: Path) -> None:
    names = ", ".join((*PACKAGES, "run_benchmark"))
    code = f"import {names}\nfor module in ({names}): print(module.__file__)"
    files = run([sys.executable, "-c", code], tmp_path, PYTHONPATH=str(installed)).splitlines()
    assert len(files) == len(PACKAGES) + 1 and all(Path(file).is_relative_to(installed) for file in files)


def test_the_wheel_has_every_file_of_its_packages(installed: Path) -> None:
    expected = [name for name in tracked_files() if name.split("/")[0] in PACKAGES]
    assert [name for name in expected if not (installed / name).is_file()] == []
    assert not (installed / "tests").exists()


def test_methods_are_listed(installed: Path, tmp_path: Path) -> None:
    output = rigidbench(installed, tmp_path, "list", "methods")
    assert "staring" in output and "voxelmorph" in output
    assert "cpu, cuda, trainable" in output, "the weights are there"


def test_a_run_and_its_report_are_written_into_the_working_directory(installed: Path, tmp_path: Path) -> None:
    output = rigidbench(installed, tmp_path, "run", "--config", "quick", "--methods", "initial", "--limit", "1")
    assert "Report: runs/quick/report/index.md" in output
    assert [file.name for file in tmp_path.iterdir()] == ["runs"]
    report = tmp_path / "runs" / "quick" / "report"
    shutil.rmtree(report)
    rigidbench(installed, tmp_path, "report", "runs/quick")
    assert (report / "table1.md").is_file() and (report / "report.html").is_file()
