"""Cells on a dask.distributed cluster: an existing one (`--scheduler tcp://...`), or one on this machine.

A dask worker loads the case and returns what the store keeps. It needs the same rigidbench, plugins and data, but not
the run folder. The cells of a worker that is lost run on another one.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING

from benchmark import environment, fingerprint
from benchmark.config import RunConfig, make_config
from benchmark.errors import BadInput, Stopped
from benchmark.execution import resources
from benchmark.execution.cell import CellExecutor, FinishedCell, Share, lost_cell
from benchmark.execution.plan import Task, open_dataset, reader
from methods.base import Case
from methods.checks import extra, installation
from methods.registry import load_plugin

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 10  # for a scheduler, and for its first worker


def run_on_cluster(
    config: RunConfig, tasks: Sequence[Task], scheduler: str, jobs: int, started: Callable[[Task], None]
) -> Generator[FinishedCell, None, None]:
    """Run cells on a cluster.

    Args:
        scheduler: its address; empty for a cluster on this machine.
        jobs: number of workers of a cluster on this machine.
        started: called with each cell when it is submitted.

    Yields:
        Cells in the order in which they finish.

    Raises:
        BadInput: where no scheduler answers, or it has no worker.
        Stopped: where the cluster is lost, or a worker has another version of rigidbench.
    """
    with _connected(scheduler, jobs) as client:
        from distributed import KilledWorker, as_completed

        version = _version()
        tasks_of = {}
        for task in tasks:
            started(task)
            tasks_of[client.submit(run_on_worker, config, task, version, pure=False)] = task
        try:
            for future in as_completed(tasks_of):
                task = tasks_of.pop(future)
                error = future.exception() if future.status == "error" else None
                if isinstance(error, KilledWorker):
                    cause = "every worker that ran it was lost, as when memory runs out"
                    yield lost_cell(config, task, "crashed", cause)
                elif error is not None or future.status != "finished":
                    raise Stopped(f"the cluster at {scheduler or 'this machine'}: {error or 'a cell was cancelled'}")
                else:
                    yield future.result()
                future.release()
        finally:
            client.cancel(list(tasks_of))


def _version() -> str:
    """A hash of the code and the versions of the libraries: the same on every worker of a run."""
    return fingerprint.whole_project() + environment.libraries()


@contextmanager
def _connected(scheduler: str, jobs: int) -> Iterator[Client]:
    """A client of the cluster, which has at least one worker."""
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BadInput(f"--engine dask: distributed is not installed; {installation(extra('dask'))}") from error
    if not scheduler:
        cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=WAIT_S)
    except (OSError, ValueError) as error:
        message = " ".join(str(error).split())
        raise BadInput(
            f"--scheduler {scheduler}: expected the address of a scheduler, as tcp://HOST:8786, got: {message}; "
            "start one with `dask scheduler`"
        ) from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError as error:
            raise BadInput(f"--scheduler {scheduler}: expected workers, found none; start `dask worker`") from error
        yield client


def run_on_worker(config: RunConfig, task: Task, version: str) -> FinishedCell:
    """Run one cell in a dask worker.

    Args:
        version: of code and libraries where the run was started.

    Raises:
        RuntimeError: where this worker has another version.
    """
    from distributed import get_worker

    if _version() != version:
        raise RuntimeError(
            f"worker {get_worker().address} has another version of rigidbench or of its libraries; install the same"
        )
    before = _cells_on_this_host()
    with _executor(config, task, before) as executor:
        finished = executor.run(task)
    finished.content["case"]["contended"] |= max(before, _cells_on_this_host()) > 1
    return finished


def _cells_on_this_host() -> int:
    """Number of cells that this worker's host may run at the same time. Workers may join and leave during a run."""
    from distributed import get_client, get_worker

    workers = get_client().scheduler_info(n_workers=-1)["workers"]
    host = workers[get_worker().address]["host"]
    return sum(worker["nthreads"] for worker in workers.values() if worker["host"] == host)


# Executors of this process that run nothing, with the configuration that they are for.
_IDLE: list[tuple[str, CellExecutor]] = []
_LOCK = threading.Lock()


@contextmanager
def _executor(config: RunConfig, task: Task, cells: int) -> Iterator[CellExecutor]:
    """An executor that no other cell uses; if possible one whose process is that of the task's row."""
    run = config.model_dump_json()
    with _LOCK:
        idle = sorted((entry for entry in _IDLE if entry[0] == run), key=lambda entry: entry[1].serves(task))
        of_other_runs = [entry for entry in _IDLE if entry[0] != run]
        _IDLE[:] = idle[:-1]
    for _, executor in of_other_runs:
        executor.close(0)
    executor = idle[-1][1] if idle else CellExecutor(config, _share(config, cells), _reader(run))
    try:
        yield executor
    finally:
        with _LOCK:
            _IDLE.append((run, executor))


def _share(config: RunConfig, cells: int) -> Share:
    """What one of `cells` cells on this machine may use."""
    threads = max(1, min(config.threads, resources.usable_cores() // cells))
    return Share(threads, (), resources.cell_memory_gb(config.memory_limit_gb, cells), cells > 1)


@lru_cache(maxsize=1)
def _reader(run: str) -> Callable[[str], Case]:
    """The function that loads the cases of a run. run: its configuration as JSON, whose plugins are loaded first."""
    content = json.loads(run)
    for plugin in content["plugins"]:
        load_plugin(plugin)
    return reader(open_dataset(make_config(content, "the run"))[0])
