"""Real processes and real faults: each makes one status and one line, and nothing else."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest

from benchmark.execution.worker import CellError, Worker, WorkerSpec
from methods.base import Pair
from methods.registry import DATASETS


@pytest.fixture(scope="module")
def pair(tiny: Path) -> Pair:
    return DATASETS.create("tiny").load("one").pair.blind("token")


def job(tiny: Path, method: str, **settings: object) -> WorkerSpec:
    return WorkerSpec(method, settings, "cpu", 1, 0, 1, (str(tiny),))


def processes(worker: Worker) -> list[psutil.Process]:
    """The guardian, the method, and what that has started."""
    guardian = psutil.Process(worker._process.pid)
    return [guardian, *guardian.children(recursive=True)]


def eventually(what: Callable[[], object], seconds: float = 20) -> bool:
    deadline = time.monotonic() + seconds
    while not (true := bool(what())) and time.monotonic() < deadline:
        time.sleep(0.05)
    return true


def gone(found: list[psutil.Process]) -> bool:
    def runs(process: psutil.Process) -> bool:
        try:
            return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return not any(map(runs, found))


def test_a_worker_registers_and_keeps_its_process(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "true-shift"), 300)
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
def test_the_clock_is_register_alone(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "sleeper"), 300)
    try:
        _, timing = worker.register(pair)
    finally:
        worker.close()
    assert 0.2 <= timing.seconds < 0.35
    assert worker.ready.prepare_seconds >= 0.5
    assert timing.busy_threads < 0.5, "a sleeping method keeps no processor busy"


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
    worker = Worker(job(tiny, "faulty", kind=kind), 300)
    try:
        with pytest.raises(CellError) as caught:
            worker.register(pair)
    finally:
        log = worker.close()
    assert caught.value.status == status
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)
    if status == "failed":
        assert "Traceback" in log, "the log keeps what the line leaves out"


def test_a_method_that_hangs_is_ended_at_the_limit(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "faulty", kind="hang"), 300)
    worker.time_limit_s = 1
    began = time.perf_counter()
    with pytest.raises(CellError, match="1 s, the time limit") as caught:
        worker.register(pair)
    assert caught.value.status == "timeout"
    assert time.perf_counter() - began < 10 and not worker.alive
    worker.close()


@pytest.mark.parametrize(("kind", "status"), [("unavailable", "unavailable"), ("prepare", "failed")])
def test_a_method_that_cannot_start_says_why(tiny: Path, kind: str, status: str) -> None:
    with pytest.raises(CellError) as caught:
        Worker(job(tiny, "faulty", kind=kind), 300)
    assert caught.value.status == status


def test_a_method_never_sees_what_only_the_evaluation_may_know(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "snoop"), 300)
    try:
        worker.register(pair)
    finally:
        worker.close()


def test_a_method_that_takes_too_much_memory_is_ended(tiny: Path, pair: Pair) -> None:
    limited = WorkerSpec("faulty", {"kind": "memory"}, "cpu", 1, 0, 1, (str(tiny),), memory_limit_gb=1.0)
    worker = Worker(limited, 300)
    found = processes(worker)
    with pytest.raises(CellError, match="GB, more than 1 GB, the memory limit of a case") as caught:
        worker.register(pair)
    assert caught.value.status == "crashed" and gone(found)
    worker.close()


@pytest.mark.parametrize("kind", ["hang", "hang in C", "child"])
def test_nothing_of_a_method_outlives_its_time_or_its_runner(tiny: Path, pair: Pair, kind: str) -> None:
    """Ended at the limit; and where the runner itself was killed, which only the guardian sees."""
    worker = Worker(job(tiny, "faulty", kind=kind), 300)
    worker._connection.send(pair)
    expected = 3 if kind == "child" else 2
    assert eventually(lambda: len(processes(worker)) == expected)
    time.sleep(0.3)
    found, folder = processes(worker), worker._folder
    lifeline, worker._lifeline = worker._lifeline, -1
    os.close(lifeline)  # what the system does when the runner is gone
    assert eventually(lambda: gone(found)) and not folder.exists()
    worker.close()


def test_a_run_that_is_to_stop_ends_the_process(tiny: Path, pair: Pair) -> None:
    stop = False
    worker = Worker(job(tiny, "faulty", kind="hang"), 300, lambda: stop)
    found = processes(worker)
    stop = True
    with pytest.raises(CellError, match="the run was stopped"):
        worker.register(pair)
    assert gone(found)
    worker.close()


@pytest.mark.alone
@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no sets of processors")
def test_a_method_cannot_take_more_processors_than_it_was_given(tiny: Path, pair: Pair) -> None:
    """Four threads where one was given: they share one processor, and the clock shows what that takes."""
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
    if len(os.sched_getaffinity(0)) > 1 and os.getloadavg()[0] < 1:  # else other work has what it would take
        assert seen["any"].busy_threads > 1.3, "what a table would show as one thread's time, without the set"
