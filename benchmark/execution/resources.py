"""The processors and the memory of this machine, and which processors a method may use.

Sets of processors do not overlap, and hold whole cores before their second threads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

# What libraries read to know how many threads they may start.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS",
                    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS")  # fmt: skip


def usable_cores() -> int:
    """Processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gb() -> float | None:
    """The machine's memory, or None where the system does not say."""
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (AttributeError, ValueError, OSError):
        return None


def divide(jobs: int, threads: int) -> list[tuple[int, ...]]:
    """A set of processors for each of `jobs` that run beside each other, `threads` in each or, if there are fewer, what
    there is divided evenly, and at least one. More jobs than processors share. Empty sets where the system has none.
    """
    order = _whole_cores_first()
    if not order:
        return [()] * jobs
    each = max(1, min(threads, len(order) // jobs))
    return [tuple(sorted({order[(job * each + i) % len(order)] for i in range(each)})) for job in range(jobs)]


def _whole_cores_first() -> Sequence[int]:
    """The processors that this process may use, one of each physical core first."""
    if not hasattr(os, "sched_getaffinity"):
        return ()
    usable = sorted(os.sched_getaffinity(0))
    seen: set[str] = set()
    first: list[int] = []
    second: list[int] = []
    for number in usable:
        core = _siblings(number)
        (second if core in seen else first).append(number)
        seen.add(core)
    return [*first, *second]


def _siblings(number: int) -> str:
    file = Path(f"/sys/devices/system/cpu/cpu{number}/topology/thread_siblings_list")
    try:
        return file.read_text(encoding="ascii").strip()
    except OSError:
        return str(number)
