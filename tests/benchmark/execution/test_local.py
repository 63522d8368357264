"""Cells that run at the same time on one machine: the same values, and times that are marked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.small_runs import run_tiny, tables, tiny_config

from benchmark.execution.local import run_local
from benchmark.execution.plan import make_plan, reader
from benchmark.execution.runner import RunOptions
from benchmark.results.store import read_run
from metrics import timing


@pytest.mark.alone
def test_jobs_give_the_same_values_and_mark_times(tiny: Path, tmp_path: Path) -> None:
    rows = ["initial", "fresh-shift", {"method": "faulty", "settings": {"kind": "exit"}}]
    run_tiny(tiny, tmp_path / "one", rows, count=3)
    outcome, recorder = run_tiny(tiny, tmp_path / "three", rows, count=3, options=RunOptions(jobs=3))
    assert sorted(recorder.statuses) == ["crashed"] * 3 + ["ok"] * 6 and outcome.exit_status == 1
    cells = read_run(tmp_path / "three").cases
    assert cells["contended"].all() and not read_run(tmp_path / "one").cases["contended"].any()
    one, three = tables(tmp_path / "one"), tables(tmp_path / "three")
    for name in ("pairs", "vertebrae"):
        assert one[name].equals(three[name])
    _, again = run_tiny(tiny, tmp_path / "three", rows, count=3)
    assert again.cells == [], "the number of jobs does not make a cell stale"
    redone, _ = run_tiny(tiny, tmp_path / "three", rows, count=3, options=RunOptions(jobs=2, retry_failed=True))
    assert redone.statuses.count("ok") == 6


def test_jobs_run_at_the_same_time(tiny: Path) -> None:
    """Two cells have started before the first one ends."""
    config = tiny_config(tiny, ["napper"], count=4)
    plan = make_plan(config)
    started: list[float] = []
    cells = run_local(
        config, plan.tasks(plan.cases), 2, reader(plan.dataset), lambda _: started.append(time.monotonic())
    )
    first = next(cells)
    ended = time.monotonic()
    assert len(started) >= 2 and started[1] < ended and first.content["case"]["status"] == "ok"
    assert len([c for c in cells if c.content]) == 3


def test_closing_the_generator_ends_running_cells(tiny: Path) -> None:
    rows = ["true-shift", {"method": "faulty", "settings": {"kind": "hang"}}]
    config = tiny_config(tiny, rows, count=2)
    plan = make_plan(config)
    tasks = [t for t in plan.tasks(plan.cases) if (t.method.name, t.case) != ("true-shift", "case-1")]
    cells = run_local(config, tasks, 2, reader(plan.dataset), lambda _: None)
    assert next(cells).task.method.name == "true-shift"
    start = time.monotonic()
    cells.close()
    assert time.monotonic() - start < 30, "a method that hangs is killed"


@pytest.mark.alone
def test_missing_cells_that_run_alone_have_valid_times(tiny: Path, tmp_path: Path) -> None:
    run_tiny(tiny, tmp_path / "run", ["initial"], count=4, options=RunOptions(jobs=2))
    (tmp_path / "run" / "cells" / "initial@cpu" / "case-2.json").unlink()
    run_tiny(tiny, tmp_path / "run", ["initial"], count=4)
    cells = read_run(tmp_path / "run").cases.set_index("case")
    assert cells["contended"].to_dict() == {"case-0": True, "case-1": True, "case-2": False, "case-3": True}


@pytest.mark.alone
@pytest.mark.skipif(timing._busy_seconds() is None, reason="this system does not show how busy its processors are")
def test_a_cell_beside_other_work_is_marked(tiny: Path, tmp_path: Path) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        _, recorder = run_tiny(tiny, tmp_path / "run", ["sleeper"], count=1)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    cell = read_run(tmp_path / "run").cases.iloc[0]
    assert cell["status"] == "ok" and cell["contended"] and cell["busy_elsewhere"] > 0.5
    expected = r"time not counted: other work used \d+\.\d processors"
    assert re.fullmatch(expected, recorder.messages[0])


def test_a_method_gets_its_processors_and_threads(tiny: Path, tmp_path: Path) -> None:
    run_tiny(tiny, tmp_path / "run", ["burner"], count=2, options=RunOptions(jobs=2))
    for case in ("case-0", "case-1"):
        cell = json.loads((tmp_path / "run" / "cells" / "burner@cpu" / f"{case}.json").read_text(encoding="utf-8"))
        assert cell["notes"] == {"processors": 1.0, "OMP_NUM_THREADS": "1"} and cell["case"]["threads"] == 1
