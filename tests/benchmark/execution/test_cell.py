"""One cell: its columns, its log, and the process that serves it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.small_runs import run_tiny, tiny_config

from benchmark.execution import cell as cell_module
from benchmark.execution.cell import IDENTITY, CellExecutor, Share, is_disturbed, lost_cell, timed
from benchmark.execution.plan import make_plan
from methods.registry import DATASETS


@pytest.mark.parametrize(
    ("busy_elsewhere", "threads", "disturbed"),
    [(None, 1, False), (0.2, 1, False), (0.3, 1, True), (0.3, 8, False), (0.9, 8, True)],
)
def test_a_time_counts_while_other_work_is_small(busy_elsewhere: float | None, threads: int, disturbed: bool) -> None:
    assert is_disturbed({"busy_elsewhere": busy_elsewhere, "threads": threads}) == disturbed


def test_times_of_a_part_are_added() -> None:
    seconds: dict[str, float] = {"load": 1.0}
    with pytest.raises(KeyError), timed(seconds, "load"):
        raise KeyError
    assert 1.0 <= seconds["load"] < 1.5


def run_cells(tiny: Path, methods: list[Any], cases: list[str]) -> list[dict[str, Any]]:
    """The content of each cell, from one executor."""
    config = tiny_config(tiny, methods)
    executor = CellExecutor(config, Share(1), DATASETS.create("tiny").load)
    try:
        return [executor.run(task).content for task in make_plan(config).tasks(cases)]
    finally:
        executor.close()


def test_a_cell_has_its_identity_its_times_and_its_vertebrae(tiny: Path) -> None:
    (content,) = run_cells(tiny, ["true-shift"], ["one"])
    identity = {"dataset": "tiny", "split": "test", "case": "one", "method": "true-shift", "device": "cpu", "seed": 0}
    assert {key: content["case"][key] for key in IDENTITY} == identity
    assert all({key: row[key] for key in IDENTITY} == identity for row in content["vertebrae"])
    assert [row["vertebra"] for row in content["vertebrae"]] == [20, 21]
    for part in ("load_seconds", "start_seconds", "prepare_seconds", "seconds", "evaluate_seconds"):
        assert content["case"][part] >= 0
    assert content["case"]["status"] == "ok" and content["notes"] == {"remark": "shifted"}


def test_a_warning_of_the_method_is_a_column(tiny: Path) -> None:
    doubtful, sure = run_cells(tiny, ["doubtful", "true-shift"], ["one"])
    assert doubtful["case"]["warning"] == "the units look odd" and sure["case"]["warning"] is None


def test_a_case_that_cannot_be_loaded_is_a_failed_cell(tiny: Path) -> None:
    (content,) = run_cells(tiny, ["initial"], ["odd"])
    assert content["case"]["status"] == "failed" and content["vertebrae"] == []
    assert content["case"]["error"] == "loading the case: KeyError: 'a header'"


def test_a_lost_cell_has_its_identity_and_a_cause(tiny: Path) -> None:
    config = tiny_config(tiny, ["initial"])
    (task,) = make_plan(config).tasks(["one"])
    cell = lost_cell(config, task, "crashed", "the worker was lost").content["case"]
    assert set(IDENTITY) <= set(cell) and cell["fingerprint"] == task.fingerprint
    assert (cell["status"], cell["error"]) == ("crashed", "the worker was lost")


def test_a_log_names_its_cases(tiny: Path, tmp_path: Path) -> None:
    """A process does not know the names of its cases; `faulty` prints a traceback for each."""
    run_tiny(tiny, tmp_path / "run", [{"method": "faulty", "settings": {"kind": "raise"}}])
    log = (tmp_path / "run" / "logs" / "faulty@cpu.log").read_text(encoding="utf-8")
    assert log.startswith("==== one, two\n") and log.count("====") == 1


def test_a_method_may_ask_for_a_new_process_per_case(tiny: Path, tmp_path: Path) -> None:
    run_tiny(tiny, tmp_path / "run", ["fresh-shift"])
    cells = (tmp_path / "run" / "cells" / "fresh-shift@cpu").glob("*.json")
    assert len({json.loads(c.read_text(encoding="utf-8"))["notes"]["pid"] for c in cells}) == 2


def run_ahead(tiny: Path, methods: list[Any], cases: list[str], order: list[int] | None = None) -> list[dict[str, Any]]:
    """The content of each cell where each next process starts during the evaluation; `order` of the cells that run."""
    config = tiny_config(tiny, methods)
    tasks = make_plan(config).tasks(cases)
    executor = CellExecutor(config, Share(1), DATASETS.create("tiny").load)
    try:
        run = [tasks[i] for i in order] if order else tasks
        return [executor.run(t, following).content for t, following in zip(run, [*tasks[1:], None], strict=False)]
    finally:
        executor.close()


def values_of(content: dict[str, Any]) -> tuple[Any, ...]:
    """What a cell found, without its times."""
    case = content["case"]
    return case["method"], case["case"], case["status"], case["error"], content["vertebrae"]


def test_the_process_of_the_next_cell_starts_during_the_evaluation(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[str] = []
    init, evaluated = cell_module.Worker.__init__, cell_module.evaluate

    def new(self: Any, spec: Any, *args: Any) -> None:
        started.append(spec.row)
        init(self, spec, *args)

    def evaluate(*args: Any) -> Any:
        result = evaluated(*args)
        while len(started) < 2:  # ends only where the next process starts beside the evaluation
            time.sleep(0.01)
        return result

    monkeypatch.setattr(cell_module.Worker, "__init__", new)
    monkeypatch.setattr(cell_module, "evaluate", evaluate)
    first, second = run_ahead(tiny, ["fresh-shift"], ["one", "two"])
    assert started == ["fresh-shift", "fresh-shift"]
    assert first["case"]["status"] == second["case"]["status"] == "ok"


def test_a_process_started_ahead_changes_no_value(tiny: Path) -> None:
    kinds = ("raise", "prepare", "unavailable", "exit")
    faulty = [{"method": "faulty", "name": kind, "settings": {"kind": kind}} for kind in kinds]
    rows = ["true-shift", "fresh-shift", *faulty, "initial"]
    alone, ahead = run_cells(tiny, rows, ["one", "two"]), run_ahead(tiny, rows, ["one", "two"])
    assert list(map(values_of, ahead)) == list(map(values_of, alone))


def test_a_process_started_for_another_row_is_not_used(tiny: Path) -> None:
    contents = run_ahead(tiny, ["true-shift", "initial", "fresh-shift"], ["one"], order=[0, 2])
    assert [c["case"]["method"] for c in contents] == ["true-shift", "fresh-shift"]
    assert [c["case"]["status"] for c in contents] == ["ok", "ok"]


def test_closing_ends_a_process_that_was_started_ahead(tiny: Path) -> None:
    config = tiny_config(tiny, ["true-shift", {"method": "faulty", "settings": {"kind": "endless prepare"}}])
    tasks = make_plan(config).tasks(["one"])
    executor = CellExecutor(config, Share(1), DATASETS.create("tiny").load)
    executor.run(*tasks)
    start = time.monotonic()
    executor.close(0)
    assert time.monotonic() - start < 5
    assert not psutil.Process().children()
