"""The `run` command's body: a run that is shown, can be stopped, and says how it goes on; or what it would do."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, get_args

from rich.console import Console
from rich.markup import escape

from benchmark.cli.progress import Bar
from benchmark.config import RunConfig
from benchmark.datasets.cache import switched
from benchmark.errors import BadInput
from benchmark.execution import runner
from benchmark.execution.plan import OnStale, make_plan, missing, outdated
from benchmark.results.estimate import estimate, in_words
from benchmark.results.store import Store


def how(on_stale: str, retry_failed: bool, jobs: int, engine: str, scheduler: str) -> runner.RunOptions:
    """A run's options, checked. Raises BadInput, one line, for a value that there is not."""
    for option, value, kind in (("--on-stale", on_stale, OnStale), ("--engine", engine, runner.Engine)):
        if value not in get_args(kind):
            raise BadInput(f"{option} {value}: expected {', '.join(get_args(kind))}")
    if scheduler and engine != "dask":
        raise BadInput(f"--scheduler {scheduler}: expected --engine dask with it, got {engine}")
    return runner.RunOptions(on_stale, retry_failed, jobs, engine, scheduler)  # type: ignore[arg-type]


def run_config(
    config: RunConfig, out: Path, asked: runner.RunOptions, console: Console, cache: bool = True
) -> runner.Outcome:
    """Run a configuration into `out`, showing how far it is. Ctrl-C and SIGTERM stop it cleanly, with status 130.

    cache: whether patients that are made may be kept on disk, and those kept before be used.
    """
    try:
        with terminable(), switched(cache), Bar(console) as bar:
            outcome = runner.run(config, out, bar, asked)
    except KeyboardInterrupt:
        console.print(
            f"\nStopped. Finished cells are kept in {out}; the same command goes on from there.", markup=False
        )
        raise SystemExit(130) from None
    for patient, why in {**outcome.left_out, **outcome.refused}.items():
        console.print(f"{patient} was left out: {why}", style="yellow", markup=False)
    return outcome


@contextmanager
def terminable() -> Iterator[None]:
    """Inside, SIGTERM (a batch system whose time is up) stops as Ctrl-C does."""

    def stop(*_: Any) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():  # only there may a handler be set
        yield
        return
    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def dry_run(config: RunConfig, out: Path, asked: runner.RunOptions, console: Console) -> None:
    """Print the cells that a run would run, and about how long it would take. Nothing is read, made or run."""
    from rich.table import Table

    plan = make_plan(config)
    tasks = plan.tasks(plan.cases)
    store = Store(out, make=False)
    todo = missing(store, tasks, asked.on_stale, asked.retry_failed)
    table = Table("row", "cells to run", "kept", "a cell", "estimated from", "together", box=None)
    total, unknown = 0.0, []
    tables = {m.name: m.row for m in config.methods}  # a training of a row stands under that row's name
    for row in plan.rows:
        cells = [t for t in todo if t.row == row]
        name, _, device = row.rpartition("@")
        guess = estimate(f"{tables[name]}@{device}", out)
        kept = sum(t.row == row for t in tasks) - len(cells)
        if guess is None:
            unknown += [row] * bool(cells)
            each = together = "unknown"
        else:
            total += guess.seconds * len(cells)
            each, together = in_words(guess.seconds), in_words(guess.seconds * len(cells))
        table.add_row(*map(escape, (row, str(len(cells)), str(kept), each, guess.source if guess else "", together)))
    console.print(table)
    alike: dict[tuple[str, ...], list[str]] = {}
    for row in plan.rows:
        alike.setdefault(tuple(t.case for t in todo if t.row == row), []).append(row)
    for names, rows in alike.items():
        if names:
            console.print(f"{', '.join(rows)}: {' '.join(names)}", markup=False, highlight=False, soft_wrap=True)
    for row, why in outdated(store, tasks).items():
        console.print(f"{row}: {why}", style="yellow", markup=False, soft_wrap=True)
    beside = f" with {asked.jobs} jobs, if they do not slow each other" if asked.jobs > 1 else ""
    others = f"{', '.join(unknown)} take{'s' if len(unknown) == 1 else ''}"
    time = f"about {in_words(total / asked.jobs)}{beside}" if total or not unknown else f"as long as {others}"
    time += f", and what {others}" if total and unknown else ""
    amount = "1 cell" if len(todo) == 1 else f"{len(todo)} cells"
    console.print(
        f"{amount} to run into {out}, {time}. Nothing was run.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip
