"""Processors and memory of this machine, and their division among jobs."""

from __future__ import annotations

import os
from pathlib import Path

import psutil
import pytest
from support.small_runs import tiny_config

from benchmark.execution import resources
from benchmark.execution.local import shares

needs_affinity = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity"), reason="this system cannot bind processes to processors"
)


@pytest.fixture
def eight_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Four physical cores with two processors each: 0 and 4, 1 and 5, ..."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    monkeypatch.setattr(resources, "_siblings", lambda number: f"{number % 4},{number % 4 + 4}")


@needs_affinity
@pytest.mark.usefixtures("eight_processors")
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
def test_processors_are_divided_whole_cores_first(jobs: int, threads: int, expected: list[tuple[int, ...]]) -> None:
    assert resources.divide(jobs, threads) == expected


@needs_affinity
@pytest.mark.usefixtures("eight_processors")
def test_threads_and_memory_are_divided_among_jobs(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "memory_gb", lambda: 40.0)
    parts = shares(tiny_config(tiny, ["initial"], threads=8), 4)
    assert [(s.threads, s.memory_limit_gb, s.contended) for s in parts] == [(2, 9.0, True)] * 4


@needs_affinity
@pytest.mark.usefixtures("eight_processors")
def test_one_job_has_all_threads_and_the_configured_memory(tiny: Path) -> None:
    (alone,) = shares(tiny_config(tiny, ["initial"], threads=8, memory_limit_gb=3.0), 1)
    assert (alone.threads, alone.memory_limit_gb, alone.contended) == (8, 3.0, False)


def test_without_affinity_every_job_has_any_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    assert resources.divide(2, 4) == [(), ()]
    assert resources.usable_cores() == os.cpu_count()


def test_memory_is_the_machine_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("Memory", (), {"total": 5 * 2**29}))
    assert resources.memory_gb() == 2.5
