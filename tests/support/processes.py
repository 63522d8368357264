"""Processes that tests start, wait for and kill."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil


def eventually(condition: Callable[[], Any], seconds: float = 60) -> bool:
    """Wait until `condition` is true, at most `seconds`; returns whether it became true."""
    deadline = time.monotonic() + seconds
    while not (true := bool(condition())) and time.monotonic() < deadline:
        time.sleep(0.02)
    return true


def fork(work: Callable[[], Any]) -> int:
    """Do `work` in a forked process, which has every import already. Returns its process number."""
    number = os.fork()
    if number == 0:
        try:
            work()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the process ends here, and the parent sees the status
            os._exit(1)
    return number


def kill(number: int) -> int | None:
    """Kill a forked process. Returns its exit status where it had ended before, else None."""
    done, status = os.waitpid(number, os.WNOHANG)
    if done:
        return os.waitstatus_to_exitcode(status)
    os.kill(number, signal.SIGKILL)
    os.waitpid(number, 0)
    return None


def runs(process: psutil.Process) -> bool:
    """Whether a process is neither gone nor a zombie."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def methods_below(folder: Path) -> list[psutil.Process]:
    """Running processes of methods whose working folder is in `folder`."""
    return [
        process
        for process in psutil.process_iter(["cmdline", "status"])
        if process.info["status"] != psutil.STATUS_ZOMBIE
        and any(str(folder) in part for part in process.info["cmdline"] or ())
    ]
