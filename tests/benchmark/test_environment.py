"""The environment that a run records."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from benchmark import environment


def test_it_is_json_and_has_the_machine_and_the_versions() -> None:
    described = json.loads(json.dumps(environment.describe()))
    assert described["cores"] >= 1 and described["memory_gb"] > 0 and described["packages"]["torch"]
    assert {"governor", "threads", "physical_cores", "gpu_driver", "load"} <= set(described)


def test_code_inside_another_repository_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed rigidbench may lie in the environment of a project that is a repository."""
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / "file").touch()
    for command in (["add", "file"], ["-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(tmp_path), *command], check=True)
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    assert len(environment.describe()["commit"]) == 40 and environment.describe()["modified"] is False
    (tmp_path / "site-packages").mkdir()
    monkeypatch.setattr(environment, "ROOT", tmp_path / "site-packages")
    assert environment.describe()["commit"] is None and environment.describe()["modified"] is None
