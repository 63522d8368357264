"""The tables' schema: its names, order and types, and how a run folder keeps the declarations."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from benchmark.errors import BadInput
from benchmark.results.columns import (
    FILE,
    TABLES,
    Column,
    all_declared,
    check_names,
    columns_json,
    columns_of,
    declared,
    dtypes,
    read_columns,
)
from methods.registry import METRICS, origin_of

# The tables' schema is part of the run folder's format: readers elsewhere rely on names, order and types.
CELL = {
    "dataset": "string", "split": "string", "case": "string", "method": "string", "device": "string", "seed": "Int64",
}  # fmt: skip
SCHEMA = {
    "pairs": {
        "dataset": "string", "split": "string", "case": "string", "group": "string", "vertebra": "Int64",
        "initial_dsc": "Float64",
        "ceiling_dsc": "Float64", "label_volume_difference_pct": "Float64", "voxels_moving": "Int64",
        "voxels_fixed": "Int64", "touches_border": "boolean", "excluded_reason": "string", "notes": "string",
        "fixed_modality": "string", "moving_modality": "string",
        "true_dsc": "Float64", "true_rigid_dsc": "Float64", "true_volume_change_pct": "Float64",
    },
    "vertebrae": {
        **CELL, "vertebra": "Int64", "dsc": "Float64", "rigid_dsc": "Float64", "volume_change_pct": "Float64",
        "volume_change_signed_pct": "Float64", "hd95_mm": "Float64", "assd_mm": "Float64",
        "rotation_error_deg": "Float64", "translation_error_mm": "Float64", "tre_mm": "Float64",
    },
    "cases": {
        **CELL, "oracle": "boolean", "fingerprint": "string", "status": "string", "error": "string",
        "warning": "string", "seconds": "Float64",
        "seconds_spread": "Float64", "repeats": "Int64", "start_seconds": "Float64", "prepare_seconds": "Float64",
        "load_seconds": "Float64", "evaluate_seconds": "Float64", "contended": "boolean", "machine": "string",
        "voxels": "Int64", "peak_memory_mb": "Float64", "peak_device_memory_mb": "Float64", "threads": "Int64",
        "threads_observed": "Float64", "busy_elsewhere": "Float64", "folding_voxels": "Int64",
        "folding_pct": "Float64", "sd_log_jacobian": "Float64", "sd_log_jacobian_l2r": "Float64",
        "properness": "Float64", "orthonormality": "Float64", "similarity": "Float64", "landmark_tre_mm": "Float64",
    },
}  # fmt: skip


@pytest.mark.parametrize("table", TABLES)
def test_built_in_columns_keep_name_order_and_type(table: str) -> None:
    added = [entry.name for entry in METRICS if entry.origin != "built in"]
    found = [(name, dtype) for name, dtype in dtypes(table).items() if name not in added]
    assert found == list(SCHEMA[table].items())


def test_added_metrics_come_last(tiny: Path) -> None:
    names = list(declared("cases"))
    assert names.index("mean_motion_mm") > names.index("landmark_tre_mm")


def test_a_name_is_declared_once() -> None:
    columns = [column for table in TABLES for column in declared(table).values()]
    assert len(set(columns)) == len({column.name for column in columns})


def test_only_metrics_count_as_metrics() -> None:
    assert {c.name for c in all_declared().values() if c.metric} == {entry.name for entry in METRICS}


def test_every_number_has_a_unit_where_its_name_says_one() -> None:
    units = {"_mm": "mm", "_pct": "%", "_deg": "deg", "seconds": "s", "_mb": "MB"}
    for name, column in all_declared().items():
        expected = next((unit for ending, unit in units.items() if name.endswith(ending)), column.unit)
        assert column.unit == expected, name


def test_a_metric_cannot_have_the_name_of_another_column(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(METRICS, "_added", dict(METRICS._added))
    with origin_of("a plugin"):
        METRICS.add("seconds", lambda evaluation: 0, {"per": "case"})
    with pytest.raises(BadInput, match=r"metric 'seconds' \(a plugin\): every run has a column of this name"):
        check_names()


def test_an_undeclared_column_has_its_name_as_title() -> None:
    frames = {"cases": pd.DataFrame({"case": ["a"], "of_a_lost_plugin": [1.0]})}
    columns = columns_of(frames)
    assert columns["of_a_lost_plugin"] == Column("of_a_lost_plugin", "case", metric=True)
    assert columns["case"] == declared("cases")["case"]


def test_kept_declarations_come_before_those_of_this_process() -> None:
    kept = Column("dsc", "vertebra", title="Dice")
    frames = {"vertebrae": pd.DataFrame({"dsc": [1.0]})}
    assert columns_of(frames, [kept]) == {"dsc": kept}


def test_declarations_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text(columns_json(all_declared()), encoding="utf-8")
    assert read_columns(tmp_path) == list(all_declared().values())


@pytest.mark.parametrize("text", ["{", "[1]", '[{"name": "x"}]', '[{"name": "x", "per": "voxel"}]'])
def test_a_damaged_file_is_named(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text, encoding="utf-8")
    with pytest.raises(BadInput, match=r"columns\.json: expected the columns of a run, got .*; delete the file"):
        read_columns(tmp_path)
