"""Real processes with real faults: each gives one status and one line."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
from support.processes import eventually, runs

from benchmark.execution.worker import CellError, Worker, WorkerSpec
from methods.base import Pair
from methods.registry import DATASETS


@pytest.fixture(scope="module")
def pair(tiny: Path) -> Pair:
    return DATASETS.create("tiny").load("one").pair.blind("token")


def spec(tiny: Path, method: str, **settings: object) -> WorkerSpec:
    return WorkerSpec(method, settings, "cpu", 1, 0, 1, (str(tiny),))


def processes(worker: Worker) -> list[psutil.Process]:
    """The guardian, the method, and what that has started."""
    guardian = psutil.Process(worker._process.pid)
    return [guardian, *guardian.children(recursive=True)]


def gone(found: list[psutil.Process]) -> bool:
    return not any(map(runs, found))


def test_a_worker_registers_and_keeps_its_process(tiny: Path, pair: Pair) -> None:
    worker = Worker(spec(tiny, "true-shift"), 300)
    try:
        for _ in range(2):
            registration, timing = worker.register(pair)
            np.testing.assert_array_equal(registration.displacement_mm[0, 0, 0], (2, 0, 0))
            assert registration.notes == {"remark": "shifted"}
            assert timing.repeats == 1 and timing.peak_memory_mb > 10
        assert worker.alive
        found, folder = processes(worker), worker._folder
    finally:
        worker.close()
    assert gone(found) and not folder.exists()


@pytest.mark.alone
def test_only_register_is_timed(tiny: Path, pair: Pair) -> None:
    worker = Worker(spec(tiny, "sleeper"), 300)
    try:
        _, timing = worker.register(pair)
    finally:
        worker.close()
    assert 0.2 <= timing.seconds < 0.35
    assert worker.ready.prepare_seconds >= 0.5
    assert timing.busy_threads < 0.5, "a sleeping method uses no processor"


@pytest.mark.parametrize(
    ("kind", "status", "message"),
    [
        ("raise", "failed", "RuntimeError: it did not work"),
        ("exit", "crashed", "the method's process ended with exit status 3"),
        ("sysexit", "crashed", "the method's process ended with exit status 1"),
        ("segfault", "crashed", "the method's process was killed by SIGSEGV"),
        ("abort", "crashed", "the method's process was killed by SIGABRT"),
        ("killed", "crashed", "the method's process was killed by SIGKILL, as the system does when memory runs out"),
        ("too much", "failed", "MemoryError: Unable to allocate"),
        ("shape", "invalid", "displacement_mm: expected shape"),
        ("nan", "invalid", "displacement_mm: expected finite"),
        ("float64", "invalid", "displacement_mm: expected float32"),
        ("none", "invalid", "register: expected a Registration, got NoneType"),
        ("points", "invalid", "displacement_mm: expected millimetres, got a median length of"),
        ("notes", "invalid", "notes: expected numbers and text by name, got float32 as 'loss'"),
        ("no notes", "invalid", "notes: expected a dictionary, got NoneType"),
        ("unpicklable", "invalid", "the return value cannot be passed on"),
    ],
)
def test_a_fault_is_a_status_and_one_line(tiny: Path, pair: Pair, kind: str, status: str, message: str) -> None:
    worker = Worker(spec(tiny, "faulty", kind=kind), 300)
    try:
        with pytest.raises(CellError) as caught:
            worker.register(pair)
    finally:
        log = worker.close()
    assert caught.value.status == status
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    if status == "failed":
        assert "Traceback" in log, "the log has the traceback"


def test_a_method_that_hangs_is_killed_at_the_time_limit(tiny: Path, pair: Pair) -> None:
    worker = Worker(spec(tiny, "faulty", kind="hang"), 300)
    worker.time_limit_s = 1
    start = time.perf_counter()
    with pytest.raises(CellError, match="1 s, the time limit") as caught:
        worker.register(pair)
    assert caught.value.status == "timeout"
    assert time.perf_counter() - start < 10 and not worker.alive
    worker.close()


@pytest.mark.parametrize(("kind", "status"), [("unavailable", "unavailable"), ("prepare", "failed")])
def test_a_method_that_cannot_start_gives_a_status(tiny: Path, kind: str, status: str) -> None:
    with pytest.raises(CellError) as caught:
        Worker(spec(tiny, "faulty", kind=kind), 300)
    assert caught.value.status == status


def test_a_method_gets_neither_fixed_labels_nor_the_case_s_name(tiny: Path, pair: Pair) -> None:
    worker = Worker(spec(tiny, "snoop"), 300)
    try:
        worker.register(pair)
    finally:
        worker.close()


def test_a_method_that_uses_too_much_memory_is_killed(tiny: Path, pair: Pair) -> None:
    limited = WorkerSpec("faulty", {"kind": "memory"}, "cpu", 1, 0, 1, (str(tiny),), memory_limit_gb=1.0)
    worker = Worker(limited, 300)
    found = processes(worker)
    with pytest.raises(CellError, match="GB, more than 1 GB, the memory limit of a case") as caught:
        worker.register(pair)
    assert caught.value.status == "crashed" and gone(found)
    worker.close()


@pytest.mark.parametrize("kind", ["hang", "hang in C", "child"])
def test_a_killed_runner_leaves_no_process_and_no_folder(tiny: Path, pair: Pair, kind: str) -> None:
    """The guardian notices that the runner is gone, also while the method blocks the interpreter."""
    worker = Worker(spec(tiny, "faulty", kind=kind), 300)
    worker._connection.send(pair)
    expected = 3 if kind == "child" else 2
    assert eventually(lambda: len(processes(worker)) == expected)
    time.sleep(0.3)
    found, folder = processes(worker), worker._folder
    lifeline, worker._lifeline = worker._lifeline, -1
    os.close(lifeline)  # as the system does when the runner ends
    assert eventually(lambda: gone(found)) and not folder.exists()
    worker.close()


def test_a_stopped_run_ends_the_process(tiny: Path, pair: Pair) -> None:
    stop = False
    worker = Worker(spec(tiny, "faulty", kind="hang"), 300, lambda: stop)
    found = processes(worker)
    stop = True
    with pytest.raises(CellError, match="the run was stopped"):
        worker.register(pair)
    assert gone(found)
    worker.close()


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to processors")
def test_a_method_cannot_use_more_processors_than_given(tiny: Path, pair: Pair) -> None:
    """A method with four threads where one is given: they share one processor."""
    first = min(os.sched_getaffinity(0))
    seen = {}
    for name, processors in (("any", ()), ("one", (first,))):
        worker = Worker(WorkerSpec("burner", {}, "cpu", 1, 0, 1, (str(tiny),), processors=processors), 300)
        try:
            registration, seen[name] = worker.register(pair)
        finally:
            worker.close()
        expected = float(len(processors) or len(os.sched_getaffinity(0)))
        assert registration.notes == {"processors": expected, "OMP_NUM_THREADS": "1"}
    assert seen["one"].busy_threads < 1.15
    if len(os.sched_getaffinity(0)) > 1 and os.getloadavg()[0] < 1:  # otherwise other work uses the second processor
        assert seen["any"].busy_threads > 1.3, "without the binding four threads run"
