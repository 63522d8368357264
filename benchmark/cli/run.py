"""The `run` command: a run that shows its progress, can be stopped and can be continued; or its dry run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from benchmark.cli.progress import Bar
from benchmark.cli.tables import table_of_names
from benchmark.config import RunConfig
from benchmark.datasets.cache import switched
from benchmark.errors import BadInput
from benchmark.execution import runner
from benchmark.execution.plan import Plan, Task, load_checked, make_plan, missing, outdated, reader
from benchmark.execution.same_data import check_same_data
from benchmark.results.estimate import estimate, in_words
from benchmark.results.store import Store
from methods.base import Method
from methods.registry import create_method


def run_config(
    config: RunConfig, out: Path, options: runner.RunOptions, console: Console, cache: bool = True
) -> runner.Outcome:
    """Run a configuration into the folder `out` and show a progress bar.

    Args:
        cache: whether phantoms are kept on disk and read from there.

    Raises:
        BadInput: where the request cannot be used; nothing is written then.
        Stopped: where a file cannot be written.
        SystemExit: with status 130 after Ctrl-C or SIGTERM; finished cells are kept.
    """
    try:
        with sigterm_as_ctrl_c(), switched(cache), Bar(console) as bar:
            outcome = runner.run(config, out, bar, options)
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. Finished cells are kept in {out}; the same command continues from there.", markup=False
        )
        raise SystemExit(130) from None
    for patient, cause in {**outcome.left_out, **outcome.refused}.items():
        console.print(f"{patient} was left out: {cause}", style="yellow", markup=False)
    for patient, doubt in outcome.notes.items():
        console.print(f"{patient} is used with doubt: {doubt}", style="yellow", markup=False)
    return outcome


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """Inside, SIGTERM raises KeyboardInterrupt: batch systems send it at the end of the allotted time."""

    def interrupt(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # Python allows handlers in the main thread only
        yield
        return
    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def dry_run(config: RunConfig, out: Path, options: runner.RunOptions, console: Console, cache: bool = True) -> None:
    """Print the cells that a run would run, what it would refuse, and an estimate of its time. Nothing is written.

    Headers of scans and labels are read, and the labels: their ids may be of another scheme, and a cell's time depends
    on their box. Cases are loaded where a row reads a file for each case, to check those files.

    Args:
        cache: whether phantoms that have to be loaded are kept on disk and read from there.

    Raises:
        BadInput: where the request cannot be used.
    """
    plan = make_plan(config)
    check_same_data(out, config)
    tasks = plan.tasks(plan.cases)
    store = Store(out, make=False)
    todo = missing(store, tasks, options.on_stale, options.retry_failed)
    refused = _refused(plan)
    with switched(cache):
        failing = _failing(plan, [task for task in todo if task.case not in refused], refused)
    rows = _row_plans(
        plan, [t for t in tasks if t.case not in refused], [t for t in todo if t.case not in refused], out
    )
    table = table_of_names("row", "cells to run", "kept", "a cell (estimate)", "estimated from", "together")
    for row in rows:
        table.add_row(*map(escape, row.table_cells()))
    console.print(table)
    rows_of: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        rows_of.setdefault(row.cases, []).append(row.name)
    for cases, names in rows_of.items():
        if cases:
            console.print(f"{', '.join(names)}: {' '.join(cases)}", markup=False, highlight=False, soft_wrap=True)
    for case, cause in {**plan.left_out, **refused}.items():
        console.print(f"{case} would be left out: {cause}", style="yellow", markup=False, soft_wrap=True)
    for cell, cause in failing.items():
        console.print(f"{cell} {cause}", style="yellow", markup=False, soft_wrap=True)
    for name, cause in outdated(store, tasks).items():
        console.print(f"{name}: {cause}", style="yellow", markup=False, soft_wrap=True)
    cells = sum(len(row.cases) for row in rows)
    number = "1 cell" if cells == 1 else f"{cells} cells"
    console.print(
        f"{number} to run into {out}, {_total_time(rows, options.jobs)}. Nothing was run.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def _refused(plan: Plan) -> dict[str, str]:
    """The cases whose files cannot be used, judged by names, headers and labels, and the cause in words."""
    refused = {}
    for case in plan.cases:
        try:
            plan.dataset.check(case)
        except BadInput as error:
            refused[case] = str(error)
    return refused


def _failing(plan: Plan, todo: Sequence[Task], refused: dict[str, str]) -> dict[str, str]:
    """The cells that have no result for a file that their method reads for each case, and the cause in words.

    Cases that cannot be loaded are added to `refused`.
    """
    failing: dict[str, str] = {}
    load = reader(plan.dataset)
    for task in todo:
        m = task.method
        method = create_method(m.method, m.settings, m.name)
        if type(method).check_files is Method.check_files or task.case in refused or task.row in failing:
            continue
        if (absent := method.unavailable(task.device)) is not None:
            failing[task.row] = f"would be unavailable: {absent}"
            continue
        try:
            method.check_files(load_checked(load, task.case).pair.blind(task.case))
        except BadInput as error:
            refused[task.case] = str(error)
        except (ValueError, OSError) as error:
            failing[f"{task.row}, {task.case}"] = f"would fail: {' '.join(str(error).split())}"
    return failing


@dataclass(frozen=True)
class _RowPlan:
    """What a run would do for one row.

    Attributes:
        name: `method@device`.
        cases: of the cells to run.
        kept: number of other cells.
        seconds: of each cell to run, estimated; empty where nothing is known.
        source: of the estimate, in words.
    """

    name: str
    cases: tuple[str, ...]
    kept: int
    seconds: tuple[float, ...] = ()
    source: str = ""

    @property
    def known(self) -> bool:
        """Whether there is an estimate."""
        return len(self.seconds) == len(self.cases)

    def table_cells(self) -> tuple[str, ...]:
        first = (self.name, str(len(self.cases)), str(self.kept))
        if not self.cases:
            return (*first, "", "", "")
        if not self.known:
            return (*first, "unknown", "", "unknown")
        low, high = in_words(min(self.seconds)), in_words(max(self.seconds))
        return (*first, low if low == high else f"{low} to {high}", self.source, in_words(sum(self.seconds)))


def _row_plans(plan: Plan, tasks: Sequence[Task], todo: Sequence[Task], out: Path) -> list[_RowPlan]:
    rows = []
    # Another training of a row takes as long as the row itself, under whose name its times are stored.
    methods = {m.name: m for m in plan.config.methods}
    voxels = remembered(plan.dataset.voxels)
    for row in plan.rows:
        cases = tuple(t.case for t in todo if t.row == row)
        name, _, device = row.rpartition("@")
        kept = sum(t.row == row for t in tasks) - len(cases)
        found = estimate(f"{methods[name].row}@{device}", out, methods[name].method)
        if found is None:
            rows.append(_RowPlan(row, cases, kept))
            continue
        sizes = [voxels(case) if found.voxels is not None else None for case in cases]
        source = f"{found.source}, {'not scaled' if None in sizes else 'scaled by voxels'}"
        rows.append(_RowPlan(row, cases, kept, tuple(map(found.seconds, sizes)), source))
    return rows


def _total_time(rows: Sequence[_RowPlan], jobs: int) -> str:
    """The time of all rows in words, for example `about 3 min, plus the unknown time of my-method@cpu`."""
    unknown = ", ".join(row.name for row in rows if not row.known)
    total = sum(sum(row.seconds) for row in rows)
    if unknown and not total:
        return f"time unknown for {unknown}"
    together = f" with {jobs} jobs, if they do not slow each other down" if jobs > 1 else ""
    more = f", plus the unknown time of {unknown}" if unknown else ""
    return f"an estimated {in_words(total / jobs)}{together}{more}"
