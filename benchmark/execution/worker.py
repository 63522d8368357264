"""A process of its own for a method: it gets arrays and a token, and gives back a displacement and its time.

This module is the parent's side; `worker_process.py` runs in the process. The working folder is temporary and output
goes to a log there. The method is never told the case's files or its fixed labels, nor its name unless it declares
`Method.knows_case`. This prevents accidents. It is no defence against a malicious plugin.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import Pipe
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from benchmark.execution.resources import THREAD_VARIABLES
from methods.base import Pair, Registration
from metrics.timing import Timing

# How often a process in hand is looked at (its memory, and whether the run is to stop), and how often for processes
# that it has started: that takes some milliseconds, which a method must not miss.
LOOK_S, SEARCH_S = 0.2, 2.0
# What a method has no need to know of the user's own surroundings.
HIDDEN = ("PWD", "OLDPWD", "_", "RIGIDBENCH_CACHE", "RIGIDBENCH_CACHE_GB", "PYTEST_CURRENT_TEST")
_START = (
    "import sys; from benchmark.execution.worker_process import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])"
)


class CellError(RuntimeError):
    """A cell that has no result. status: one of the store's; the message is its one-line cause.

    log: what a process that never became ready had printed.
    """

    log = ""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)  # both, so that it survives the pipe
        self.status = status

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker is to be: a method by name and settings, where and how it runs. row: its name in the table.

    processors: those that it may use, by the system's numbers; none named: any. memory_limit_gb: of the process and all
    that it starts, GiB resident; None: no limit.
    """

    method: str
    settings: Mapping[str, Any]
    device: str
    threads: int
    seed: int
    repeats: int
    plugins: Sequence[str] = ()
    row: str = ""
    processors: Sequence[int] = ()
    memory_limit_gb: float | None = None


@dataclass(frozen=True)
class Ready:
    """How the set-up went. start_seconds: from the request for a process until its method begins to prepare."""

    start_seconds: float
    prepare_seconds: float


def blind(pair: Pair) -> Pair:
    """The pair without fixed labels, under a token made of the images alone: it tells nothing that they do not."""
    digest = hashlib.blake2b(pair.moving.image.tobytes(), digest_size=6)
    digest.update(pair.fixed.image.tobytes())
    return pair.blind(f"pair-{digest.hexdigest()}")


class Worker:
    """A process with one prepared method. `close` ends it and gives its log.

    time_limit_s: for the start, for the preparation and for each pair. stopping: asked now and then while the process
    is waited for; True ends it. Raises CellError where the method cannot be made ready.
    """

    def __init__(self, job: WorkerSpec, time_limit_s: float, stopping: Callable[[], bool] = lambda: False) -> None:
        self.job = job
        self.time_limit_s = time_limit_s
        self._stopping = stopping
        self._method: psutil.Process | None = None
        self._started: list[psutil.Process] = []
        self._searched = time.monotonic()
        # The child makes and removes its folder; its output has no name. A runner that is killed leaves neither.
        self._folder = Path(tempfile.gettempdir()) / f"rigidbench-{uuid4().hex}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._connection, child = Pipe()
        ours, self._lifeline = os.pipe()
        began = time.perf_counter()
        processors = ",".join(map(str, job.processors)) if hasattr(os, "sched_setaffinity") else ""
        handed = (child.fileno(), ours)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *map(str, handed), str(self._folder), processors],
            env=_environment(job.threads), pass_fds=handed, stdin=subprocess.DEVNULL, stdout=self._output,
            stderr=self._output, start_new_session=True,
        )  # fmt: skip
        child.close()
        os.close(ours)
        try:
            self._send((job, os.getcwd()))
            number = self._receive()
            with suppress(psutil.Error):  # gone already: the next message says so
                self._method = psutil.Process(number)
            start_seconds = time.perf_counter() - began
            self.ready = Ready(start_seconds, self._receive())
        except CellError as error:
            error.log = self.close()
            raise
        except BaseException:
            self.close(0)
            raise

    def register(self, pair: Pair) -> tuple[Registration, Timing]:
        """Register one blind pair. Raises CellError; the worker may be dead then (`alive`)."""
        self._send(pair)
        registration, timing = self._receive()
        if not isinstance(registration, Registration):
            raise CellError("invalid", f"register: expected a Registration, got {type(registration).__name__}")
        try:
            registration.check(pair.grid)
            _check_notes(registration.notes)
        except ValueError as error:
            raise CellError("invalid", str(error)) from error
        return registration, timing

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def dismiss(self) -> None:
        """Nothing more will be registered. The process ends by itself, with its libraries' clean-up; nobody waits."""
        self._connection.close()

    def close(self, patience_s: float = 3) -> str:
        """End the process and return its log. patience_s: how long it may take to end by itself."""
        self.dismiss()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._end()
        if self._output.closed:
            return ""
        with self._output as output:
            return os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0).decode(errors="replace")

    def _end(self) -> None:
        """End the process, what it started and its working folder at once (see `child.guard`)."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        self._process.wait()

    def _send(self, what: Any) -> None:
        try:
            self._connection.send(what)
        except (BrokenPipeError, ConnectionError) as error:
            raise self._death() from error

    def _receive(self) -> Any:
        deadline = time.monotonic() + self.time_limit_s
        while not self._connection.poll(min(LOOK_S, max(0.0, deadline - time.monotonic()))):
            self._look(deadline)
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._death() from error
        if isinstance(answer, CellError):
            raise answer
        return answer

    def _look(self, deadline: float) -> None:
        """End the process where it may not go on."""
        error = None
        limit = self.job.memory_limit_gb
        if self._stopping():
            error = CellError("crashed", "the run was stopped")
        elif time.monotonic() >= deadline:
            error = CellError("timeout", f"not finished after {self.time_limit_s:g} s, the time limit of a case")
        elif limit is not None and (held := self._memory_gb()) > limit:
            error = CellError("crashed", f"held {held:.2f} GB, more than {limit:.3g} GB, the memory limit of a case")
        if error is not None:
            self._end()
            raise error

    def _memory_gb(self) -> float:
        """Resident memory of the process and of all that it has started, GiB."""
        if self._method is None:
            return 0.0
        held = 0
        with suppress(psutil.Error):
            if time.monotonic() - self._searched >= SEARCH_S:
                self._started = self._method.children(recursive=True)
                self._searched = time.monotonic()
        for process in (self._method, *self._started):
            with suppress(psutil.Error):
                held += process.memory_info().rss
        return held / 2**30

    def _death(self) -> CellError:
        code = self._process.wait()
        if code >= 0:
            return CellError("crashed", f"the method's process ended with exit status {code}")
        name = signal.Signals(-code).name
        hint = ", as the system does when memory runs out" if name == "SIGKILL" else ""
        return CellError("crashed", f"the method's process was killed by {name}{hint}")


def _check_notes(notes: object) -> None:
    """Raise ValueError for notes that the cell's JSON cannot keep."""
    if not isinstance(notes, Mapping):
        raise ValueError(f"notes: expected a dictionary, got {type(notes).__name__}")
    for name, value in notes.items():
        if not isinstance(name, str) or not isinstance(value, str | int | float):
            raise ValueError(f"notes: expected numbers and text by name, got {type(value).__name__} as {name!r}; "
                             "wrap it in float() or str()")  # fmt: skip


def _environment(threads: int) -> dict[str, str]:
    """The child's: threads fixed before a library is loaded, the same modules, and nothing of where the user stands."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    # An editable install adds a name that is no path: made absolute, it would say where the user stands.
    modules = os.pathsep.join(os.path.abspath(p) for p in sys.path if os.path.exists(p or "."))
    return {**kept, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": modules}
