"""One cell: the case is read, registered in a process of its own, and measured. Nothing here touches the run folder."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from benchmark import environment
from benchmark.config import RunConfig
from benchmark.evaluation import MetricError, evaluate
from benchmark.execution.plan import Task
from benchmark.execution.worker import CellError, Worker, WorkerSpec, blind
from benchmark.results import pictures
from methods.base import Case, Grid, Registration
from methods.registry import METHODS
from metrics.timing import Timing


@dataclass(frozen=True)
class Share:
    """What of a machine a cell may use. contended: whether other cells run beside it."""

    threads: int
    processors: tuple[int, ...] = ()
    memory_limit_gb: float | None = None
    contended: bool = False


@dataclass
class Finished:
    """A cell that was run. content: what its file holds (empty: only logs are left to tell); picture: of its file in
    pictures/, where there is one; displacement: the field in mm and its grid, where the run keeps them.

    logs: what processes that ended had printed, by row. spent: seconds by what they went to: start, prepare, load,
    register, evaluate.
    """

    task: Task
    content: dict[str, Any]
    picture: Mapping[str, Any] | None = None
    displacement: tuple[np.ndarray, Grid] | None = None
    logs: dict[str, str] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)


# Processors that other work may take, by the number that a cell was given and at least, before its time does not count.
MOST_ELSEWHERE, LEAST_ELSEWHERE = 0.1, 0.25


@contextmanager
def spending(spent: dict[str, float], what: str) -> Iterator[None]:
    """Add the seconds inside to `spent[what]`."""
    began = time.perf_counter()
    try:
        yield
    finally:
        spent[what] = spent.get(what, 0.0) + time.perf_counter() - began


class CellExecutor:
    """A place where cells are run one after the other. A method's process is kept from cell to cell of its row.

    stopping: asked now and then; True ends what is in hand.
    """

    def __init__(
        self, config: RunConfig, share: Share, load: Callable[[str], Case], stopping: Callable[[], bool] = lambda: False
    ) -> None:
        self.share = share
        self._config, self._load, self._stopping = config, load, stopping
        self._worker: Worker | None = None
        self._row = ""
        self._unavailable: dict[str, CellError] = {}
        self._logs: dict[str, str] = {}
        self._served: list[str] = []

    def run(self, task: Task) -> Finished:
        """Run one cell, whatever comes of it."""
        done = Finished(task, {})
        cell = identity(self._config, task) | {
            "fingerprint": task.fingerprint, "contended": self.share.contended, "threads": self.share.threads,
            "machine": environment.machine(task.device), "error": None,
        }  # fmt: skip
        vertebrae: list[dict[str, Any]] = []
        notes: Mapping[str, Any] = {}
        try:
            with spending(done.spent, "load"):
                case = self._read(task.case)
            cell |= {"load_seconds": done.spent["load"], "voxels": int(np.prod(case.pair.grid.shape))}
            registration, timing = self._register(task, case, done.spent)
            notes = registration.notes
            cell |= {"status": "ok", **self._set_up(), **_clock(timing)}
            cell["contended"] |= disturbed(cell)
            with spending(done.spent, "evaluate"):
                values, vertebrae, warped = _measure(case, registration)
                done.picture = pictures.of_cell(case, warped, registration, task.display)
            cell |= {**values, "evaluate_seconds": done.spent["evaluate"]}
            if self._config.save_fields:
                done.displacement = (registration.displacement_mm, case.pair.grid)
        except CellError as error:
            cell |= {"status": error.status, "error": str(error)}
        same = {k: cell[k] for k in IDENTITY}
        done.content = {"case": cell, "vertebrae": [{**same, **v} for v in vertebrae], "notes": dict(notes)}
        if self._worker is not None and (METHODS[task.method.method].load().fresh_process or not self._worker.alive):
            self.close()
        done.logs, self._logs = self._logs, {}
        return done

    def close(self, patience_s: float = 3) -> dict[str, str]:
        """End the process, if there is one, and give what it printed, by row. patience_s: to let it end by itself."""
        if self._worker is not None:
            worker, self._worker = self._worker, None
            self._log(self._row, worker.close(patience_s))
        return self._logs

    def serves(self, task: Task) -> bool:
        """Whether the process that is held is this task's."""
        return self._worker is not None and self._row == task.row

    def _read(self, name: str) -> Case:
        try:
            return self._load(name)
        except Exception as error:
            said = " ".join(str(error).split())
            raise CellError("failed", f"reading the case: {type(error).__name__}: {said}") from error

    def _register(self, task: Task, case: Case, spent: dict[str, float]) -> tuple[Registration, Timing]:
        if task.row in self._unavailable:
            raise self._unavailable[task.row]
        worker = self._worker if self.serves(task) else None
        if worker is None or not worker.alive:
            self.close()
            worker = self._start(task, spent)
        method = METHODS[task.method.method].load()
        pair = case.pair.blind(task.case) if method.knows_case else blind(case.pair)
        self._served.append(task.case)
        began = time.perf_counter()
        try:
            registration, timing = worker.register(pair)
        except CellError:
            spent["register"] = time.perf_counter() - began
            raise
        spent["register"] = timing.total
        if method.fresh_process:
            worker.dismiss()  # it ends, and its memory is free, while its result is evaluated
        return registration, timing

    def _start(self, task: Task, spent: dict[str, float]) -> Worker:
        m, c = task.method, self._config
        share, plugins = self.share, tuple(str(p) for p in c.plugins)
        job = WorkerSpec(m.method, m.settings, task.device, share.threads, c.seed_of(m), c.repeats, plugins, m.name,
                  share.processors, share.memory_limit_gb)  # fmt: skip
        self._row = task.row
        began = time.perf_counter()
        try:
            self._worker = Worker(job, c.time_limit_s, self._stopping)
        except CellError as error:
            spent["start"] = time.perf_counter() - began
            self._served = [task.case]
            self._log(task.row, error.log)
            if error.status == "unavailable":  # of the method and the device, whatever the case
                self._unavailable[task.row] = error
            raise
        ready = self._worker.ready
        spent |= {"start": ready.start_seconds, "prepare": ready.prepare_seconds}
        return self._worker

    def _log(self, row: str, printed: str) -> None:
        """Keep what a process printed, under the cases that it served: it knows them by tokens alone."""
        if printed:
            self._logs[row] = f"{self._logs.get(row, '')}==== {', '.join(self._served)}\n{printed.rstrip()}\n"
        self._served = []

    def _set_up(self) -> dict[str, float]:
        assert self._worker is not None
        return asdict(self._worker.ready)


def disturbed(cell: Mapping[str, Any]) -> bool:
    """Whether other work took so much of a cell's processors that its time is no measurement of the method."""
    return (cell.get("busy_elsewhere") or 0.0) > max(LEAST_ELSEWHERE, MOST_ELSEWHERE * cell["threads"])


IDENTITY = ("dataset", "split", "case", "method", "device", "seed")


def identity(config: RunConfig, task: Task) -> dict[str, Any]:
    """The columns that say which cell it is."""
    return {
        "dataset": config.dataset.name, "split": config.dataset.split, "case": task.case, "method": task.method.row,
        "device": task.device, "seed": config.seed_of(task.method),
    }  # fmt: skip


def lost(config: RunConfig, task: Task, status: str, error: str) -> Finished:
    """A cell of which nothing came back."""
    cell = identity(config, task) | {"fingerprint": task.fingerprint, "status": status, "error": error}
    return Finished(task, {"case": cell, "vertebrae": [], "notes": {}})


def _measure(case: Case, registration: Registration) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray]:
    try:
        return evaluate(case, registration)
    except MetricError as error:
        raise CellError("failed", str(error)) from error
    except Exception as error:
        said = " ".join(str(error).split())
        raise CellError("failed", f"measuring the result: {type(error).__name__}: {said}") from error


def _clock(timing: Timing) -> dict[str, Any]:
    values = asdict(timing)
    del values["total"]
    values["seconds_spread"] = values.pop("spread")
    values["threads_observed"] = values.pop("busy_threads")
    return values
