"""Real processes and real faults: each makes one status and one line, and nothing else."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from benchmark.worker import CellError, Job, Worker
from methods.base import Pair
from methods.registry import DATASETS


@pytest.fixture(scope="module")
def pair(tiny: Path) -> Pair:
    return DATASETS.create("tiny").load("one").pair.blind("token")


def job(tiny: Path, method: str, **settings: object) -> Job:
    return Job(method, settings, "cpu", 1, 0, 1, (str(tiny),))


def test_a_worker_registers_and_keeps_its_process(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "true-shift"), 60)
    try:
        for _ in range(2):
            registration, timing = worker.register(pair)
            np.testing.assert_array_equal(registration.displacement_mm[0, 0, 0], (2, 0, 0))
            assert registration.notes == {"remark": "shifted"}
            assert timing.repeats == 1 and timing.peak_memory_mb > 10
        assert worker.alive
    finally:
        worker.close()


def test_the_clock_is_register_alone(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "sleeper"), 60)
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
        ("segfault", "crashed", "the method's process was killed by SIGSEGV"),
        ("shape", "invalid", "displacement_mm: expected shape"),
        ("nan", "invalid", "displacement_mm: expected finite"),
        ("float64", "invalid", "displacement_mm: expected float32"),
        ("none", "invalid", "register: expected a Registration, got NoneType"),
    ],
)
def test_a_fault_is_a_status_and_one_line(tiny: Path, pair: Pair, kind: str, status: str, message: str) -> None:
    worker = Worker(job(tiny, "faulty", kind=kind), 60)
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
    worker = Worker(job(tiny, "faulty", kind="hang"), 60)
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
        Worker(job(tiny, "faulty", kind=kind), 60)
    assert caught.value.status == status


def test_a_method_never_sees_what_only_the_evaluation_may_know(tiny: Path, pair: Pair) -> None:
    worker = Worker(job(tiny, "snoop"), 60)
    try:
        worker.register(pair)
    finally:
        worker.close()
