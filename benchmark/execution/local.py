"""Where cells are run: on this machine, one after the other or several beside each other. A cluster: cluster.py."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence

from benchmark.config import RunConfig
from benchmark.execution import resources
from benchmark.execution.cell import CellExecutor, Finished, Share
from benchmark.execution.plan import Task
from methods.base import Case

MEMORY_PART = 0.9  # of the machine's, for methods, where the configuration names no limit


def shares(config: RunConfig, jobs: int) -> list[Share]:
    """What each of `jobs` cells that run beside each other may use."""
    sets = resources.divide(jobs, config.threads)
    cores = resources.usable_cores()
    memory = resources.memory_gb()
    limit = config.memory_limit_gb or (MEMORY_PART * memory / jobs if memory is not None else None)
    threads = max(1, min(config.threads, cores // jobs))
    return [Share(len(processors) or threads, processors, limit, jobs > 1) for processors in sets]


def run_here(
    config: RunConfig, tasks: Sequence[Task], jobs: int, load: Callable[[str], Case], started: Callable[[Task], None]
) -> Generator[Finished, None, None]:
    """Run cells on this machine, `jobs` beside each other, and give each as it is done.

    started: called before each, from the thread that runs it. With several jobs a cell's time is no measurement of the
    method, and is marked so. Closing the iterator ends what is in hand.
    """
    jobs = min(jobs, len(tasks))
    if jobs > 1:
        yield from _beside_each_other(config, tasks, shares(config, jobs), load, started)
        return
    slot = CellExecutor(config, shares(config, 1)[0], load)
    try:
        for task in tasks:
            started(task)
            yield slot.run(task)
    except BaseException:
        slot.close(0)
        raise
    if tasks:
        yield Finished(tasks[-1], {}, logs=slot.close())


def _beside_each_other(
    config: RunConfig, tasks: Sequence[Task], parts: Sequence[Share], load: Callable[[str], Case],
    started: Callable[[Task], None],
) -> Generator[Finished, None, None]:  # fmt: skip
    waiting, stop = deque(tasks), threading.Event()
    done: queue.SimpleQueue[Finished | BaseException] = queue.SimpleQueue()

    def serve(share: Share) -> None:
        slot = CellExecutor(config, share, load, stop.is_set)
        try:
            while not stop.is_set() and (task := _next(waiting)) is not None:
                started(task)
                done.put(slot.run(task))
            done.put(Finished(tasks[-1], {}, logs=slot.close()))
        except BaseException as error:  # noqa: BLE001 - raised again where the cells are collected
            done.put(error)
        finally:
            slot.close(0)

    threads = [threading.Thread(target=serve, args=(share,)) for share in parts]
    for thread in threads:
        thread.start()
    try:
        for _ in range(len(tasks) + len(threads)):
            item = done.get()
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _next(waiting: deque[Task]) -> Task | None:
    try:
        return waiting.popleft()
    except IndexError:
        return None
