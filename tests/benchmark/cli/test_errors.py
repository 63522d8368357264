"""A command that fails prints one line; `--debug` shows the traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import invoke


def test_an_unexpected_error_is_one_line_unless_debug_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr("benchmark.cli.requests.run_request", broken)
    result = invoke("run", "--out", tmp_path / "run")
    assert result.exit_code == 1
    assert result.stderr.strip() == "error: unexpected KeyError: 'a bug'; --debug shows the traceback"
    assert isinstance(invoke("--debug", "run", "--out", tmp_path / "run").exception, KeyError)


def test_an_error_of_the_system_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise PermissionError(13, "Permission denied", "/a/file")

    monkeypatch.setattr("benchmark.cli.requests.run_request", broken)
    assert invoke("run").stderr.strip() == "error: /a/file: Permission denied"
