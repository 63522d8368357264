"""What runs in a method's process: a guardian that sees to its end, and the loop that registers what comes.

The first lines import next to nothing: the guardian stays small, and threads and processors are fixed before any
library looks at them.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmark.execution.worker import WorkerSpec


def main(connection_number: int, lifeline: int, folder: str, processors: str) -> None:
    """Begin a process. lifeline: end of a pipe which the parent holds open. processors: `0,1`, or empty."""
    os.mkdir(folder, 0o700)
    os.chdir(folder)  # before any library can keep where the user stands
    guard(connection_number, lifeline, folder)
    if processors:
        os.sched_setaffinity(0, {int(p) for p in processors.split(",")})
    from multiprocessing.connection import Connection

    serve(Connection(connection_number), folder)


def guard(connection_number: int, lifeline: int, folder: str) -> None:
    """Fork. The child returns; its parent, the guardian, waits for it, ends as it ends, and never returns.

    When the lifeline breaks (the runner closed it, or was killed), the child and whatever it has started are killed and
    the working folder is removed, whether or not the method ever gives Python a turn.
    """
    method = os.fork()
    if method == 0:
        os.setpgid(0, 0)  # a group of its own, so that what it starts can be ended with it
        os.close(lifeline)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
        return
    with suppress(OSError):  # also here: whichever is first
        os.setpgid(method, method)
    os.close(connection_number)  # else the parent would not see the child's end
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gone = threading.Event()
    threading.Thread(target=_wait_for_the_runner, args=(lifeline, method, gone), daemon=True).start()
    _, status = os.waitpid(method, 0)
    _kill_group(method)
    shutil.rmtree(folder, ignore_errors=True)
    if gone.is_set():
        os._exit(1)
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        signal.pause()
    os._exit(os.WEXITSTATUS(status))


def _wait_for_the_runner(lifeline: int, method: int, gone: threading.Event) -> None:
    os.read(lifeline, 1)  # nothing is ever written: it returns when the last other end is closed
    gone.set()
    _kill_group(method)


def _kill_group(method: int) -> None:
    try:
        os.killpg(method, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # macOS says the latter of a group of zombies
        return


def serve(connection: Connection, folder: str) -> None:
    """Make the method, prepare it, then register what comes until the parent closes the pipe."""
    try:
        job, where = connection.recv()
        os.chdir(where)  # where the user stands: a setting may be a relative path
        method = _make(job)
        os.chdir(folder)
        del where
        connection.send(os.getpid())
        _prepare(connection, method, job)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - whatever a plugin raises becomes its cell's status
        connection.send(_failure(error))
        return
    while True:
        try:
            pair = connection.recv()
        except EOFError:
            return
        answer = _register(method, pair, job)
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as error:  # noqa: BLE001 - a return value that cannot travel is the method's fault too
            from benchmark.execution.worker import CellError

            connection.send(CellError("invalid", f"the return value cannot be passed on: {_one_line(error)}"))


def _make(job: WorkerSpec) -> Any:
    from benchmark.execution.worker import CellError
    from methods.registry import create_method, load_plugin

    for plugin in job.plugins:
        load_plugin(plugin, check_names=False)
    method = create_method(job.method, job.settings, job.row)
    reason = method.unavailable(job.device)
    if job.device not in method.devices:
        reason = f"{job.method} runs on {', '.join(method.devices)} only"
    if reason:
        raise CellError("unavailable", reason)
    _fix_threads(job.threads)
    return method


def _prepare(connection: Connection, method: Any, job: WorkerSpec) -> None:
    import time

    began = time.perf_counter()
    method.prepare(job.device, job.threads, job.seed)
    connection.send(time.perf_counter() - began)


def _register(method: Any, pair: Any, job: WorkerSpec) -> Any:
    from metrics.timing import measure

    _fix_threads(job.threads)  # a method that changed them for one case must not change them for the next
    try:
        return measure(lambda: method.register(pair), job.device, job.repeats)
    except Exception as error:  # noqa: BLE001 - as above
        return _failure(error)


def _fix_threads(count: int) -> None:
    """The environment says it already to libraries that are not loaded yet."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _failure(error: Exception) -> Exception:
    from benchmark.execution.worker import CellError

    if isinstance(error, CellError):
        return error
    import traceback

    traceback.print_exc()
    return CellError("failed", _one_line(error))


def _one_line(error: Exception) -> str:
    said = " ".join(str(error).split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
