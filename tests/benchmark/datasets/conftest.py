"""Fixtures of the tests of datasets."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.datasets import cache


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache, which does not exist yet."""
    monkeypatch.setenv("RIGIDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RIGIDBENCH_CACHE_GB", raising=False)
    cache._warn_once.cache_clear()
    return tmp_path / "cache"
