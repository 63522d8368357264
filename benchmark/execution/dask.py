"""Cells on a dask.distributed cluster: one that exists (`--scheduler tcp://...`) or one on this machine.

A task reads its case where it runs and gives back what the store keeps, so a worker needs the same checkout, plugins
and data, and no access to the run folder. A worker that is lost costs nothing but time: its cells run elsewhere.
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
from benchmark.execution.cell import CellExecutor, Finished, Share, lost
from benchmark.execution.local import MEMORY_PART
from benchmark.execution.plan import Task, open_dataset, reader
from methods.base import Case
from methods.registry import load_plugin

if TYPE_CHECKING:
    from distributed import Client

WAIT_S = 10


def run_on_cluster(
    config: RunConfig, tasks: Sequence[Task], scheduler: str, jobs: int, started: Callable[[Task], None]
) -> Generator[Finished, None, None]:
    """Run cells on the workers of `scheduler` or, where that is empty, on `jobs` workers of this machine.

    Gives each cell as it is done, in any order. Raises BadInput where no scheduler answers or it has no worker, Stopped
    where the cluster is lost on the way or runs other code than this.
    """
    with _connected(scheduler, jobs) as client:
        from distributed import KilledWorker, as_completed

        code = fingerprint.whole_project() + environment.libraries()
        futures = {}
        for task in tasks:
            started(task)
            futures[client.submit(run_there, config, task, code, pure=False)] = task
        try:
            for future in as_completed(futures):
                task = futures.pop(future)
                error = future.exception() if future.status == "error" else None
                if isinstance(error, KilledWorker):
                    yield lost(config, task, "crashed", "every worker that ran it was lost, as when memory runs out")
                elif error is not None or future.status != "finished":
                    raise Stopped(f"the cluster at {scheduler or 'this machine'}: {error or 'it gave the work back'}")
                else:
                    yield future.result()
                future.release()
        finally:
            client.cancel(list(futures))


@contextmanager
def _connected(scheduler: str, jobs: int) -> Iterator[Client]:
    try:
        from distributed import Client, LocalCluster
    except ImportError as error:
        raise BadInput("--engine dask: distributed is not installed; pip install -e '.[dask]'") from error
    if not scheduler:
        cluster = LocalCluster(n_workers=jobs, threads_per_worker=1, dashboard_address=None)
        with cluster, Client(cluster) as client:
            yield client
        return
    try:
        client = Client(scheduler, timeout=WAIT_S)
    except (OSError, ValueError) as error:
        said = " ".join(str(error).split())
        raise BadInput(f"--scheduler {scheduler}: expected a scheduler as tcp://HOST:8786, found: {said}") from error
    with client:
        try:
            client.wait_for_workers(1, timeout=WAIT_S)
        except TimeoutError as error:
            raise BadInput(f"--scheduler {scheduler}: expected workers, found none; start `dask worker`") from error
        yield client


def run_there(config: RunConfig, task: Task, code: str) -> Finished:
    """What a dask worker does."""
    from distributed import get_worker

    here = fingerprint.whole_project() + environment.libraries()
    if here != code:
        raise RuntimeError(
            f"worker {get_worker().address} has another version of rigidbench or of its libraries; install the same"
        )
    beside = _cells_at_once()
    with _slot(config, task, beside) as slot:
        done = slot.run(task)
    done.content["case"]["contended"] |= max(beside, _cells_at_once()) > 1
    return done


def _cells_at_once() -> int:
    """How many cells this worker's machine may run at a time, with the workers that it has now: they come and go."""
    from distributed import get_client, get_worker

    workers = get_client().scheduler_info(n_workers=-1)["workers"]
    host = workers[get_worker().address]["host"]
    return sum(worker["nthreads"] for worker in workers.values() if worker["host"] == host)


# Slots of this process that run nothing, by the run that they are for.
_IDLE: list[tuple[str, CellExecutor]] = []
_LOCK = threading.Lock()


@contextmanager
def _slot(config: RunConfig, task: Task, cells: int) -> Iterator[CellExecutor]:
    """A slot that nobody else uses meanwhile, with the method's process already in it if there is one."""
    run = config.model_dump_json()
    with _LOCK:
        mine = sorted((s for s in _IDLE if s[0] == run), key=lambda s: s[1].serves(task))
        others = [s for s in _IDLE if s[0] != run]
        _IDLE[:] = mine[:-1]
    for _, slot in others:  # of an earlier run
        slot.close(0)
    slot = mine[-1][1] if mine else CellExecutor(config, _share(config, cells), _reader(run))
    try:
        yield slot
    finally:
        with _LOCK:
            _IDLE.append((run, slot))


def _share(config: RunConfig, cells: int) -> Share:
    """What one of `cells` cells of this machine may use."""
    cores, memory = resources.usable_cores(), resources.memory_gb()
    limit = config.memory_limit_gb or (MEMORY_PART * memory / cells if memory is not None else None)
    return Share(max(1, min(config.threads, cores // cells)), (), limit, cells > 1)


@lru_cache(maxsize=1)
def _reader(run: str) -> Callable[[str], Case]:
    """The data of a run, its configuration given as JSON, in a process that knows nothing of it yet."""
    content = json.loads(run)
    for plugin in content["plugins"]:
        load_plugin(plugin)
    return reader(open_dataset(make_config(content, "the run"))[0])
