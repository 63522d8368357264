"""metrics/timing.py: calls of known duration. Upper bounds are wide, since other work may run at the same time."""

from __future__ import annotations

import hashlib
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from support.cuda import needs_cuda

from metrics import timing
from metrics.timing import measure


@pytest.mark.alone
def test_a_sleeping_call_takes_its_time_and_no_processor() -> None:
    result, seen = measure(lambda: time.sleep(0.2) or "done")
    assert result == "done"
    assert 0.2 <= seen.seconds < 0.4 and seen.spread == 0 and seen.total == seen.seconds and seen.repeats == 1
    assert seen.busy_threads < 0.5


@pytest.mark.alone
def test_several_calls_give_median_and_spread() -> None:
    naps = iter((0.1, 0.5, 0.2))
    _, seen = measure(lambda: time.sleep(next(naps)), repeats=3)
    assert 0.2 <= seen.seconds < 0.35, "the median, not the mean of 0.27"
    assert 0.39 <= seen.spread < 0.6 and seen.repeats == 3
    assert 0.8 <= seen.total < 1.2


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[queue.Queue]:
    """A device in this process: a thread that sleeps for each time in a queue. `measure` synchronises it like cuda."""
    naps: queue.Queue[float | None] = queue.Queue()

    def work() -> None:
        while (nap := naps.get()) is not None:
            time.sleep(nap)
            naps.task_done()

    thread = threading.Thread(target=work)
    thread.start()
    monkeypatch.setitem(timing.SYNCHRONISE, "queue", naps.join)
    yield naps
    naps.put(None)
    thread.join()


@pytest.mark.alone
def test_asynchronous_work_is_included(device: queue.Queue) -> None:
    _, unaware = measure(lambda: device.put(0.3), "cpu")
    assert unaware.seconds < 0.2, "without synchronisation the work is not included"
    _, seen = measure(lambda: device.put(0.3), "queue")
    assert 0.3 <= seen.seconds < 0.5, "only its own work, not that queued before"


@pytest.mark.alone
def test_busy_threads_are_counted() -> None:
    """Four threads that hash without the interpreter lock keep up to four processors busy."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if cores < 2 or os.getloadavg()[0] > cores / 2:
        pytest.skip("no second processor is free: four threads can keep no more than one busy")
    _, seen = measure(lambda: burn(4))
    assert 1.3 < seen.busy_threads <= min(4, cores) + 0.2


def burn(threads: int, rounds: int = 400_000) -> None:
    running = [threading.Thread(target=hashlib.pbkdf2_hmac, args=("sha256", b"", b"", rounds)) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


@pytest.mark.skipif(not timing._RESET.exists(), reason="this system cannot reset the peak")
def test_the_memory_peak_is_that_of_the_call() -> None:
    _, large = measure(lambda: np.ones(2**25).sum())  # 256 MB
    _, small = measure(lambda: None)
    assert large.peak_memory_mb - small.peak_memory_mb > 200
    assert small.peak_device_memory_mb is None


@pytest.mark.parametrize(("arguments", "message"), [(("cpu", 0), "repeats"), (("tpu", 1), "expected one of cpu, cuda")])
def test_invalid_arguments_are_refused(arguments: tuple[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        measure(lambda: None, *arguments)


@needs_cuda
def test_cuda_is_waited_for() -> None:
    torch.cuda.synchronize()
    cycles = 400_000_000
    start = time.perf_counter()
    torch.cuda._sleep(cycles)
    launched = time.perf_counter() - start
    torch.cuda.synchronize()
    truth = time.perf_counter() - start
    _, seen = measure(lambda: torch.cuda._sleep(cycles), "cuda")
    assert launched < truth / 5 and seen.seconds == pytest.approx(truth, rel=0.2)
    assert seen.peak_device_memory_mb is not None


def test_other_processes_are_counted_apart_from_the_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(timing, "_busy_seconds", iter((10.0, 12.0)).__next__)
    monkeypatch.setattr(timing, "_processor_seconds", iter((1.0, 2.5)).__next__)
    _, seen = measure(lambda: time.sleep(0.25))
    assert seen.busy_elsewhere == pytest.approx(0.5 / 0.25, rel=0.2), "12 - 10 less its own 1.5"


def test_the_work_of_a_running_child_process_is_its_own() -> None:
    """A library in another interpreter answers and goes on running: its work is not that of other programs."""
    code = "import sys\nfor line in sys.stdin:\n    sum(range(3_000_000)); print(flush=True)"
    with subprocess.Popen([sys.executable, "-Ic", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None and child.stdout is not None

        def call() -> None:
            child.stdin.write(b"\n")
            child.stdin.flush()
            child.stdout.readline()

        call()
        before = timing._processor_seconds()
        call()
        worked = timing._processor_seconds() - before
        child.stdin.close()
    assert worked > 0.02


def test_a_short_call_has_no_count_of_other_processes() -> None:
    assert measure(lambda: None)[1].busy_elsewhere is None


def test_only_usable_processors_are_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """user 100, nice 1, system 50, idle 9000, iowait 800, irq 5, softirq 5, steal 39, guest 70, guest_nice 7."""
    stat = tmp_path / "stat"
    stat.write_text("cpu 9 9 9\ncpu0 7 7 7 7 7 7 7 7 7 7\ncpu1 100 1 50 9000 800 5 5 39 70 7\nintr 1\n")
    monkeypatch.setattr(timing, "_PROCESSORS", stat)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {1})
    assert timing._busy_seconds() == pytest.approx(200 / os.sysconf("SC_CLK_TCK"))
    for silent in ("cpu 0 0 0\ncpu1 0 0 0 0 0 0 0 0 0 0\n", "cpu 9 9 9\n"):
        stat.write_text(silent)
        assert timing._busy_seconds() is None, "a sandbox may count nothing"
    monkeypatch.setattr(timing, "_PROCESSORS", tmp_path / "none")
    assert timing._busy_seconds() is None
