"""A run: its tables, what a second run repeats, and the effect of a cell or case that fails."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from support.small_runs import Recorder, run_tiny, tiny_config

from benchmark.config import make_config
from benchmark.datasets.folders import write_patient
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from benchmark.execution.plan import make_plan
from benchmark.execution.runner import RunOptions, _notice_stored, run
from benchmark.results.columns import dtypes
from benchmark.results.store import Store, read_run
from methods.base import Grid
from methods.registry import METRICS, origin_of


def test_a_run_fills_every_column(tiny: Path, tmp_path: Path) -> None:
    outcome, _ = run_tiny(tiny, tmp_path / "run", ["initial", "true-shift"])
    assert outcome.exit_status == 0
    done = read_run(tmp_path / "run")
    for frame, table in ((done.pairs, "pairs"), (done.vertebrae, "vertebrae"), (done.cases, "cases")):
        assert list(frame.columns) == list(dtypes(table))
    assert "mean_motion_mm" in done.cases, "a plugin's metric is a column"
    assert done.pairs["group"].tolist() == done.pairs["case"].tolist(), "each case is a patient of its own"
    by_method = done.vertebrae.groupby("method")
    # A block 14 voxels wide, 2 apart: they share 12 of 14 along x.
    assert by_method["dsc"].mean()["initial"] == pytest.approx(12 / 14)
    assert by_method["dsc"].mean()["true-shift"] == 1
    assert by_method["volume_change_pct"].max().max() == 0
    assert by_method["rigid_dsc"].min().min() == pytest.approx(1, abs=1e-3)
    assert by_method["tre_mm"].mean()["initial"] == pytest.approx(2, abs=1e-5)
    assert by_method["tre_mm"].mean()["true-shift"] == pytest.approx(0, abs=1e-5)
    truth = done.pairs[["true_dsc", "true_rigid_dsc", "true_volume_change_pct"]].astype(float)
    assert truth.to_numpy() == pytest.approx(np.array([[1, 1, 0]] * len(truth)), abs=1e-3)
    assert done.pairs["rigid_fit_dsc"].min() > 0.99 and done.pairs["initial_dsc"].mean() == pytest.approx(12 / 14)
    assert (done.pairs["voxels_moving"] == 10 * 12 * 14).all() and not done.pairs["touches_border"].any()
    cases = done.cases.set_index("method")
    assert cases.loc["true-shift", "mean_motion_mm"].tolist() == [2, 2]
    assert (cases["folding_voxels"] == 0).all() and np.allclose(cases["sd_log_jacobian"].astype(float), 0)
    assert (
        (cases["seconds"] > 0).all() and (cases["status"] == "ok").all() and cases["peak_device_memory_mb"].isna().all()
    )


def test_a_second_run_runs_missing_cells_only_and_writes_the_same_tables(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_tiny(tiny, out, ["initial", "true-shift"])
    before = {name: (out / f"{name}.parquet").read_bytes() for name in ("pairs", "vertebrae", "cases")}
    (out / "cells" / "true-shift@cpu" / "two.json").unlink()
    _, again = run_tiny(tiny, out, ["initial", "true-shift"])
    assert again.planned == (4, 3) and again.cells == [("true-shift@cpu", "two")]
    for name in ("pairs", "vertebrae"):
        assert (out / f"{name}.parquet").read_bytes() == before[name]


def test_another_training_of_a_row_is_a_seed_in_the_tables(tiny: Path, tmp_path: Path) -> None:
    again = {"method": "true-shift", "name": "again", "of": "true-shift", "seed": 3}
    _, first = run_tiny(tiny, tmp_path / "run", ["true-shift", again])
    done = read_run(tmp_path / "run")
    for frame in (done.cases, done.vertebrae):
        assert set(frame["method"]) == {"true-shift"} and set(frame["seed"]) == {0, 3}
    assert sorted({row for row, _ in first.cells}) == ["again@cpu", "true-shift@cpu"]
    _, other = run_tiny(tiny, tmp_path / "run", ["true-shift", {**again, "seed": 4}])
    assert {row for row, _ in other.cells} == {"again@cpu"}, "another seed is another cell"


def test_stored_rows_outside_the_request_are_named(tiny: Path, tmp_path: Path) -> None:
    run_tiny(tiny, tmp_path / "run", ["initial", "true-shift"])
    _, again = run_tiny(tiny, tmp_path / "run", ["initial"])
    assert [s for s in again.notices if "also holds true-shift@cpu" in s]


def test_a_fault_affects_its_own_cells_only(tiny: Path, tmp_path: Path) -> None:
    faults = [
        {"method": "faulty", "name": kind, "settings": {"kind": kind}} for kind in ("exit", "raise", "unavailable")
    ]
    outcome, recorder = run_tiny(tiny, tmp_path / "run", [*faults, "true-shift"])
    assert recorder.statuses == ["crashed"] * 2 + ["failed"] * 2 + ["unavailable"] * 2 + ["ok"] * 2
    assert outcome.exit_status == 1
    done = read_run(tmp_path / "run")
    assert set(done.vertebrae["method"]) == {"true-shift"}
    failed = done.cases.set_index("method").loc["raise"].iloc[0]
    assert failed["error"] == "RuntimeError: it did not work" and failed.isna()[["seconds", "folding_voxels"]].all()
    assert "Traceback" in (tmp_path / "run" / "logs" / "raise@cpu.log").read_text(encoding="utf-8")


def test_a_metric_that_raises_is_named_in_its_cells(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METRICS, "_added", dict(METRICS._added))
    with origin_of("a plugin"):
        METRICS.add("odd", lambda evaluation: 1 / 0, {"per": "case"})
    _, recorder = run_tiny(tiny, tmp_path / "run", ["true-shift"])
    assert recorder.statuses == ["failed"] * 2
    assert recorder.messages[0] == "metric odd: ZeroDivisionError: division by zero"


def test_a_metric_with_the_name_of_another_column_is_refused_before_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METRICS, "_added", dict(METRICS._added))
    with origin_of("a plugin"):
        METRICS.add("status", lambda evaluation: 0, {"per": "case"})
    with pytest.raises(BadInput, match=r"metric 'status' \(a plugin\): every run has a column of this name"):
        run_tiny(tiny, tmp_path / "run", ["true-shift"])
    assert not (tmp_path / "run").exists()


def test_a_failed_rerun_removes_the_earlier_picture_and_field(tiny: Path, tmp_path: Path) -> None:
    pictures, fields = (tmp_path / "run" / part / "faulty@cpu" for part in ("pictures", "fields"))
    run_tiny(tiny, tmp_path / "run", [{"method": "true-shift", "name": "faulty"}], save_fields=True)
    assert (
        len(list(pictures.glob("*.npz"))) == len(list(fields.glob("*.nii.gz"))) == len(list(fields.glob("*.h5"))) == 2
    )
    now = {"method": "faulty", "name": "faulty", "settings": {"kind": "raise"}}
    run_tiny(tiny, tmp_path / "run", [now], save_fields=True)
    assert not list(pictures.glob("*.npz")) and not list(fields.glob("*"))
    run_tiny(tiny, tmp_path / "without", ["true-shift"])
    assert not (tmp_path / "without" / "fields").exists(), "no folder without the option"


def test_an_unavailable_row_is_no_failure(tiny: Path, tmp_path: Path) -> None:
    gone = {"method": "faulty", "name": "gone", "settings": {"kind": "unavailable"}}
    outcome, _ = run_tiny(tiny, tmp_path / "run", [gone, "true-shift"])
    assert outcome.exit_status == 0


def test_a_case_that_cannot_be_loaded_is_refused_and_named(tiny: Path, tmp_path: Path) -> None:
    outcome, recorder = run_tiny(tiny, tmp_path / "run", ["initial"], split="val")
    with np.load(tmp_path / "run" / "pictures" / "initial@cpu" / "one.npz") as kept:
        assert "field" in kept, "the field of the first usable case is saved"
    assert outcome.exit_status == 1 and list(outcome.refused) == ["broken", "odd"]
    assert recorder.cells == [("initial@cpu", "one")]
    _, again = run_tiny(tiny, tmp_path / "run", ["initial"], split="val")
    assert again.cells == [], "it is refused again, and no other cell is repeated"
    pairs = read_run(tmp_path / "run").pairs.set_index("case")
    assert pairs.loc["broken", "excluded_reason"] == "broken: expected a patient, found none"
    assert pairs.loc["odd", "excluded_reason"] == "odd: KeyError: 'a header'", "any error of a loader"


def test_a_missing_dask_is_refused_with_its_installation(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(
        BadInput,
        match=r"distributed is not installed; pip install 'rigidbench\[dask\]' \(in a checkout: .venv/bin/pip\)$",
    ):
        run_tiny(tiny, tmp_path / "run", ["true-shift"], options=RunOptions(engine="dask"))


def test_a_case_without_fixed_labels_is_left_out_without_failure(tmp_path: Path) -> None:
    """One of two patients has centroids of its MR but no labels: no table has values of it."""
    patients = folder_patients(tmp_path / "patients")
    config = make_config({"dataset": {"name": "folders", "settings": {"dir": str(patients)}}, "methods": ["initial"],
                          "threads": 1}, "test")  # fmt: skip
    outcome = run(config, tmp_path / "run", Recorder())
    assert outcome.exit_status == 0 and outcome.refused == {}
    assert "no labels of the fixed scan" in outcome.left_out["unlabelled"]
    done = read_run(tmp_path / "run")
    assert set(done.cases["case"]) == {"labelled"}
    assert done.cases["landmark_tre_mm"].isna().all(), "null where there are no landmarks"
    absent = done.pairs[done.pairs["vertebra"].isna()]
    assert (
        absent["case"].tolist() == ["unlabelled"] and "no labels of the fixed scan" in absent["excluded_reason"].iloc[0]
    )
    (patients / "labelled" / "mr_mask.nii.gz").unlink()
    (patients / "labelled" / "mr_centroids.json").write_text('{"20": [0, 0, 0]}')
    with pytest.raises(
        BadInput, match="that can be evaluated, found none; the first: labelled: no labels of the fixed scan"
    ):
        run(config, tmp_path / "other", Recorder())
    assert not (tmp_path / "other").exists()


def folder_patients(folder: Path) -> Path:
    grid = Grid((40, 24, 24))
    labels = np.zeros(grid.shape, np.uint16)
    labels[4:18, 5:19, 5:19], labels[22:36, 5:19, 5:19] = 21, 20
    image = np.random.default_rng(0).normal(0, 50, grid.shape) + 500 * (labels > 0)
    for name in ("labelled", "unlabelled"):
        write_patient(folder / name, image, labels, image, labels, None, grid, centroids_mm(labels, grid))
    (folder / "unlabelled" / "mr_mask.nii.gz").unlink()
    return folder


def test_without_a_usable_case_nothing_is_written(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="broken: expected a patient"):
        run_tiny(tiny, tmp_path / "run", ["initial"], split="train")
    assert not (tmp_path / "run").exists()


def test_saved_fields_are_a_row_of_another_run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`precomputed` finds each case's file by its name in a relative folder; no other row gets the name."""
    run_tiny(tiny, tmp_path / "first", ["true-shift"], save_fields=True)
    monkeypatch.chdir(tmp_path)
    row = {"method": "precomputed", "name": "again", "settings": {"dir": "first/fields/true-shift@cpu"}}
    outcome, _ = run_tiny(tiny, tmp_path / "second", [row, "snoop"])
    assert outcome.statuses == ["ok"] * 4
    for case in ("one", "two"):
        cell = json.loads((tmp_path / "second" / "cells" / "again@cpu" / f"{case}.json").read_text())
        assert [v["dsc"] for v in cell["vertebrae"]] == [1, 1]
        assert cell["notes"]["file"] == f"{case}.nii.gz"
    absent, _ = run_tiny(tiny, tmp_path / "third", [row | {"settings": {"dir": "nowhere"}}])
    assert absent.statuses == ["unavailable"] * 2


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: (file.unlink(), file.mkdir())], ids=["gone", "unreadable"])
def test_a_deleted_cell_is_ignored(tiny: Path, tmp_path: Path, spoil: Callable) -> None:
    _, recorder = run_tiny(tiny, tmp_path, ["faulty"], count=2)
    assert set(recorder.statuses) == {"failed"}
    plan = make_plan(tiny_config(tiny, ["faulty"], count=2))
    tasks = plan.tasks(plan.cases)
    file = tmp_path / "cells" / tasks[0].row / f"{tasks[0].case}.json"
    spoil(file)
    _notice_stored(Store(tmp_path), plan, tasks, [], RunOptions(), recorder)
    assert recorder.notices == ["1 cell without a result kept; --retry-failed runs them again"]
