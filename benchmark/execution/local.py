"""Cells on this machine, one after the other or several at the same time. For a cluster see dask.py."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from itertools import zip_longest

from benchmark.config import RunConfig
from benchmark.execution import resources
from benchmark.execution.cell import CellExecutor, FinishedCell, Share
from benchmark.execution.plan import Task
from methods.base import Case


def shares(config: RunConfig, jobs: int) -> list[Share]:
    """What each of `jobs` cells that run at the same time may use."""
    limit_gb = resources.cell_memory_gb(config.memory_limit_gb, jobs)
    threads = max(1, min(config.threads, resources.usable_cores() // jobs))
    return [
        Share(len(processors) or threads, processors, limit_gb, jobs > 1)
        for processors in resources.divide(jobs, config.threads)
    ]


def run_local(
    config: RunConfig,
    tasks: Sequence[Task],
    jobs: int,
    load: Callable[[str], Case],
    started: Callable[[Task], None],
    ahead: bool = True,
) -> Generator[FinishedCell, None, None]:
    """Run cells on this machine.

    Args:
        jobs: number of cells that run at the same time. Above 1 the cells are marked as contended: their times do not
            count.
        load: gives the case of a name.
        started: called before each cell, in the thread that runs it.
        ahead: with one job, start the process of the next cell while a cell is evaluated. The run is shorter, and the
            times to start and to prepare are those beside other work. Registrations are timed alone in either case.

    Yields:
        Cells as they finish. Closing the generator ends the running cells.
    """
    jobs = min(jobs, len(tasks))
    if jobs > 1:
        yield from _run_in_threads(config, tasks, shares(config, jobs), load, started)
        return
    executor = CellExecutor(config, shares(config, 1)[0], load)
    try:
        for task, following in zip_longest(tasks, tasks[1:]):
            started(task)
            yield executor.run(task, following if ahead else None)
    except BaseException:
        executor.close(0)
        raise
    if tasks:
        yield FinishedCell(tasks[-1], {}, logs=executor.close())


def _run_in_threads(
    config: RunConfig, tasks: Sequence[Task], parts: Sequence[Share], load: Callable[[str], Case],
    started: Callable[[Task], None],
) -> Generator[FinishedCell, None, None]:  # fmt: skip
    """Run cells with one executor per share, each in a thread."""
    waiting, stop = deque(tasks), threading.Event()
    results: queue.SimpleQueue[FinishedCell | BaseException] = queue.SimpleQueue()

    def run_cells(share: Share) -> None:
        executor = CellExecutor(config, share, load, stop.is_set)
        try:
            while not stop.is_set() and (task := _next(waiting)) is not None:
                started(task)
                results.put(executor.run(task))
            results.put(FinishedCell(tasks[-1], {}, logs=executor.close()))
        except BaseException as error:  # noqa: BLE001 - raised again where the results are collected
            results.put(error)
        finally:
            executor.close(0)

    threads = [threading.Thread(target=run_cells, args=(share,)) for share in parts]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(tasks) + len(threads)):
            result = results.get()
            if isinstance(result, BaseException):
                raise result
            yield result
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _next(waiting: deque[Task]) -> Task | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None
