"""What several rooms of the tests share."""

from __future__ import annotations

import os

# Small volumes: a second thread gains nothing, and costs much where tests run beside other work.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# What the tests see is made by the code they test, and the user's folder stays as it is.
os.environ["RIGIDBENCH_CACHE"] = "off"

import sys
from pathlib import Path
from types import ModuleType

import pytest

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real scans beside the checkout; the test is skipped, with the reason, where it is absent."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no real scans here: {SHARED_DATA} is absent")
    return SHARED_DATA


TINY = Path(__file__).parent / "plugins" / "tiny.py"
LEARNER = Path(__file__).parent / "plugins" / "learner.py"


@pytest.fixture(scope="session")
def learner() -> ModuleType:
    """The plugin file with the dataset `blocks`, loaded in this process too."""
    from methods.registry import DATASETS, load_plugin

    if "blocks" not in DATASETS:
        load_plugin(LEARNER)
    return sys.modules["rigidbench_plugin_learner"]


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The plugin file of tests/plugins, loaded in this process too."""
    from methods.registry import DATASETS, load_plugin

    if "tiny" not in DATASETS:
        load_plugin(TINY)
    return TINY


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of an empty cache, which does not exist yet."""
    from methods import cache_files

    monkeypatch.setenv("RIGIDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RIGIDBENCH_CACHE_GB", raising=False)
    cache_files.warn_once.cache_clear()
    return tmp_path / "cache"
