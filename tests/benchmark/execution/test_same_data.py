"""A run folder keeps one data set."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import invoke, refused
from support.patient_folder import write


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """Two folders of patients, a and b, and a finished run on a."""
    for name in "ab":
        write(tmp_path / name / "p1")
    assert invoke(*run(tmp_path, "a")).exit_code == 0
    return tmp_path


def run(folder: Path, data: str) -> list[object]:
    return ["run", "--dataset", f"folders:{folder / data}", "--methods", "initial", "--out", folder / "run"]


@pytest.mark.parametrize("more", [[], ["--dry-run"]])
def test_another_data_set_asks_for_another_folder(finished: Path, more: list[str]) -> None:
    line = refused(*run(finished, "b"), *more)
    assert "expected a run on folders:" in line and line.endswith("choose another folder")
    assert f"got folders:{finished / 'b'}" in line


def test_the_same_data_set_goes_on(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert invoke(*run(finished, "a")).exit_code == 0
    monkeypatch.chdir(finished)
    assert invoke("run", "--dataset", "folders:a", "--methods", "initial", "--out", "run").exit_code == 0
