"""The clock: wall time of one call, with the device synchronised, and what the process used meanwhile."""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import torch

T = TypeVar("T")


@dataclass(frozen=True)
class Timing:
    """What `measure` saw. seconds: median over `repeats` calls; spread: largest less smallest.

    busy_threads: processor seconds per wall second over all calls, of this process and its threads. peak_memory_mb:
    largest resident size of the process so far. peak_device_memory_mb: largest allocation by torch, None on the CPU.
    """

    seconds: float
    spread: float
    repeats: int
    busy_threads: float
    peak_memory_mb: float
    peak_device_memory_mb: float | None


def measure(call: Callable[[], T], device: str = "cpu", repeats: int = 1) -> tuple[T, Timing]:
    """The last result of `call` and how long a call took. device: `cpu` or `cuda`, which is synchronised around it."""
    if repeats < 1:
        raise ValueError(f"repeats: expected 1 or more, got {repeats}")
    cuda = device.startswith("cuda")
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    walls: list[float] = []
    processor_began = time.process_time()
    for _ in range(repeats):
        _synchronise(cuda)
        began = time.perf_counter()
        result = call()
        _synchronise(cuda)
        walls.append(time.perf_counter() - began)
    processor = time.process_time() - processor_began
    timing = Timing(
        seconds=statistics.median(walls),
        spread=max(walls) - min(walls),
        repeats=repeats,
        busy_threads=processor / max(sum(walls), 1e-9),
        peak_memory_mb=peak_memory_mb(),
        peak_device_memory_mb=torch.cuda.max_memory_allocated() / 2**20 if cuda else None,
    )
    return result, timing


def peak_memory_mb() -> float:
    """Largest resident size of this process so far, MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes, Linux KiB


def _synchronise(cuda: bool) -> None:
    if cuda:
        torch.cuda.synchronize()
