"""Runs of the tiny dataset, and what can be compared of two."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd

from benchmark.config import RunConfig, make_config
from benchmark.execution.runner import Outcome, RunOptions, run
from benchmark.results.store import read_run

# What two runs of the same cells need not have in common.
OF_THE_CLOCK = ["seconds", "seconds_spread", "start_seconds", "prepare_seconds", "load_seconds", "evaluate_seconds",
                "peak_memory_mb", "peak_device_memory_mb", "threads_observed", "busy_elsewhere",
                "contended"]  # fmt: skip


class Recorder:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.cells: list[tuple[str, str]] = []
        self.statuses: list[str] = []
        self.messages: list[str] = []
        self.said: list[str] = []

    def plan(self, cells: int, finished: int) -> None:
        self.planned = (cells, finished)

    def cell(self, row: str, case: str) -> None:
        self.cells.append((row, case))

    def done(self, row: str, case: str, status: str, message: str) -> None:
        self.statuses.append(status)
        self.messages.append(message)

    def say(self, line: str) -> None:
        self.said.append(line)


def request(tiny: Path, methods: list[Any], split: str = "test", count: int = 0, **more: Any) -> RunConfig:
    dataset = {"name": "tiny", "split": split, "settings": {"count": count}}
    content = {"dataset": dataset, "methods": methods, "threads": 1, "plugins": [str(tiny)]}
    return make_config({**content, **more}, "test")


def go(
    tiny: Path,
    out: Path,
    methods: list[Any],
    split: str = "test",
    count: int = 0,
    how: RunOptions | None = None,
    **more: Any,
) -> tuple[Outcome, Recorder]:
    recorder = Recorder()
    return run(request(tiny, methods, split, count, **more), out, recorder, how), recorder


def figures(out: Path) -> dict[str, pd.DataFrame]:
    """The tables of a run without what the clock says."""
    done = read_run(out)
    return {"pairs": done.pairs, "vertebrae": done.vertebrae, "cases": done.cases.drop(columns=OF_THE_CLOCK)}


def assert_same_figures(a: Path, b: Path) -> None:
    for name, frame in figures(a).items():
        pd.testing.assert_frame_equal(frame, figures(b)[name], obj=name)


def finished(out: Path) -> dict[str, str]:
    """Every finished cell's file and its text; raises where one is not whole."""
    files = sorted((out / "cells").rglob("*.json"))
    texts = {str(file.relative_to(out)): file.read_text(encoding="utf-8") for file in files}
    for text in texts.values():
        json.loads(text)
    return texts
