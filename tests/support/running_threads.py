"""Count the threads that an elastix registration keeps busy at the same time."""

from __future__ import annotations

import os
import subprocess
import sys

from support.elastix_pairs import stretched

from methods.registry import create_method

# Prints the largest number of threads of a process that ran at the same time, polled until stdin is closed.
WATCHER = """
import os, select, sys
folder, most = f"/proc/{sys.argv[1]}/task", 0
print("ready", flush=True)
while not select.select([sys.stdin], [], [], 0.002)[0]:
    states = []
    for task in os.listdir(folder):
        try:
            states.append(open(f"{folder}/{task}/stat").read().rsplit(")", 1)[1].split()[0])
        except (FileNotFoundError, ProcessLookupError):
            pass
    most = max(most, states.count("R"))
print(most)
"""


def running_threads(threads: int) -> int:
    """The largest number of threads that ran at the same time in a registration with `threads` threads."""
    made = create_method("bspline", {"parameters": "fast", "changes": {"NumberOfSpatialSamples": 20000}})
    made.prepare("cpu", threads, 0)
    pair = stretched()
    with subprocess.Popen(
        [sys.executable, "-c", WATCHER, str(os.getpid())],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as watcher:
        assert watcher.stdin is not None and watcher.stdout is not None
        watcher.stdout.readline()
        made.register(pair)
        watcher.stdin.close()
        return int(watcher.stdout.read())
