"""How long a cell takes, from earlier runs or a rough value."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pytest

from benchmark.results.estimate import ROUGH_LOAD_AND_EVALUATE_S, ROUGH_SECONDS, ROUGH_VOXELS, estimate, in_words


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
    assert found is not None and found.seconds(None) == 23.0 and found.source == f"3 cells in {tmp_path / 'own'}"


def test_else_the_newest_run_in_the_same_folder_counts(tmp_path: Path) -> None:
    write_cells(tmp_path / "old", [10.0], 1)
    write_cells(tmp_path / "new", [20.0], 2)
    found = estimate("mine@cpu", tmp_path / "absent")
    assert found is not None and found.seconds(None) == 23.0


def test_repeats_are_part_of_the_time(tmp_path: Path) -> None:
    write_cells(tmp_path / "run", [10.0], 1, repeats=3)
    found = estimate("mine@cpu", tmp_path / "run")
    assert found is not None and found.seconds(None) == 33.0


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
    assert found is not None and found.seconds(None) == ROUGH_SECONDS["voxelmorph"] + ROUGH_LOAD_AND_EVALUATE_S
    assert estimate("voxelmorph@cuda", tmp_path / "run") is None


@pytest.mark.parametrize("row", ["deformable-pc+oc", "staring-fast", "rigid", "smoothed"])
def test_the_rows_of_the_first_commands_have_a_rough_value(tmp_path: Path, row: str) -> None:
    assert estimate(f"{row}@cpu", tmp_path / "run") is not None


def test_a_case_of_three_times_the_voxels_takes_three_times_as_long(tmp_path: Path) -> None:
    write_cells(tmp_path / "run", [10.0], 1, voxels=1000)
    found = estimate("mine@cpu", tmp_path / "run")
    assert found is not None and found.seconds(3000) == 39.0 and found.seconds(1000) == found.seconds(None) == 13.0


def test_cells_of_several_sizes_count_as_of_their_median_size(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    cells = {"method": "mine", "device": "cpu", "status": "ok", "repeats": 1}
    sizes = [(10.0, 1000), (20.0, 2000), (30.0, 3000)]
    pd.DataFrame([{**cells, "seconds": s, "voxels": v} for s, v in sizes]).to_parquet(
        tmp_path / "run" / "cases.parquet"
    )
    found = estimate("mine@cpu", tmp_path / "run")
    assert found is not None and found.seconds(4000) == pytest.approx(40.0)


def test_only_loading_and_evaluation_grow_where_a_registration_does_not_go_with_voxels(tmp_path: Path) -> None:
    write_cells(tmp_path / "run", [10.0], 1, method="initial", voxels=1000)
    found = estimate("initial@cpu", tmp_path / "run")
    assert found is not None and found.seconds(2000) == 16.0


def test_elastix_takes_less_than_twice_as_long_for_twice_the_voxels_under_any_row_name(tmp_path: Path) -> None:
    write_cells(tmp_path / "run", [100.0], 1, voxels=1000)
    found = estimate("mine@cpu", tmp_path / "run", "staring")
    assert found is not None and found.seconds(2000) == pytest.approx(100 * 2**0.25 + 6)


def test_a_rough_value_is_scaled_from_the_size_of_a_phantom(tmp_path: Path) -> None:
    found = estimate("voxelmorph@cpu", tmp_path / "run")
    assert found is not None
    assert found.seconds(int(2 * ROUGH_VOXELS)) == 2 * (ROUGH_SECONDS["voxelmorph"] + ROUGH_LOAD_AND_EVALUATE_S)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.25, "0.25 s"), (9.96, "10 s"), (89.0, "89 s"), (90.0, "2 min"), (5399.0, "90 min"), (12600.0, "3.5 h")],
)
def test_durations_are_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words
