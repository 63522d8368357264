"""A run: its tables, what a second run repeats, and what one bad cell or patient costs."""

from __future__ import annotations

import io
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from support.small_runs import Recorder, go, request

from benchmark.cli.run import dry_run
from benchmark.config import make_config
from benchmark.datasets.folders import write_patient
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from benchmark.execution.plan import changes, make_plan
from benchmark.execution.runner import RunOptions, _say_what_is_kept, run
from benchmark.results.columns import dtypes
from benchmark.results.store import Store, read_run
from methods.base import Grid
from methods.registry import METHODS, METRICS, PENALTIES, load_plugin, origin_of


def test_a_run_fills_every_column(tiny: Path, tmp_path: Path) -> None:
    outcome, _ = go(tiny, tmp_path / "run", ["initial", "true-shift"])
    assert outcome.exit_status == 0
    done = read_run(tmp_path / "run")
    for frame, table in ((done.pairs, "pairs"), (done.vertebrae, "vertebrae"), (done.cases, "cases")):
        assert list(frame.columns) == list(dtypes(table))
    assert "mean_motion_mm" in done.cases, "a plugin's metric is a column"
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
    assert done.pairs["ceiling_dsc"].min() > 0.99 and done.pairs["initial_dsc"].mean() == pytest.approx(12 / 14)
    assert (done.pairs["voxels_moving"] == 10 * 12 * 14).all() and not done.pairs["touches_border"].any()
    cases = done.cases.set_index("method")
    assert cases.loc["true-shift", "mean_motion_mm"].tolist() == [2, 2]
    assert (cases["folding_voxels"] == 0).all() and np.allclose(cases["sd_log_jacobian"].astype(float), 0)
    assert (
        (cases["seconds"] > 0).all() and (cases["status"] == "ok").all() and cases["peak_device_memory_mb"].isna().all()
    )


def test_a_second_run_does_only_what_is_missing_and_ends_with_the_same_tables(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    go(tiny, out, ["initial", "true-shift"])
    before = {name: (out / f"{name}.parquet").read_bytes() for name in ("pairs", "vertebrae", "cases")}
    (out / "cells" / "true-shift@cpu" / "two.json").unlink()
    _, again = go(tiny, out, ["initial", "true-shift"])
    assert again.planned == (4, 3) and again.cells == [("true-shift@cpu", "two")]
    for name in ("pairs", "vertebrae"):
        assert (out / f"{name}.parquet").read_bytes() == before[name]


def test_another_training_of_a_row_is_a_seed_of_it_in_the_tables(tiny: Path, tmp_path: Path) -> None:
    again = {"method": "true-shift", "name": "again", "of": "true-shift", "seed": 3}
    _, first = go(tiny, tmp_path / "run", ["true-shift", again])
    done = read_run(tmp_path / "run")
    for frame in (done.cases, done.vertebrae):
        assert set(frame["method"]) == {"true-shift"} and set(frame["seed"]) == {0, 3}
    assert sorted({row for row, _ in first.cells}) == ["again@cpu", "true-shift@cpu"]
    _, other = go(tiny, tmp_path / "run", ["true-shift", {**again, "seed": 4}])
    assert {row for row, _ in other.cells} == {"again@cpu"}, "another seed is another draw"
    console = Console(file=io.StringIO(), width=200)
    dry_run(request(tiny, ["true-shift", {**again, "seed": 5}]), tmp_path / "run", RunOptions(), console)
    assert re.search(r"again@cpu +2 +0 .* 4 cells in", console.file.getvalue()), "timed as the row that it belongs to"


@pytest.mark.parametrize(("on_stale", "repeated"), [("redo", 2), ("keep", 0)])
def test_a_cell_of_other_settings_is_noticed(tiny: Path, tmp_path: Path, on_stale: str, repeated: int) -> None:
    go(tiny, tmp_path / "run", ["true-shift"])
    _, again = go(tiny, tmp_path / "run", ["true-shift"], seed=1, how=RunOptions(on_stale))
    assert len(again.cells) == repeated
    assert again.said[0].startswith("true-shift@cpu: 2 made with other settings: ")
    with pytest.raises(BadInput, match="true-shift@cpu on one was made with other settings; choose --on-stale redo or"):
        go(tiny, tmp_path / "run", ["true-shift"], seed=2, how=RunOptions("fail"))


def test_a_plugin_file_makes_those_rows_stale_that_it_has_a_part_in(tiny: Path, tmp_path: Path) -> None:
    """A method's file its own row, a column's file and one of unknown effect every row, a penalty's none."""
    register = "from methods.registry import METHODS, METRICS, PENALTIES\nfrom methods.initial import Initial\n"
    files = {
        "a_method": "METHODS.add('of-a-file', Initial)",
        "a_column": "METRICS.add('a_column', lambda m: 0, {'per': 'case'})",
        "a_penalty": "PENALTIES.add('of_a_file', lambda w: 0)", "unknown": "print()",
    }  # fmt: skip
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(register + text + "\n")
        load_plugin(tmp_path / f"{name}.py")
    expected = {"a_method": {"of-a-file"}, "a_penalty": set(), "a_column": {"initial", "of-a-file"},
                "unknown": {"initial", "of-a-file"}}  # fmt: skip

    def prints(plugins: list[Path]) -> dict[str, str]:
        config = request(tiny, ["initial", "of-a-file"], plugins=[str(p) for p in [tiny, *plugins]])
        return {t.method.name: t.fingerprint for t in make_plan(config).tasks(["one"])}

    try:
        for name, rows in expected.items():
            file = tmp_path / f"{name}.py"
            before = prints([file])
            file.write_text(file.read_text() + "# edited\n")
            assert prints([file]) == before, f"{name}: a comment"
            file.write_text(file.read_text() + "EDITED = 1\n")
            after = prints([file])
            assert {row for row in before if before[row] != after[row]} == rows, name
            assert {changes(before[row], after[row]) for row in rows} <= {"plugin"}
    finally:
        for registry in (METHODS, METRICS, PENALTIES):
            for entry in [e for e in registry if str(tmp_path) in e.origin]:
                del registry._added[entry.name]


def test_what_two_fingerprints_differ_in_is_said_in_words() -> None:
    assert changes("a.b.c.d.e.f.g", "a.x.c.d.e.f.y") == "weights or package, code"
    assert changes("0123456789abcdef", "a.b.c.d.e.f.g") == "rigidbench version", "of a run made before"


def test_a_row_that_is_here_and_not_asked_for_is_named(tiny: Path, tmp_path: Path) -> None:
    go(tiny, tmp_path / "run", ["initial", "true-shift"])
    _, again = go(tiny, tmp_path / "run", ["initial"])
    assert [s for s in again.said if "also holds true-shift@cpu" in s]


def test_a_log_says_whose_it_is(tiny: Path, tmp_path: Path) -> None:
    """A process knows its cases by tokens alone; `faulty` prints a traceback for each."""
    go(tiny, tmp_path / "run", [{"method": "faulty", "settings": {"kind": "raise"}}])
    log = (tmp_path / "run" / "logs" / "faulty@cpu.log").read_text(encoding="utf-8")
    assert log.startswith("==== one, two\n") and log.count("====") == 1


def test_faults_cost_their_own_cells_alone(tiny: Path, tmp_path: Path) -> None:
    faults = [
        {"method": "faulty", "name": kind, "settings": {"kind": kind}} for kind in ("exit", "raise", "unavailable")
    ]
    outcome, recorder = go(tiny, tmp_path / "run", [*faults, "true-shift"])
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
    _, recorder = go(tiny, tmp_path / "run", ["true-shift"])
    assert recorder.statuses == ["failed"] * 2
    assert recorder.messages[0] == "metric odd: ZeroDivisionError: division by zero"


def test_a_metric_with_the_name_of_another_column_is_refused_before_the_run(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(METRICS, "_added", dict(METRICS._added))
    with origin_of("a plugin"):
        METRICS.add("status", lambda evaluation: 0, {"per": "case"})
    with pytest.raises(BadInput, match=r"metric 'status' \(a plugin\): every run has a column of this name"):
        go(tiny, tmp_path / "run", ["true-shift"])
    assert not (tmp_path / "run").exists()


def test_a_cell_that_fails_the_second_time_keeps_no_picture_of_the_first(tiny: Path, tmp_path: Path) -> None:
    pictures, fields = (tmp_path / "run" / part / "faulty@cpu" for part in ("pictures", "fields"))
    go(tiny, tmp_path / "run", [{"method": "true-shift", "name": "faulty"}], save_fields=True)
    assert len(list(pictures.glob("*.npz"))) == len(list(fields.glob("*"))) == 2
    now = {"method": "faulty", "name": "faulty", "settings": {"kind": "raise"}}
    go(tiny, tmp_path / "run", [now], save_fields=True)
    assert not list(pictures.glob("*.npz")) and not list(fields.glob("*"))
    go(tiny, tmp_path / "without", ["true-shift"])
    assert not (tmp_path / "without" / "fields").exists(), "no folder for what nobody asked for"


def test_unavailable_alone_is_no_failure(tiny: Path, tmp_path: Path) -> None:
    gone = {"method": "faulty", "name": "gone", "settings": {"kind": "unavailable"}}
    outcome, _ = go(tiny, tmp_path / "run", [gone, "true-shift"])
    assert outcome.exit_status == 0


def test_a_fresh_process_for_every_case_where_a_method_asks_for_it(tiny: Path, tmp_path: Path) -> None:
    go(tiny, tmp_path / "run", ["fresh-shift"])
    cells = (tmp_path / "run" / "cells" / "fresh-shift@cpu").glob("*.json")
    assert len({json.loads(c.read_text(encoding="utf-8"))["notes"]["pid"] for c in cells}) == 2


def test_a_patient_that_cannot_be_read_is_left_out_and_said_so(tiny: Path, tmp_path: Path) -> None:
    outcome, recorder = go(tiny, tmp_path / "run", ["initial"], split="val")
    with np.load(tmp_path / "run" / "pictures" / "initial@cpu" / "one.npz") as kept:
        assert "field" in kept, "the first patient that can be used is the one whose field is kept"
    assert outcome.exit_status == 1 and list(outcome.refused) == ["broken", "odd"]
    assert recorder.cells == [("initial@cpu", "one")]
    _, again = go(tiny, tmp_path / "run", ["initial"], split="val")
    assert again.cells == [], "left out once more, and nothing else is repeated"
    pairs = read_run(tmp_path / "run").pairs.set_index("case")
    assert pairs.loc["broken", "excluded_reason"] == "broken: expected a patient, found none"
    assert pairs.loc["odd", "excluded_reason"] == "odd: KeyError: 'a header'", "whatever a reader raises"


def test_a_cluster_without_its_library_is_one_line(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(BadInput, match="--engine dask: distributed is not installed; pip install"):
        go(tiny, tmp_path / "run", ["true-shift"], how=RunOptions(engine="dask"))


def test_a_case_without_fixed_labels_is_said_and_is_no_failure(tmp_path: Path) -> None:
    """Of two patients one has centroids of its MR but no labels: it is left out of every figure."""
    patients = folder_patients(tmp_path / "patients")
    config = make_config({"dataset": {"name": "folders", "settings": {"dir": str(patients)}}, "methods": ["initial"],
                          "threads": 1}, "test")  # fmt: skip
    outcome = run(config, tmp_path / "run", Recorder())
    assert outcome.exit_status == 0 and outcome.refused == {}
    assert "no labels of the MR" in outcome.left_out["unlabelled"]
    done = read_run(tmp_path / "run")
    assert set(done.cases["case"]) == {"labelled"}
    assert done.cases["landmark_tre_mm"].isna().all(), "null where there are no landmarks"
    absent = done.pairs[done.pairs["vertebra"].isna()]
    assert absent["case"].tolist() == ["unlabelled"] and "no labels of the MR" in absent["excluded_reason"].iloc[0]
    (patients / "labelled" / "mr_mask.nii.gz").unlink()
    (patients / "labelled" / "mr_centroids.json").write_text('{"20": [0, 0, 0]}')
    with pytest.raises(BadInput, match="to measure, found only such as labelled: no labels of the MR"):
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


def test_a_file_that_settings_name_and_that_is_absent_is_one_line(tmp_path: Path) -> None:
    row = {"method": "staring", "name": "mine", "settings": {"parameters": "absent.txt"}}
    for dataset, methods, line in (
        ({"name": "phantom"}, [row], "method mine: .*absent.txt"),
        ({"name": "phantom", "settings": {"splits": "absent"}}, ["initial"], "absent.json: expected a JSON object"),
    ):
        with pytest.raises(BadInput, match=line):
            run(make_config({"dataset": dataset, "methods": methods}, "test"), tmp_path / "run", Recorder())
    assert not (tmp_path / "run").exists()


def test_without_a_usable_patient_nothing_is_written(tiny: Path, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="broken: expected a patient"):
        go(tiny, tmp_path / "run", ["initial"], split="train")
    assert not (tmp_path / "run").exists()


def test_pictures_hold_no_pickle_and_lie_on_the_same_slices(tiny: Path, tmp_path: Path) -> None:
    go(tiny, tmp_path / "run", ["true-shift"], save_fields=True)
    folder = tmp_path / "run" / "pictures"
    pair, cell = (np.load(f, allow_pickle=False) for f in (folder / "one.npz", folder / "true-shift@cpu" / "one.npz"))
    assert pair["ct_sagittal"].dtype == np.uint8 and pair["ct_sagittal"].shape == pair["fixed_labels_sagittal"].shape
    np.testing.assert_array_equal(cell["warped_labels_axial"], pair["fixed_labels_axial"])
    # The true shift is of two whole voxels along x, which is the last axis of an axial slice.
    np.testing.assert_allclose(cell["warped_ct_axial"][..., :-2], pair["ct_axial"][..., 2:].astype(float), atol=1)
    assert cell["warped_ct_sagittal"].dtype == np.uint8
    np.testing.assert_array_equal(np.unique(cell["field"].reshape(-1, 3), axis=0), [[200, 0, 0]])  # 0.01 mm
    from benchmark.datasets.io.images import read_displacement

    field, grid = read_displacement(tmp_path / "run" / "fields" / "true-shift@cpu" / "one.nii.gz")
    assert grid.origin_mm == (-10, 5, 20) and (field == (2, 0, 0)).all()


def test_fields_of_one_run_are_a_row_of_another(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`precomputed` finds each case's file by its name, from a relative path; no other row is told the name."""
    go(tiny, tmp_path / "first", ["true-shift"], save_fields=True)
    monkeypatch.chdir(tmp_path)
    row = {"method": "precomputed", "name": "again", "settings": {"dir": "first/fields/true-shift@cpu"}}
    outcome, _ = go(tiny, tmp_path / "second", [row, "snoop"])
    assert outcome.statuses == ["ok"] * 4
    for case in ("one", "two"):
        cell = json.loads((tmp_path / "second" / "cells" / "again@cpu" / f"{case}.json").read_text())
        assert [v["dsc"] for v in cell["vertebrae"]] == [1, 1]
        assert cell["notes"]["file"] == f"{case}.nii.gz"
    absent, _ = go(tiny, tmp_path / "third", [row | {"settings": {"dir": "nowhere"}}])
    assert absent.statuses == ["unavailable"] * 2


@pytest.mark.parametrize("spoil", [Path.unlink, lambda file: (file.unlink(), file.mkdir())], ids=["gone", "unreadable"])
def test_a_kept_cell_that_is_gone_by_then_is_passed_over(tiny: Path, tmp_path: Path, spoil: Callable) -> None:
    _, recorder = go(tiny, tmp_path, ["faulty"], count=2)
    assert set(recorder.statuses) == {"failed"}
    plan = make_plan(request(tiny, ["faulty"], count=2))
    tasks = plan.tasks(plan.cases)
    file = tmp_path / "cells" / tasks[0].row / f"{tasks[0].case}.json"
    spoil(file)
    _say_what_is_kept(Store(tmp_path), tasks, recorder)
    assert recorder.said == ["1 cell without a result kept; --retry-failed runs them again"]
