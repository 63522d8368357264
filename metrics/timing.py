"""The clock of a registration: wall time with the device synchronised, processor time and peak memory."""

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

import psutil

T = TypeVar("T")

_STATUS, _RESET, _PROCESSORS = Path("/proc/self/status"), Path("/proc/self/clear_refs"), Path("/proc/stat")
# Columns of a line of /proc/stat: idle, I/O wait, and the first of guest times, which user times include.
_IDLE, _IO_WAIT, _GUEST = 3, 4, 8
# The system counts in hundredths of a second: its count is too coarse for a shorter measurement.
SHORTEST_COUNTED_S = 0.2


@dataclass(frozen=True)
class Timing:
    """The measurements of `measure`.

    Attributes:
        seconds: median wall time of a call, s.
        spread: largest less smallest wall time, s.
        total: wall time of all calls, s.
        repeats: number of calls.
        busy_threads: processor seconds per wall second over all calls, of this process, its threads and the processes
            that it has started.
        busy_elsewhere: processor seconds per wall second of all other processes on the processors of this one; None
            where the system does not report them.
        peak_memory_mb: largest resident size of the process during the calls, MiB, without processes that it has
            started; since its start where the system cannot reset the peak, as on macOS.
        peak_device_memory_mb: largest allocation by torch, MiB; None on the CPU.
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
    """Measure a call.

    torch is imported for cuda only.

    Args:
        call: called `repeats` times without arguments.
        device: `cpu` or `cuda`, which is synchronised before and after each call.
        repeats: number of calls, at least 1.

    Returns:
        The last result of `call`, and the measurements.

    Raises:
        ValueError: the device is unknown, or `repeats` is below 1.
    """
    if repeats < 1:
        raise ValueError(f"repeats: expected 1 or more, got {repeats}")
    kind = device.partition(":")[0]
    if kind not in SYNCHRONISE:
        raise ValueError(f"device: expected one of {', '.join(SYNCHRONISE)}, got {device!r}")
    synchronise = SYNCHRONISE[kind]
    _reset_peaks(kind)
    walls: list[float] = []
    processor_before, busy_before, start = _processor_seconds(), _busy_seconds(), time.perf_counter()
    for _ in range(repeats):
        synchronise()
        call_start = time.perf_counter()
        result = call()
        synchronise()
        walls.append(time.perf_counter() - call_start)
    processor, busy = _processor_seconds() - processor_before, _busy_seconds()
    elapsed = time.perf_counter() - start
    elsewhere = None
    if busy is not None and busy_before is not None and elapsed >= SHORTEST_COUNTED_S:
        elsewhere = max(0.0, busy - busy_before - processor) / elapsed
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
    """Return the largest resident size of this process since the last `measure` started, MiB.

    Where the system cannot reset the peak, it is that since the process started.
    """
    # Not from psutil: it has the current size alone outside Windows. VmHWM, unlike ru_maxrss, can be reset.
    if _STATUS.exists():
        lines = _STATUS.read_text(encoding="ascii", errors="replace").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 2**10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, others KiB


def _reset_peaks(kind: str) -> None:
    """Start new peaks: a process that runs several cases must not report that of an earlier, larger case."""
    with suppress(OSError):  # absent or forbidden: the peak is then that since the process started
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
    """Processor seconds of this process and of those that it has started, running or ended."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = time.process_time() + ended.ru_utime + ended.ru_stime
    for child in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):  # it has ended in the meantime
            seconds += sum(child.cpu_times()[:4])  # user, system, and both of its ended children
    return seconds


def _busy_seconds() -> float | None:
    """Busy and stolen seconds, since system start, of the processors that this process may use.

    None where the system does not report them, such as in a sandbox that lists no processor or counts nothing.
    """
    if not _PROCESSORS.exists() or not hasattr(os, "sched_getaffinity"):
        return None
    usable = {f"cpu{number}" for number in os.sched_getaffinity(0)}
    ticks = 0
    for line in _PROCESSORS.read_text(encoding="ascii", errors="replace").splitlines():
        name, *counts = line.split()
        if name in usable:
            ticks += sum(int(c) for i, c in enumerate(counts[:_GUEST]) if i not in (_IDLE, _IO_WAIT))
    return ticks / os.sysconf("SC_CLK_TCK") if ticks else None


def _synchronise_cuda() -> None:
    import torch

    torch.cuda.synchronize()


# For each device a function that waits until it has finished all work.
SYNCHRONISE: dict[str, Callable[[], None]] = {"cpu": lambda: None, "cuda": _synchronise_cuda}
