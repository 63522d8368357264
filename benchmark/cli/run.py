"""The `run` command: a run that shows its progress, can be stopped and can be continued; or its dry run."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from benchmark.cli.progress import Bar
from benchmark.config import RunConfig
from benchmark.datasets.cache import switched
from benchmark.execution import runner
from benchmark.execution.plan import Plan, Task, make_plan, missing, outdated
from benchmark.results.estimate import Estimate, estimate, in_words
from benchmark.results.store import Store


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


def dry_run(config: RunConfig, out: Path, options: runner.RunOptions, console: Console) -> None:
    """Print the cells that a run would run and an estimate of its time. No case is loaded and no file is written.

    Raises:
        BadInput: where the request cannot be used.
    """
    plan = make_plan(config)
    tasks = plan.tasks(plan.cases)
    store = Store(out, make=False)
    todo = missing(store, tasks, options.on_stale, options.retry_failed)
    rows = _row_plans(plan, tasks, todo, out)
    table = Table("row", "cells to run", "kept", "a cell", "estimated from", "together", box=None)
    for row in rows:
        table.add_row(*map(escape, row.table_cells()))
    console.print(table)
    rows_of: dict[tuple[str, ...], list[str]] = {}
    for row in rows:
        rows_of.setdefault(row.cases, []).append(row.name)
    for cases, names in rows_of.items():
        if cases:
            console.print(f"{', '.join(names)}: {' '.join(cases)}", markup=False, highlight=False, soft_wrap=True)
    for name, cause in outdated(store, tasks).items():
        console.print(f"{name}: {cause}", style="yellow", markup=False, soft_wrap=True)
    number = "1 cell" if len(todo) == 1 else f"{len(todo)} cells"
    console.print(
        f"{number} to run into {out}, {_total_time(rows, options.jobs)}. Nothing was run.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


@dataclass(frozen=True)
class _RowPlan:
    """What a run would do for one row. name: `method@device`; cases: of the cells to run; kept: number of others."""

    name: str
    cases: tuple[str, ...]
    kept: int
    estimate: Estimate | None

    @property
    def seconds(self) -> float | None:
        return None if self.estimate is None else self.estimate.seconds * len(self.cases)

    def table_cells(self) -> tuple[str, ...]:
        first = (self.name, str(len(self.cases)), str(self.kept))
        if self.estimate is None or self.seconds is None:
            return (*first, "unknown", "", "unknown")
        return (*first, in_words(self.estimate.seconds), self.estimate.source, in_words(self.seconds))


def _row_plans(plan: Plan, tasks: Sequence[Task], todo: Sequence[Task], out: Path) -> list[_RowPlan]:
    rows = []
    # Another training of a row takes as long as the row itself, under whose name its times are stored.
    names = {m.name: m.row for m in plan.config.methods}
    for row in plan.rows:
        cases = tuple(t.case for t in todo if t.row == row)
        name, _, device = row.rpartition("@")
        kept = sum(t.row == row for t in tasks) - len(cases)
        rows.append(_RowPlan(row, cases, kept, estimate(f"{names[name]}@{device}", out)))
    return rows


def _total_time(rows: Sequence[_RowPlan], jobs: int) -> str:
    """The time of all rows in words, for example `about 3 min, plus the unknown time of my-method@cpu`."""
    unknown = ", ".join(row.name for row in rows if row.cases and row.seconds is None)
    total = sum(row.seconds for row in rows if row.seconds is not None)
    if unknown and not total:
        return f"time unknown for {unknown}"
    together = f" with {jobs} jobs, if they do not slow each other down" if jobs > 1 else ""
    more = f", plus the unknown time of {unknown}" if unknown else ""
    return f"about {in_words(total / jobs)}{together}{more}"
