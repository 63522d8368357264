"""The process of a method: it gets arrays and a token, and returns a displacement and the time that it took.

This module is the parent's side; `worker_process.py` runs in the process. Its working folder is temporary, and its
output goes into a log. The method does not get the case's files, nor its fixed labels unless it is registered as an
oracle, nor its name unless it declares `Method.knows_case`. This prevents accidents; it is no defence against a
malicious plugin.
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
from dataclasses import dataclass, replace
from multiprocessing import Pipe
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil

from benchmark.execution.resources import THREAD_VARIABLES
from methods.base import Case, Pair, Registration
from methods.registry import Entry
from metrics.timing import Timing

# Intervals between checks of a running process. The search for processes that it has started takes some milliseconds
# of processor time, and is done less often.
CHECK_S, CHILD_SEARCH_S = 0.2, 2.0
# Variables of the user's environment that a method does not get.
HIDDEN = ("PWD", "OLDPWD", "_", "RIGIDBENCH_CACHE", "RIGIDBENCH_CACHE_GB", "PYTEST_CURRENT_TEST")
_START = (
    "import sys; from benchmark.execution.worker_process import main; "
    "main(int(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:])"
)


class CellError(RuntimeError):
    """The cause of a cell without a result, in one line.

    Attributes:
        status: one of `benchmark.results.store.STATUSES`.
        log: output of a process that did not become ready.
    """

    log = ""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(status, message)  # both, since pickling calls the class with `args`
        self.status = status

    def __str__(self) -> str:
        return str(self.args[1])


@dataclass(frozen=True)
class WorkerSpec:
    """What a worker's process runs, and with what resources.

    Attributes:
        method: name of a registered method.
        settings: replace the registered settings.
        plugins: files that the process executes first.
        row: name of the row; empty for the method's.
        processors: numbers of the processors, as the system counts them; empty for any.
        memory_limit_gb: resident memory of the process and the processes that it starts, GiB; None for no limit.
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
    """Times of the set-up: until the method starts to prepare, and of its preparation."""

    start_seconds: float
    prepare_seconds: float


def blind(pair: Pair) -> Pair:
    """The pair without fixed labels, named by a hash of its images, which says nothing about the case."""
    digest = hashlib.blake2b(pair.moving.image.tobytes(), digest_size=6)
    digest.update(pair.fixed.image.tobytes())
    return pair.blind(f"pair-{digest.hexdigest()}")


def shown(case: Case, name: str, entry: Entry) -> Pair:
    """The pair as a row may see it: without fixed labels, unless the row is registered as an oracle.

    An oracle sees the two label maps that are compared, of vertebral bodies where these are. A row that declares
    `knows_case` sees the name of the case, any other a token.
    """
    pair = case.pair.blind(name) if entry.load().knows_case else blind(case.pair)
    if not entry.oracle:
        return pair
    fixed = replace(pair.fixed, labels=case.pair.fixed.labels)
    return replace(pair, fixed=fixed, moving=replace(pair.moving, labels=case.compared_labels))


class Worker:
    """A process with one prepared method. `close` ends it.

    Args:
        time_limit_s: for the start, for the preparation and for each pair.
        should_stop: called repeatedly while the process works; True ends it.

    Raises:
        CellError: where the method cannot be prepared.
    """

    def __init__(self, spec: WorkerSpec, time_limit_s: float, should_stop: Callable[[], bool] = lambda: False) -> None:
        self.spec = spec
        self.time_limit_s = time_limit_s
        self._should_stop = should_stop
        self._method: psutil.Process | None = None
        self._started: list[psutil.Process] = []
        self._searched = time.monotonic()
        # A killed runner leaves no file: the process removes its own folder, and the output file has no name.
        self._folder = Path(tempfile.gettempdir()) / f"rigidbench-{uuid4().hex}"
        self._output = tempfile.TemporaryFile()  # noqa: SIM115 - closed in `close`
        self._connection, child = Pipe()
        ours, self._lifeline = os.pipe()
        start = time.perf_counter()
        processors = ",".join(map(str, spec.processors)) if hasattr(os, "sched_setaffinity") else ""
        handed = (child.fileno(), ours)
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", _START, *map(str, handed), str(self._folder), processors],
            env=_environment(spec.threads), pass_fds=handed, stdin=subprocess.DEVNULL, stdout=self._output,
            stderr=self._output, start_new_session=True,
        )  # fmt: skip
        child.close()
        os.close(ours)
        try:
            self._send((spec, os.getcwd()))
            number = self._receive()
            with suppress(psutil.Error):  # the process has ended; the next `_receive` reports how
                self._method = psutil.Process(number)
            start_seconds = time.perf_counter() - start
            self.ready = Ready(start_seconds, self._receive())
        except CellError as error:
            error.log = self.close()
            raise
        except BaseException:
            self.close(0)
            raise

    def register(self, pair: Pair) -> tuple[Registration, Timing]:
        """Register one blind pair.

        Raises:
            CellError: where there is no valid result; the process may have ended then (`alive`).
        """
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
        """Whether the process runs."""
        return self._process.poll() is None

    def dismiss(self) -> None:
        """Let the process end by itself, after its libraries' clean-up, without waiting for it."""
        self._connection.close()

    def close(self, patience_s: float = 3) -> str:
        """End the process.

        Args:
            patience_s: time in which it may end by itself.

        Returns:
            Its output.
        """
        self.dismiss()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(patience_s)
        self._end()
        if self._output.closed:
            return ""
        with self._output as output:
            return os.pread(output.fileno(), os.fstat(output.fileno()).st_size, 0).decode(errors="replace")

    def _end(self) -> None:
        """End the process and those that it started, and remove its folder (see `worker_process.guard`)."""
        lifeline, self._lifeline = self._lifeline, -1
        if lifeline >= 0:
            os.close(lifeline)
        self._process.wait()

    def _send(self, message: Any) -> None:
        try:
            self._connection.send(message)
        except (BrokenPipeError, ConnectionError) as error:
            raise self._exit_error() from error

    def _receive(self) -> Any:
        """The next message of the process; raises a CellError that it sent."""
        deadline = time.monotonic() + self.time_limit_s
        while not self._connection.poll(min(CHECK_S, max(0.0, deadline - time.monotonic()))):
            self._check_limits(deadline)
        try:
            answer = self._connection.recv()
        except (EOFError, ConnectionError) as error:
            raise self._exit_error() from error
        if isinstance(answer, CellError):
            raise answer
        return answer

    def _check_limits(self, deadline: float) -> None:
        """End the process and raise CellError where a limit is passed or the run is to stop."""
        error = None
        limit = self.spec.memory_limit_gb
        if self._should_stop():
            error = CellError("crashed", "the run was stopped")
        elif time.monotonic() >= deadline:
            error = CellError("timeout", f"not finished after {self.time_limit_s:g} s, the time limit of a case")
        elif limit is not None and (held := self._memory_gb()) > limit:
            error = CellError("crashed", f"held {held:.2f} GB, more than {limit:.3g} GB, the memory limit of a case")
        if error is not None:
            self._end()
            raise error

    def _memory_gb(self) -> float:
        """Resident memory of the process and of the processes that it has started, GiB."""
        if self._method is None:
            return 0.0
        resident = 0
        with suppress(psutil.Error):
            if time.monotonic() - self._searched >= CHILD_SEARCH_S:
                self._started = self._method.children(recursive=True)
                self._searched = time.monotonic()
        for process in (self._method, *self._started):
            with suppress(psutil.Error):
                resident += process.memory_info().rss
        return resident / 2**30

    def _exit_error(self) -> CellError:
        """How the process ended."""
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
    """The process's environment: numbers of threads, the same modules, and no variable with the user's folder."""
    kept = {name: value for name, value in os.environ.items() if name not in HIDDEN}
    # An editable install adds an entry that is no path. As an absolute path it would contain the user's folder.
    modules = os.pathsep.join(os.path.abspath(p) for p in sys.path if os.path.exists(p or "."))
    return {**kept, **dict.fromkeys(THREAD_VARIABLES, str(threads)), "PYTHONPATH": modules}
