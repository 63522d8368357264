"""A run with pictures, of which one cell crashed."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.synthetic import write_run

from benchmark.results.store import read_run
from reports.run_data import DataSet, data_sets


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    lost = {("pc", 1): ("crashed", "no memory")}
    return write_run(tmp_path_factory.mktemp("slices") / "run", patients=3, lost=lost)


@pytest.fixture(scope="module")
def data(run_folder) -> DataSet:
    return data_sets(read_run(run_folder))[0]
