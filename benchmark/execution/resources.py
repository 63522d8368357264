"""Processors and memory of this machine, and their division among cells that run at the same time."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

# Environment variables from which libraries take their number of threads.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")  # fmt: skip
# The part of the machine's memory for methods, where the configuration has no limit.
MEMORY_PART = 0.9


def usable_cores() -> int:
    """Number of processors that this process may use, at least 1."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float:
    """Memory of this machine, GiB, with one decimal."""
    return round(psutil.virtual_memory().total / 2**30, 1)


def cell_memory_gb(limit_gb: float | None, cells: int) -> float:
    """Memory limit of one of `cells` cells that run at the same time, GiB.

    Args:
        limit_gb: the configuration's limit; None for an equal part of the machine's memory.
    """
    return limit_gb or MEMORY_PART * memory_gb() / cells


def divide(jobs: int, threads: int) -> list[tuple[int, ...]]:
    """Divide the processors among jobs that run at the same time.

    Processors of different physical cores are given first, second processors of a core last.

    Args:
        jobs: number of jobs.
        threads: largest number of processors of a job.

    Returns:
        Numbers of the processors of each job, at least one. Sets do not overlap, unless there are more jobs than
        processors. Empty sets where the system cannot bind processes to processors.
    """
    order = _whole_cores_first()
    if not order:
        return [()] * jobs
    each = max(1, min(threads, len(order) // jobs))
    return [tuple(sorted({order[(job * each + i) % len(order)] for i in range(each)})) for job in range(jobs)]


def _whole_cores_first() -> Sequence[int]:
    """The usable processors: one of each physical core first, then the others."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for number in sorted(os.sched_getaffinity(0)):
        core = _siblings(number)
        (second if core in seen else first).append(number)
        seen.add(core)
    return [*first, *second]


def _siblings(number: int) -> str:
    """The processors on the same physical core, as the system writes them; else the processor itself."""
    file = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return str(number)
