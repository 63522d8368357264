"""One cell: the case is loaded, registered in a process of the method, and evaluated. No file is written here."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

from benchmark import environment
from benchmark.config import RunConfig
from benchmark.evaluation import MetricError, evaluate
from benchmark.execution.plan import Task
from benchmark.execution.worker import CellError, Worker, WorkerSpec, shown
from benchmark.results import pictures
from methods.base import Case, Grid, Registration
from methods.registry import METHODS
from metrics.timing import Timing

# Columns that identify a cell.
IDENTITY = ("dataset", "split", "case", "method", "device", "seed")
# A time does not count if other work keeps more processors busy than OTHER_WORK_PART times the cell's threads, or than
# OTHER_WORK_PROCESSORS if that is more.
OTHER_WORK_PART, OTHER_WORK_PROCESSORS = 0.1, 0.25


@dataclass(frozen=True)
class Share:
    """The part of a machine that a cell may use.

    Attributes:
        threads: of the method.
        processors: numbers of the processors, as the system counts them; empty for any.
        memory_limit_gb: GiB; None for no limit.
        contended: whether other cells run at the same time.
    """

    threads: int
    processors: tuple[int, ...] = ()
    memory_limit_gb: float | None = None
    contended: bool = False


@dataclass
class FinishedCell:
    """The result of a cell.

    Attributes:
        content: of the cell's file; empty where there are only logs to deliver.
        picture: arrays for its file in pictures/; None without a result.
        registration: the method's result and its grid, where the run saves fields.
        logs: output of processes that have ended, by row.
        seconds: time by part: `start`, `prepare`, `load`, `register`, `evaluate`.
    """

    task: Task
    content: dict[str, Any]
    picture: Mapping[str, Any] | None = None
    registration: tuple[Registration, Grid] | None = None
    logs: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)


@contextmanager
def timed(seconds: dict[str, float], part: str) -> Iterator[None]:
    """Add the duration of the block to `seconds[part]`."""
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds[part] = seconds.get(part, 0.0) + time.perf_counter() - start


class CellExecutor:
    """Runs cells one after the other. A method's process serves consecutive cells of its row.

    Args:
        share: what each cell may use.
        load: gives the case of a name.
        should_stop: called repeatedly during a cell; True ends the cell.
    """

    def __init__(
        self, config: RunConfig, share: Share, load: Callable[[str], Case],
        should_stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        self.share = share
        self._config, self._load, self._should_stop = config, load, should_stop
        self._worker: Worker | None = None
        self._row = ""
        self._unavailable: dict[str, CellError] = {}
        self._logs: dict[str, str] = {}
        self._served: list[str] = []
        self._ahead: _StartedAhead | None = None

    def run(self, task: Task, following: Task | None = None) -> FinishedCell:
        """Run one cell. A failure becomes the status of the result.

        Args:
            task: the cell.
            following: the cell that this executor runs next. If it needs a new process, that process starts and
                prepares while this cell is evaluated, which is not timed. None: no process is started ahead.
        """
        finished = FinishedCell(task, {})
        cell = identity(self._config, task) | {
            "fingerprint": task.fingerprint, "contended": self.share.contended, "threads": self.share.threads,
            "machine": environment.machine(task.device), "error": None,
        }  # fmt: skip
        vertebrae: list[dict[str, Any]] = []
        notes: Mapping[str, Any] = {}
        try:
            with timed(finished.seconds, "load"):
                case = self._load_case(task.case)
            cell |= {"load_seconds": finished.seconds["load"], "voxels": int(np.prod(case.pair.grid.shape))}
            registration, timing = self._register(task, case, finished.seconds)
            notes = registration.notes
            cell["warning"] = str(notes["warning"]) if "warning" in notes else None
            cell |= {"status": "ok", **self._set_up_seconds(), **_timing_columns(timing)}
            cell["contended"] |= is_disturbed(cell)
            self._start_ahead(task, following)
            with timed(finished.seconds, "evaluate"), _free_core(self._ahead is not None):
                values, vertebrae, warped = _evaluate(case, registration)
                finished.picture = pictures.of_cell(case, warped, registration, task.display)
            cell |= {**values, "evaluate_seconds": finished.seconds["evaluate"]}
            if self._config.save_fields:
                finished.registration = (registration, case.pair.grid)
        except CellError as error:
            cell |= {"status": error.status, "error": str(error)}
        same = {k: cell[k] for k in IDENTITY}
        finished.content = {"case": cell, "vertebrae": [{**same, **v} for v in vertebrae], "notes": dict(notes)}
        if self._worker is not None and (_fresh_process(task) or not self._worker.alive):
            self._close_worker()
        finished.logs, self._logs = self._logs, {}
        return finished

    def close(self, patience_s: float = 3) -> dict[str, str]:
        """End the method's process, if there is one.

        Args:
            patience_s: time in which the process may end by itself.

        Returns:
            Output of the processes that have ended, by row.
        """
        self._close_worker(patience_s)
        self._take_ahead(None)
        return self._logs

    def _close_worker(self, patience_s: float = 3) -> None:
        if self._worker is not None:
            worker, self._worker = self._worker, None
            self._add_log(self._row, worker.close(patience_s))

    def serves(self, task: Task) -> bool:
        """Whether the running process is that of the task's row."""
        return self._worker is not None and self._row == task.row

    def _load_case(self, name: str) -> Case:
        try:
            return self._load(name)
        except Exception as error:
            message = " ".join(str(error).split())
            raise CellError("failed", f"loading the case: {type(error).__name__}: {message}") from error

    def _register(self, task: Task, case: Case, seconds: dict[str, float]) -> tuple[Registration, Timing]:
        if task.row in self._unavailable:
            raise self._unavailable[task.row]
        worker = self._worker if self.serves(task) else None
        if worker is None or not worker.alive:
            self._close_worker()
            worker = self._start(task, seconds)
        pair = shown(case, task.case, METHODS[task.method.method])
        self._served.append(task.case)
        start = time.perf_counter()
        try:
            registration, timing = worker.register(pair)
        except CellError:
            seconds["register"] = time.perf_counter() - start
            raise
        seconds["register"] = timing.total
        if _fresh_process(task):
            worker.dismiss()  # the process ends and frees its memory during the evaluation
        return registration, timing

    def _start(self, task: Task, seconds: dict[str, float]) -> Worker:
        """Start the process of the task's row, or wait for the one that was started ahead."""
        ahead = self._take_ahead(task)
        self._row = task.row
        start = time.perf_counter()
        try:
            self._worker = self._new_worker(task) if ahead is None else ahead.worker.result()
        except CellError as error:
            seconds["start"] = time.perf_counter() - start
            self._served = [task.case]
            self._add_log(task.row, error.log)
            if error.status == "unavailable":  # it depends on method and device, not on the case
                self._unavailable[task.row] = error
            raise
        waited, ready = time.perf_counter() - start, self._worker.ready
        # Of a process that was started ahead only the wait delays the run.
        seconds |= {
            "start": max(0.0, waited - ready.prepare_seconds), "prepare": min(waited, ready.prepare_seconds)
        }  # fmt: skip
        return self._worker

    def _start_ahead(self, task: Task, following: Task | None) -> None:
        """Start the process of the following cell, if it needs a new one, and let the present one end."""
        if following is None or (self.serves(following) and not _fresh_process(task)):
            return
        if self._worker is not None:
            self._worker.dismiss()
        if following.row not in self._unavailable:
            self._ahead = _StartedAhead(following, self._new_worker)

    def _take_ahead(self, task: Task | None) -> _StartedAhead | None:
        """The process that was started ahead for the row of `task`. One of another row is ended."""
        ahead, self._ahead = self._ahead, None
        if ahead is None or (task is not None and ahead.task.row == task.row):
            return ahead
        self._add_log(ahead.task.row, ahead.close())
        return None

    def _new_worker(self, task: Task, is_dropped: Callable[[], bool] = lambda: False) -> Worker:
        """A prepared process of the task's row; `is_dropped` returns True when it is no longer wanted."""
        m, c, share = task.method, self._config, self.share
        spec = WorkerSpec(m.method, m.settings, task.device, share.threads, c.seed_of(m), c.repeats,
                          tuple(map(str, c.plugins)), m.name, share.processors, share.memory_limit_gb)  # fmt: skip
        return Worker(spec, c.time_limit_s, lambda: is_dropped() or self._should_stop())

    def _add_log(self, row: str, output: str) -> None:
        """Store a process's output under the names of its cases, which the process does not know."""
        if output:
            self._logs[row] = f"{self._logs.get(row, '')}==== {', '.join(self._served)}\n{output.rstrip()}\n"
        self._served = []

    def _set_up_seconds(self) -> dict[str, float]:
        assert self._worker is not None
        return asdict(self._worker.ready)


class _StartedAhead:
    """A process that starts in a thread for a cell to come.

    Args:
        task: the cell.
        start: gives the prepared process of a cell; it asks the function that it is passed whether to stop.

    Attributes:
        worker: the process once it is prepared, or the CellError of its preparation.
    """

    def __init__(self, task: Task, start: Callable[[Task, Callable[[], bool]], Worker]) -> None:
        self.task, self._dropped = task, threading.Event()
        thread = ThreadPoolExecutor(1)
        self.worker: Future[Worker] = thread.submit(start, task, self._dropped.is_set)
        thread.shutdown(wait=False)

    def close(self) -> str:
        """End the process. Returns its output."""
        self._dropped.set()
        with suppress(CellError):
            return self.worker.result().close(0)
        return ""


@contextmanager
def _free_core(wanted: bool) -> Iterator[None]:
    """Use one thread fewer in the block, if wanted: threads that wait for each other are slow beside other work.

    Sums differ by rounding, at most in the seventh digit.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(max(1, before - wanted))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fresh_process(task: Task) -> bool:
    """Whether the task's method asks for a new process for every case."""
    return bool(METHODS[task.method.method].load().fresh_process)


def is_disturbed(cell: Mapping[str, Any]) -> bool:
    """Whether other work used so much of the cell's processors that its time does not count."""
    limit = max(OTHER_WORK_PROCESSORS, OTHER_WORK_PART * cell["threads"])
    return (cell.get("busy_elsewhere") or 0.0) > limit


def identity(config: RunConfig, task: Task) -> dict[str, Any]:
    """The columns that identify a cell, and whether its row sees the fixed labels."""
    return {
        "dataset": config.dataset.name, "split": config.dataset.split, "case": task.case, "method": task.method.row,
        "device": task.device, "seed": config.seed_of(task.method), "oracle": METHODS[task.method.method].oracle,
    }  # fmt: skip


def lost_cell(config: RunConfig, task: Task, status: str, error: str) -> FinishedCell:
    """A cell whose result was lost, with a status and a cause."""
    cell = identity(config, task) | {"fingerprint": task.fingerprint, "status": status, "error": error}
    return FinishedCell(task, {"case": cell, "vertebrae": [], "notes": {}})


def _evaluate(case: Case, registration: Registration) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray]:
    try:
        return evaluate(case, registration)
    except MetricError as error:
        raise CellError("failed", str(error)) from error
    except Exception as error:
        message = " ".join(str(error).split())
        raise CellError("failed", f"evaluating the result: {type(error).__name__}: {message}") from error


def _timing_columns(timing: Timing) -> dict[str, Any]:
    """A timing under the names of the columns in cases.parquet."""
    values = asdict(timing)
    del values["total"]
    values["seconds_spread"] = values.pop("spread")
    values["threads_observed"] = values.pop("busy_threads")
    return values
