"""The run folder: whole files, nulls that stay null, names that stay inside."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmark.errors import BadInput
from benchmark.results.store import Store, read_run


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
