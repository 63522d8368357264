"""Which processors a method may use: sets that do not overlap, whole cores before their second threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path


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
