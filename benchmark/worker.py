"""A process of its own for a method: it gets arrays and a token, and gives back a displacement and its time.

The parent's side is `Worker`; `_serve` is what runs in the child. The child's working folder is temporary, its output
goes to a log, and it is never told the case's files or its fixed labels, nor its name unless the method declares that
it must know it (`Method.knows_case`). That prevents accidents; it is no defence against a plugin that means harm.
"""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from benchmark.environment import THREAD_VARIABLES
from methods.base import Pair, Registration
from metrics.timing import Timing, measure


class CellError(RuntimeError):
    """A cell that has no result. status: one of the store's; the message is its one-line cause."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)  # both, so that it survives the pipe
        self.status = status

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class Job:
    """What a worker is to be: a method by name and settings, where and how it runs. row: its name in the table."""

    method: str
    settings: Mapping[str, Any]
    device: str
    threads: int
    seed: int
    repeats: int
    plugins: Sequence[str] = ()
    row: str = ""


@dataclass(frozen=True)
class Ready:
    """How the set-up went. start_seconds: from the request for a process until its method begins to prepare."""

    start_seconds: float
    prepare_seconds: float


class Worker:
    """A spawned process with one prepared method. Use as a context manager; `log` is read when it has ended."""

    def __init__(self, job: Job, time_limit_s: float) -> None:
        self.job = job
        self.time_limit_s = time_limit_s
        self._folder = Path(tempfile.mkdtemp(prefix="rigidbench-"))
        context = multiprocessing.get_context("spawn")
        self._connection, child = context.Pipe()
        self._process = context.Process(target=_serve, args=(child, job, str(self._folder)), daemon=True)
        began = time.perf_counter()
        with _threads(job.threads):
            self._process.start()
        child.close()
        try:
            self._receive()
            start_seconds = time.perf_counter() - began
            self.ready = Ready(start_seconds, self._receive())
        except BaseException:
            self.close()
            raise

    def register(self, pair: Pair) -> tuple[Registration, Timing]:
        """Register one blind pair. Raises CellError; the worker may be dead then (`alive`)."""
        try:
            self._connection.send(pair)
        except (BrokenPipeError, ConnectionError) as error:
            raise self._death() from error
        registration, timing = self._receive()
        if not isinstance(registration, Registration):
            raise CellError("invalid", f"register: expected a Registration, got {type(registration).__name__}")
        try:
            registration.check(pair.grid)
        except ValueError as error:
            raise CellError("invalid", str(error)) from error
        return registration, timing

    @property
    def alive(self) -> bool:
        return self._process.is_alive()

    def close(self) -> str:
        """End the process and return its log."""
        self._connection.close()  # a child that waits for a pair ends by itself, with its libraries' clean-up
        self._process.join(3)
        if self._process.is_alive():
            self._process.kill()
        self._process.join()
        log = self._folder / "worker.log"
        text = log.read_text(errors="replace") if log.is_file() else ""
        shutil.rmtree(self._folder, ignore_errors=True)
        return text

    def _receive(self) -> Any:
        if not self._connection.poll(self.time_limit_s):
            self._process.kill()
            self._process.join()
            raise CellError("timeout", f"not finished after {self.time_limit_s:g} s, the time limit of a case")
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        if isinstance(answer, CellError):
            raise answer
        return answer

    def _death(self) -> CellError:
        self._process.join()
        code = self._process.exitcode or 0
        cause = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit status {code}"
        return CellError("crashed", f"the method's process {cause}")


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """A spawned child reads these variables before any library is loaded in it."""
    before = {name: os.environ.get(name) for name in THREAD_VARIABLES}
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, str(count)))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _serve(connection: Connection, job: Job, folder: str) -> None:
    """The child: make the method, prepare it, then register what comes until the parent closes the pipe."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    log = os.open(os.path.join(folder, "worker.log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    try:
        method = _make(job)  # where the user stands: a setting may be a relative path
        os.chdir(folder)
        connection.send(None)
        began = time.perf_counter()
        method.prepare(job.device, job.threads, job.seed)
        connection.send(time.perf_counter() - began)
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises becomes its cell's status
        connection.send(_failure(error))
        return
    while True:
        try:
            pair = connection.recv()
        except EOFError:
            return
        try:
            answer: Any = measure(partial(method.register, pair), job.device, job.repeats)
        except Exception as error:  # noqa: BLE001 - as above
            answer = _failure(error)
        try:
            connection.send(answer)
        except Exception as error:  # noqa: BLE001 - a return value that cannot travel is the method's fault too
            traceback.print_exc()
            connection.send(CellError("invalid", f"the return value cannot be passed on: {error}"))


def _make(job: Job) -> Any:
    from methods.registry import create_method, load_plugin

    for plugin in job.plugins:
        load_plugin(plugin)
    method = create_method(job.method, job.settings, job.row)
    reason = method.unavailable(job.device)
    if job.device not in method.devices:
        reason = f"{job.method} runs on {', '.join(method.devices)} only"
    if reason:
        raise CellError("unavailable", reason)
    import torch

    torch.set_num_threads(job.threads)
    return method


def _failure(error: Exception) -> CellError:
    if isinstance(error, CellError):
        return error
    traceback.print_exc()
    return CellError("failed", f"{type(error).__name__}: {' '.join(str(error).split())}")
