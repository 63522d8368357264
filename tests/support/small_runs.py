"""Runs of the dataset `tiny`, and comparisons of their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.config import RunConfig, make_config
from benchmark.execution.runner import Outcome, RunOptions, run
from benchmark.results.store import read_run

# Columns in which two runs of the same cells may differ.
TIMING_COLUMNS = ["seconds", "seconds_spread", "start_seconds", "prepare_seconds", "load_seconds", "evaluate_seconds",
                  "peak_memory_mb", "peak_device_memory_mb", "threads_observed", "busy_elsewhere",
                  "contended"]  # fmt: skip


class Recorder:
    """A progress that records every call."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, str]] = []
        self.statuses: list[str] = []
        self.messages: list[str] = []
        self.notices: list[str] = []

    def plan(self, cells: int, finished: int) -> None:
        self.planned = (cells, finished)

    def started(self, row: str, case: str) -> None:
        self.cells.append((row, case))

    def finished(self, row: str, case: str, status: str, message: str) -> None:
        self.statuses.append(status)
        self.messages.append(message)

    def notice(self, line: str) -> None:
        self.notices.append(line)


def tiny_config(tiny: Path, methods: list[Any], split: str = "test", count: int = 0, **more: Any) -> RunConfig:
    """The configuration of a run of `tiny`. count: number of cases; 0 for `one` and `two`."""
    dataset = {"name": "tiny", "split": split, "settings": {"count": count}}
    content = {"dataset": dataset, "methods": methods, "threads": 1, "plugins": [str(tiny)]}
    return make_config({**content, **more}, "test")


def run_tiny(
    tiny: Path,
    out: Path,
    methods: list[Any],
    split: str = "test",
    count: int = 0,
    options: RunOptions | None = None,
    **more: Any,
) -> tuple[Outcome, Recorder]:
    """Run methods on `tiny` into `out`."""
    recorder = Recorder()
    return run(tiny_config(tiny, methods, split, count, **more), out, recorder, options), recorder


def tables(out: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run without the columns that depend on the clock."""
    done = read_run(out)
    return {"pairs": done.pairs, "vertebrae": done.vertebrae, "cases": done.cases.drop(columns=TIMING_COLUMNS)}


def assert_same_tables(a: Path, b: Path) -> None:
    """Fail where the tables of two runs differ in more than times."""
    for name, frame in tables(a).items():
        pd.testing.assert_frame_equal(frame, tables(b)[name], obj=name)


def finished_cells(out: Path) -> dict[str, str]:
    """The text of every finished cell's file by its path; raises where one is no JSON."""
    files = sorted((out / "cells").rglob("*.json"))
    texts = {str(file.relative_to(out)): file.read_text(encoding="utf-8") for file in files}
    for text in texts.values():
        json.loads(text)
    return texts
