"""The method's process: a guardian, which kills it when the runner ends, and the loop that registers pairs.

This module imports little, so that the guardian stays small, and so that threads and processors are fixed before a
library reads them.
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
    """Start the process.

    Args:
        connection_number: file descriptor of the connection to the runner.
        lifeline: reading end of a pipe whose other end the runner holds open.
        folder: working folder, which is created.
        processors: numbers, as `0,1`; empty for any.
    """
    os.mkdir(folder, 0o700)
    os.chdir(folder)  # before a library can store the user's folder
    guard(connection_number, lifeline, folder)
    if processors:
        os.sched_setaffinity(0, {int(p) for p in processors.split(",")})
    from multiprocessing.connection import Connection

    serve(Connection(connection_number), folder)


def guard(connection_number: int, lifeline: int, folder: str) -> None:
    """Fork. The child, in which the method runs, returns. The parent, the guardian, ends with the child's status.

    When the runner closes the lifeline or is killed, the guardian kills the child and the processes that it has
    started, and removes the working folder. This works also while the method blocks the interpreter.
    """
    method = os.fork()
    if method == 0:
        os.setpgid(0, 0)  # a new group, so that the processes that it starts can be ended with it
        os.close(lifeline)
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the runner handles Ctrl-C
        return
    with suppress(OSError):  # called in both processes, since either may run first
        os.setpgid(method, method)
    os.close(connection_number)  # an open copy would hide the child's end from the runner
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
    os.read(lifeline, 1)  # returns when the other end is closed, since nothing is ever written
    gone.set()
    _kill_group(method)


def _kill_group(method: int) -> None:
    try:
        os.killpg(method, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):  # the latter on macOS for a group of zombies
        return


def serve(connection: Connection, folder: str) -> None:
    """Create and prepare the method, then register pairs until the runner closes the connection."""
    try:
        spec, user_folder = connection.recv()
        os.chdir(user_folder)  # a path in the settings may be relative to it
        method = _create(spec)
        os.chdir(folder)
        del user_folder
        connection.send(os.getpid())
        _prepare(connection, method, spec)
    except EOFError:
        return
    except Exception as error:  # noqa: BLE001 - any error of a plugin becomes the status of its cell
        connection.send(_failure(error))
        return
    while True:
        try:
            pair = connection.recv()
        except EOFError:
            return
        answer = _register(method, pair, spec)
        try:
            connection.send(answer)
        except (BrokenPipeError, ConnectionError):
            return
        except Exception as error:  # noqa: BLE001 - a result that cannot be pickled is the method's fault too
            from benchmark.execution.worker import CellError

            connection.send(CellError("invalid", f"the return value cannot be passed on: {_one_line(error)}"))


def _create(spec: WorkerSpec) -> Any:
    """The method; raises CellError where it cannot run here."""
    from benchmark.execution.worker import CellError
    from methods.registry import create_method, load_plugin

    for plugin in spec.plugins:
        load_plugin(plugin, check_names=False)
    method = create_method(spec.method, spec.settings, spec.row)
    reason = method.unavailable(spec.device)
    if spec.device not in method.devices:
        reason = f"{spec.method} runs on {', '.join(method.devices)} only"
    if reason:
        raise CellError("unavailable", reason)
    _set_threads(spec.threads)
    return method


def _prepare(connection: Connection, method: Any, spec: WorkerSpec) -> None:
    """Prepare the method and send the time that it took."""
    import time

    start = time.perf_counter()
    method.prepare(spec.device, spec.threads, spec.seed)
    connection.send(time.perf_counter() - start)


def _register(method: Any, pair: Any, spec: WorkerSpec) -> Any:
    """The registration and its timing, or the CellError of a failure."""
    from metrics.timing import measure

    _set_threads(spec.threads)  # a method may have changed them for the previous case
    try:
        return measure(lambda: method.register(pair), spec.device, spec.repeats)
    except Exception as error:  # noqa: BLE001 - as above
        return _failure(error)


def _set_threads(count: int) -> None:
    """Set torch's threads where it is loaded. Libraries that are loaded later read the environment."""
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def _failure(error: Exception) -> Exception:
    """The error as a CellError; its traceback goes to the log."""
    from benchmark.execution.worker import CellError

    if isinstance(error, CellError):
        return error
    import traceback

    traceback.print_exc()
    return CellError("failed", _one_line(error))


def _one_line(error: Exception) -> str:
    message = " ".join(str(error).split())
    return f"{type(error).__name__}: {message}" if message else type(error).__name__
