"""How long a cell takes, from earlier runs or a rough value."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from benchmark.results.estimate import ROUGH_LOAD_AND_EVALUATE_S, ROUGH_SECONDS, estimate, in_words


def write_cells(folder: Path, seconds: list[float], modified: int, **columns: object) -> None:
    """A run folder whose table has one cell per time; each cell also took 1 s to load and 2 s to evaluate."""
    folder.mkdir()
    cells = {"method": "mine", "device": "cpu", "status": "ok", "repeats": 1, "load_seconds": 1.0,
             "evaluate_seconds": 2.0} | columns  # fmt: skip
    pd.DataFrame([{**cells, "seconds": s} for s in seconds]).to_parquet(folder / "cases.parquet")
    os.utime(folder / "cases.parquet", (modified, modified))


def test_the_median_of_the_folder_s_own_cells_comes_first(tmp_path: Path) -> None:
    write_cells(tmp_path / "own", [10.0, 20.0, 60.0], 1)
    write_cells(tmp_path / "newer", [1.0], 2)
    found = estimate("mine@cpu", tmp_path / "own")
    assert found is not None and found.seconds == 23.0 and found.source == f"3 cells in {tmp_path / 'own'}"


def test_else_the_newest_run_in_the_same_folder_counts(tmp_path: Path) -> None:
    write_cells(tmp_path / "old", [10.0], 1)
    write_cells(tmp_path / "new", [20.0], 2)
    found = estimate("mine@cpu", tmp_path / "absent")
    assert found is not None and found.seconds == 23.0


def test_repeats_are_part_of_the_time(tmp_path: Path) -> None:
    write_cells(tmp_path / "run", [10.0], 1, repeats=3)
    found = estimate("mine@cpu", tmp_path / "run")
    assert found is not None and found.seconds == 33.0


@pytest.mark.parametrize("columns", [{"status": "failed"}, {"device": "cuda"}, {"method": "other"}])
def test_other_cells_do_not_count(tmp_path: Path, columns: dict[str, str]) -> None:
    write_cells(tmp_path / "run", [10.0], 1, **columns)
    assert estimate("mine@cpu", tmp_path / "run") is None


def test_a_table_of_another_version_gives_no_estimate(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    pd.DataFrame({"method": ["mine"], "device": ["cpu"]}).to_parquet(tmp_path / "run" / "cases.parquet")
    assert estimate("mine@cpu", tmp_path / "run") is None


def test_a_built_in_method_has_a_rough_value_on_the_cpu_only(tmp_path: Path) -> None:
    found = estimate("voxelmorph@cpu", tmp_path / "run")
    assert found is not None and found.seconds == ROUGH_SECONDS["voxelmorph"] + ROUGH_LOAD_AND_EVALUATE_S
    assert estimate("voxelmorph@cuda", tmp_path / "run") is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.25 s"), (9.96, "10 s"), (89.0, "89 s"), (90.0, "2 min"), (5399.0, "90 min"), (12600.0, "3.5 h")],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
