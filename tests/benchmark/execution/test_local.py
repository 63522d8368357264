"""Cells beside each other on one machine: the same figures, sets of processors that do not overlap, times marked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.small_runs import figures, go, request

from benchmark.execution import resources
from benchmark.execution.local import run_here, shares
from benchmark.execution.plan import make_plan, reader
from benchmark.execution.runner import RunOptions
from benchmark.results.store import read_run
from metrics import timing


@pytest.mark.alone
def test_jobs_give_the_same_figures_and_times_that_are_marked(tiny: Path, tmp_path: Path) -> None:
    rows = ["initial", "fresh-shift", {"method": "faulty", "settings": {"kind": "exit"}}]
    go(tiny, tmp_path / "one", rows, count=3)
    outcome, recorder = go(tiny, tmp_path / "three", rows, count=3, how=RunOptions(jobs=3))
    assert sorted(recorder.statuses) == ["crashed"] * 3 + ["ok"] * 6 and outcome.exit_status == 1
    cells = read_run(tmp_path / "three").cases
    assert cells["contended"].all() and not read_run(tmp_path / "one").cases["contended"].any()
    one, three = figures(tmp_path / "one"), figures(tmp_path / "three")
    for name in ("pairs", "vertebrae"):
        assert one[name].equals(three[name])
    _, again = go(tiny, tmp_path / "three", rows, count=3)
    assert again.cells == [], "how many run beside each other does not make a cell another one"
    redone, _ = go(tiny, tmp_path / "three", rows, count=3, how=RunOptions(jobs=2, retry_failed=True))
    assert redone.statuses.count("ok") == 6


def test_jobs_run_beside_each_other(tiny: Path) -> None:
    """Two methods that only sleep are both in hand at one time."""
    config = request(tiny, ["napper"], count=4)
    plan = make_plan(config)
    began: list[float] = []
    cells = run_here(config, plan.tasks(plan.cases), 2, reader(plan.dataset), lambda _: began.append(time.monotonic()))
    first = next(cells)
    ended = time.monotonic()
    assert len(began) >= 2 and began[1] < ended and first.content["case"]["status"] == "ok"
    assert len([c for c in cells if c.content]) == 3


def test_closing_ends_what_is_in_hand(tiny: Path) -> None:
    rows = ["true-shift", {"method": "faulty", "settings": {"kind": "hang"}}]
    config = request(tiny, rows, count=2)
    plan = make_plan(config)
    tasks = [t for t in plan.tasks(plan.cases) if (t.method.name, t.case) != ("true-shift", "case-1")]
    cells = run_here(config, tasks, 2, reader(plan.dataset), lambda _: None)
    assert next(cells).task.method.name == "true-shift"
    began = time.monotonic()
    cells.close()
    assert time.monotonic() - began < 30, "a hanging method is not waited for"


@pytest.mark.alone
def test_a_later_run_alone_takes_only_what_is_missing_and_its_times_count(tiny: Path, tmp_path: Path) -> None:
    go(tiny, tmp_path / "run", ["initial"], count=4, how=RunOptions(jobs=2))
    (tmp_path / "run" / "cells" / "initial@cpu" / "case-2.json").unlink()
    go(tiny, tmp_path / "run", ["initial"], count=4)
    cells = read_run(tmp_path / "run").cases.set_index("case")
    assert cells["contended"].to_dict() == {"case-0": True, "case-1": True, "case-2": False, "case-3": True}


@pytest.mark.alone
@pytest.mark.skipif(timing._busy_seconds() is None, reason="this system does not tell how busy its processors are")
def test_a_cell_beside_other_work_says_so_and_its_time_does_not_count(tiny: Path, tmp_path: Path) -> None:
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in os.sched_getaffinity(0)]
    try:
        _, recorder = go(tiny, tmp_path / "run", ["sleeper"], count=1)
    finally:
        for process in busy:
            process.kill()
            process.wait()
    cell = read_run(tmp_path / "run").cases.iloc[0]
    assert cell["status"] == "ok" and cell["contended"] and cell["busy_elsewhere"] > 0.5
    said = r"other work kept \d+\.\d processors busy meanwhile; its time does not count"
    assert re.fullmatch(said, recorder.messages[0])


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no sets of processors")
class TestSets:
    """Which processors a job gets, on a machine of four cores with two threads each: 0 and 4, 1 and 5, ..."""

    @pytest.fixture(autouse=True)
    def eight(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
        monkeypatch.setattr(resources, "_siblings", lambda number: f"{number % 4},{number % 4 + 4}")

    @pytest.mark.parametrize(
        ("jobs", "threads", "expected"),
        [
            (1, 8, [(0, 1, 2, 3, 4, 5, 6, 7)]),
            (1, 4, [(0, 1, 2, 3)]),
            (2, 4, [(0, 1, 2, 3), (4, 5, 6, 7)]),
            (2, 2, [(0, 1), (2, 3)]),
            (4, 8, [(0, 1), (2, 3), (4, 5), (6, 7)]),
            (3, 8, [(0, 1), (2, 3), (4, 5)]),
            (9, 1, [(i,) for i in range(8)] + [(0,)]),
        ],
    )
    def test_sets(self, jobs: int, threads: int, expected: list[tuple[int, ...]]) -> None:
        assert resources.divide(jobs, threads) == expected

    def test_threads_and_memory_are_shared(self, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        from benchmark.execution import local

        monkeypatch.setattr(local.processors, "memory_gb", lambda: 40.0)
        parts = shares(request(tiny, ["initial"], threads=8), 4)
        assert [(s.threads, s.memory_limit_gb, s.contended) for s in parts] == [(2, 9.0, True)] * 4
        (alone,) = shares(request(tiny, ["initial"], threads=8, memory_limit_gb=3.0), 1)
        assert (alone.threads, alone.memory_limit_gb, alone.contended) == (8, 3.0, False)


def test_a_method_gets_its_set_and_its_threads(tiny: Path, tmp_path: Path) -> None:
    go(tiny, tmp_path / "run", ["burner"], count=2, how=RunOptions(jobs=2))
    for case in ("case-0", "case-1"):
        cell = json.loads((tmp_path / "run" / "cells" / "burner@cpu" / f"{case}.json").read_text(encoding="utf-8"))
        assert cell["notes"] == {"processors": 1.0, "OMP_NUM_THREADS": "1"} and cell["case"]["threads"] == 1
