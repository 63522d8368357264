"""Make the items of the next training step in a second thread while the network trains on those of this step.

Seed and number determine an item, so the thread changes the time of a training and nothing else. torch computes without
Python's lock, so that two threads use two cores.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


def spare_core() -> bool:
    """Whether the machine has a core that torch's threads leave free."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return torch.get_num_threads() < cores


class Ahead(Generic[T]):
    """The items of steps in their order, each made once.

    Args:
        make: makes the items of a step.
        end: the first step that is not made.
        background: make the next step's items in a second thread; False makes each when it is asked for.
    """

    def __init__(self, make: Callable[[int], T], end: int, background: bool) -> None:
        self._make, self._end = make, end
        self._executor = None
        if background:
            # The number of threads of an operation belongs to the calling thread.
            self._executor = ThreadPoolExecutor(1, "items", torch.set_num_threads, (torch.get_num_threads(),))
        self._futures: dict[int, Future[T]] = {}

    def __enter__(self) -> Ahead[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Wait for the item that is being made, and make no other."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)

    def __getitem__(self, step: int) -> T:
        """The items of a step. An error in making them is raised here, not earlier."""
        if self._executor is None:
            return self._make(step)
        for wanted in (step, step + 1):
            if wanted < max(self._end, step + 1) and wanted not in self._futures:
                self._futures[wanted] = self._executor.submit(self._make, wanted)
        return self._futures.pop(step).result()
