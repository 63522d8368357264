"""The run folder: whole files, nulls that stay null, names that stay inside."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmark.errors import BadInput
from benchmark.results.columns import Column
from benchmark.results.store import Store, read_run
from methods.registry import METRICS, origin_of

ROOT = Path(__file__).parents[3]


def test_what_is_not_finite_is_null_in_json_and_in_the_table(tmp_path: Path) -> None:
    store = Store(tmp_path)
    identity = {"dataset": "d", "split": "test", "case": "a", "method": "m", "device": "cpu", "seed": 0}
    vertebrae = [{**identity, "vertebra": 20, "dsc": float("nan"), "hd95_mm": float("inf"), "assd_mm": 1.5}]
    store.write_cell("m@cpu", "a", {"case": {**identity, "status": "ok"}, "vertebrae": vertebrae})
    store.write_tables(["m@cpu"], ["a"])
    store.write_text("config.yaml", "{}")
    store.write_text("environment.json", "{}")
    row = read_run(tmp_path).vertebrae.iloc[0]
    assert row.isna()[["dsc", "hd95_mm", "tre_mm"]].all() and row["assd_mm"] == 1.5 and row["vertebra"] == 20


@pytest.fixture
def run_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run of one cell, made while a plugin's metric `gap_mm` was registered. No plugin is loaded any more."""
    store = Store(tmp_path / "run")
    store.write_text("config.yaml", "{}")
    store.write_text("environment.json", "{}")
    identity = {"dataset": "d", "split": "test", "case": "a", "method": "m", "device": "cpu", "seed": 0}
    cell = {"case": {**identity, "status": "ok", "gap_mm": 3.0}, "vertebrae": [{**identity, "vertebra": 20}]}
    with monkeypatch.context() as patch:
        patch.setattr(METRICS, "_added", dict(METRICS._added))
        with origin_of("a plugin"):
            METRICS.register("gap_mm", per="case", dtype="Int64", unit="mm", title="Gap")(lambda evaluation: 3)
        store.write_cell("m@cpu", "a", cell)
        store.write_tables(["m@cpu"], ["a"])
    return store.folder


def test_a_run_folder_keeps_what_a_plugin_declared(run_folder: Path) -> None:
    run = read_run(run_folder)
    assert run.cases["gap_mm"].dtype == "Int64" and run.cases["gap_mm"].tolist() == [3]
    assert run.columns["gap_mm"] == Column("gap_mm", "case", "Int64", "mm", "Gap", metric=True)


def test_a_run_folder_is_read_without_torch(run_folder: Path) -> None:
    code = f"""
import sys
from benchmark.results.store import read_run
print(read_run({str(run_folder)!r}).columns["dsc"].title, "torch" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "DSC False"


def test_a_run_folder_of_an_earlier_version_has_the_built_in_declarations(run_folder: Path) -> None:
    (run_folder / "columns.json").unlink()
    columns = read_run(run_folder).columns
    assert columns["dsc"] == METRICS.columns()["dsc"]
    assert columns["gap_mm"] == Column("gap_mm", "case", metric=True), "undeclared: its name is its title"


@pytest.mark.parametrize("name", ["..", "a/b", "", "a\0b"])
def test_a_name_cannot_leave_the_run_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(BadInput, match="inside the run folder"):
        Store(tmp_path).path("cells", name)


def test_what_is_no_run_folder_is_refused_with_the_next_step(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"expected a run folder, found no config.yaml; make one with `run --out"):
        read_run(tmp_path)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(BadInput, match="expected a folder to write into"):
        Store(blocked / "run")
