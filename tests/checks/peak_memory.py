"""The most memory that a call uses."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


class PeakMemory:
    """The memory that a call uses beyond what was used before, MiB: of the process on Linux, of torch on CUDA."""

    def __init__(self, device: str) -> None:
        self.cuda = device.startswith("cuda")
        self.known = self.cuda or Path("/proc/self/clear_refs").exists()

    def of(self, call: Callable[[], Any]) -> float | None:
        """The peak of a call, MiB; None where the system does not report it."""
        if not self.known:
            return None
        if self.cuda:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            call()
            return (torch.cuda.max_memory_allocated() - before) / 2**20
        # Free memory that the allocator keeps would hide the call's own.
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = self._status("VmRSS")
        call()
        return (self._status("VmHWM") - before) / 2**10

    @staticmethod
    def _status(key: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(key + ":"))
