"""The clock: wall time of one call, with the device synchronised, and what the process used meanwhile."""

from __future__ import annotations

import os
import resource
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_STATUS, _RESET, _PROCESSORS = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/stat")
_IDLE, _WAITING, _COUNTED = (
    3,
    4,
    8,
)  # in a line of /proc/stat: what is no work, and guests, who are counted as users too
LEAST_WATCHED_S = 0.2  # the system counts in hundredths of a second: of a shorter call it says nothing


@dataclass(frozen=True)
class Timing:
    """What `measure` saw. seconds: median over `repeats` calls; spread: largest less smallest; total: of all of them.

    busy_threads: processor seconds per wall second over all calls, of this process, its threads and the processes that
    it waited for. busy_elsewhere: those that anybody else spent on this process's processors meanwhile, None where the
    system does not tell. peak_memory_mb: largest resident size of the process during the calls (since it started, where
    the system cannot begin anew, as macOS). peak_device_memory_mb: largest allocation by torch, None on the CPU.
    """

    seconds: float
    spread: float
    total: float
    repeats: int
    busy_threads: float
    busy_elsewhere: float | None
    peak_memory_mb: float
    peak_device_memory_mb: float | None


def measure(call: Callable[[], T], device: str = "cpu", repeats: int = 1) -> tuple[T, Timing]:
    """The last result of `call` and how long a call took. device: `cpu` or `cuda`, which is synchronised around it.

    torch is imported for cuda alone. Raises ValueError for another device, or fewer repeats than 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected 1 or more, got {repeats}")
    kind = device.partition(":")[0]
    if kind not in SYNCHRONISE:
        raise ValueError(f"device: expected one of {', '.join(SYNCHRONISE)}, got {device!r}")
    synchronise = SYNCHRONISE[kind]
    _begin_peaks(kind)
    walls: list[float] = []
    processor_began, all_began, watched_from = _processor_seconds(), _busy_seconds(), time.perf_counter()
    for _ in range(repeats):
        synchronise()
        began = time.perf_counter()
        result = call()
        synchronise()
        walls.append(time.perf_counter() - began)
    processor, everything = _processor_seconds() - processor_began, _busy_seconds()
    watched = time.perf_counter() - watched_from
    elsewhere = None
    if everything is not None and all_began is not None and watched >= LEAST_WATCHED_S:
        elsewhere = max(0.0, everything - all_began - processor) / watched
    timing = Timing(
        seconds=statistics.median(walls),
        spread=max(walls) - min(walls),
        total=sum(walls),
        repeats=repeats,
        busy_threads=processor / max(sum(walls), 1e-9),
        busy_elsewhere=elsewhere,
        peak_memory_mb=peak_memory_mb(),
        peak_device_memory_mb=_peak_device_memory_mb(kind),
    )
    return result, timing


def peak_memory_mb() -> float:
    """Largest resident size of this process since `measure` began or, where that is unknown, since it started, MiB."""
    # Not from psutil: it has the current size alone outside Windows. VmHWM, unlike ru_maxrss, can be reset.
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, others KiB


def _begin_peaks(kind: str) -> None:
    """A process that is kept must not report an earlier, larger patient's peak."""
    with suppress(OSError):  # absent or forbidden: then the peak is the process's own, since it started
        _RESET.write_text("5", encoding="ascii")
    if kind == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()


def _peak_device_memory_mb(kind: str) -> float | None:
    if kind != "cuda":
        return None
    import torch

    return torch.cuda.max_memory_allocated() / 2**20


def _processor_seconds() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _busy_seconds() -> float | None:
    """Seconds that the processors this process may use were busy since the system's start, with whatever; steal too.

    None where the system does not tell, as a sandbox that names no processor or counts nothing.
    """
    if not _PROCESSORS.exists() or not hasattr(os, "sched_getaffinity"):
        return None
    mine = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in _PROCESSORS.read_text(encoding="ascii", errors="replace").splitlines():
        name, *counts = line.split()
        if name in mine:
            ticks += sum(int(c) for i, c in enumerate(counts[:_COUNTED]) if i not in (_IDLE, _WAITING))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else None


def _synchronise_cuda() -> None:
    import torch

    torch.cuda.synchronize()


# What waits until a device has done all that was asked of it.
SYNCHRONISE: dict[str, Callable[[], None]] = {"cpu": lambda: None, "cuda": _synchronise_cuda}
