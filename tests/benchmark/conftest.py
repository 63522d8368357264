"""The tiny dataset and its faulty methods, for the tests of the runner."""

from __future__ import annotations

from pathlib import Path

import pytest

from methods.registry import DATASETS, load_plugin

TINY = Path(__file__).resolve().parents[1] / "plugins" / "tiny.py"


@pytest.fixture(scope="session")
def tiny() -> Path:
    """The plugin file of tests/plugins, loaded in this process too."""
    if "tiny" not in DATASETS:
        load_plugin(TINY)
    return TINY
