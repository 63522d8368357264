"""Runs every missing cell of a run and keeps each at once, so that what was finished is never run again."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmark import environment
from benchmark.config import RunConfig
from benchmark.errors import BadInput, Stopped
from benchmark.evaluation import describe_pair
from benchmark.execution.cell import Finished, disturbed, spending
from benchmark.execution.local import run_here
from benchmark.execution.plan import (
    OnStale,
    Plan,
    Task,
    elsewhere,
    make_plan,
    missing,
    outdated,
    read,
    reader,
    refused_at_first,
)
from benchmark.results import pictures
from benchmark.results.lock import check_free, locked
from benchmark.results.store import Store
from methods.base import Case
from methods.registry import plugins as registered_plugins

Engine = Literal["local", "dask"]


class Progress(Protocol):
    """Whoever wants to show how far a run is. `cell` is called before and `done` after every cell to be run."""

    def plan(self, cells: int, finished: int) -> None: ...
    def cell(self, row: str, case: str) -> None: ...
    def done(self, row: str, case: str, status: str, message: str) -> None: ...
    def say(self, line: str) -> None: ...


@dataclass(frozen=True)
class RunOptions:
    """How a run goes about it; nothing here changes a cell's figures.

    on_stale: what becomes of a finished cell whose method, weights, settings, data, libraries or code have changed
    since. retry_failed: run cells again that gave no result. jobs: cells beside each other. engine: `local`, or `dask`
    on the cluster of `scheduler` (empty: on one of this machine with `jobs` workers).
    """

    on_stale: OnStale = "redo"
    retry_failed: bool = False
    jobs: int = 1
    engine: Engine = "local"
    scheduler: str = ""


@dataclass
class Outcome:
    """How a run ended. refused: patient -> why it could not be used. statuses: of every cell of the run.

    left_out: patients that are as they should be but cannot be measured, and why. spent: seconds by what they went to
    (see `cells.Finished`); wall_seconds: of the whole run.
    """

    folder: Path
    refused: dict[str, str] = field(default_factory=dict)
    statuses: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    spent: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0: every cell ok or unavailable, nobody refused. 1: otherwise."""
        return int(bool(self.refused) or any(s not in ("ok", "unavailable") for s in self.statuses))


def run(config: RunConfig, out: Path, progress: Progress, how: RunOptions | None = None) -> Outcome:
    """Run what is missing in the folder `out` and rewrite its tables.

    Raises BadInput, before anything is written, where the request is wrong, no patient is usable or another process is
    at work in `out`; Stopped where a file cannot be written or the cluster is lost.
    """
    how = how or RunOptions()
    began = time.perf_counter()
    plan = make_plan(config)
    check_free(out)  # before the cases are read, which takes a while
    outcome = Outcome(out, left_out=plan.left_out)
    load = reader(plan.dataset)
    with spending(outcome.spent, "load"):
        outcome.refused = refused_at_first(load, plan.cases)
    store = Store(out)
    with locked(out):
        _begin(store, config)
        for case in plan.cases:
            _describe(store, plan, case, load, outcome)
        for case, why in plan.left_out.items():
            _write_absent(store, plan, case, why)
        usable = [case for case in plan.cases if case not in outcome.refused]
        tasks = plan.tasks(usable)
        todo = missing(store, tasks, how.on_stale, how.retry_failed)
        for row, why in outdated(store, tasks).items():
            progress.say(f"{row}: {why}: {'kept all the same' if how.on_stale == 'keep' else 'run again'}")
        others = sorted(store.rows() - set(plan.rows))
        if others:
            progress.say(f"{out} also holds {', '.join(others)}, not asked for now: the report leaves them out")
        _say_what_is_kept(store, [t for t in tasks if t not in todo], progress)
        progress.plan(len(tasks), len(tasks) - len(todo))
        listed = [*plan.cases, *plan.left_out]
        _run_cells(store, plan, todo, load, progress, how, outcome, partial(store.write_tables, plan.rows, listed))
        cells = [store.cell(task.row, task.case) for task in tasks]
        outcome.statuses = [c["case"]["status"] for c in cells if c is not None]
    outcome.wall_seconds = time.perf_counter() - began
    return outcome


def _begin(store: Store, config: RunConfig) -> None:
    """The first files. A folder that cannot be written into is a wrong request: nothing has been run."""
    try:
        store.clean()
        store.write_text("config.yaml", config.to_yaml())
        described = environment.describe() | {"plugins": registered_plugins()}
        store.write_text("environment.json", json.dumps(described, indent=1))
    except (Stopped, OSError) as error:
        raise BadInput(f"--out {store.folder}: expected a folder to write into; {error}") from error


def _run_cells(
    store: Store, plan: Plan, todo: Sequence[Task], load: Callable[[str], Case], progress: Progress, how: RunOptions,
    outcome: Outcome, write_tables: Callable[[], None],
) -> None:  # fmt: skip
    left = {row: sum(task.row == row for task in todo) for row in plan.rows}
    with closing(_engine(plan.config, todo, load, progress, how)) as cells:
        for finished in cells:
            for row, log in finished.logs.items():
                store.append_log(row, log)
            if not finished.content:
                continue
            task = finished.task
            _keep(store, finished)
            for what, seconds in finished.spent.items():
                outcome.spent[what] = outcome.spent.get(what, 0.0) + seconds
            progress.done(task.row, task.case, finished.content["case"]["status"], _message(finished))
            left[task.row] -= 1
            if not left[task.row]:
                write_tables()
    write_tables()


def _engine(
    config: RunConfig, todo: Sequence[Task], load: Callable[[str], Case], progress: Progress, how: RunOptions
) -> Generator[Finished, None, None]:
    def started(task: Task) -> None:
        progress.cell(task.row, task.case)

    if how.engine == "dask" and todo:
        from benchmark.execution.dask import run_on_cluster

        return run_on_cluster(config, todo, how.scheduler, how.jobs, started)
    return run_here(config, todo, how.jobs, load, started)


def _keep(store: Store, finished: Finished) -> None:
    """Write a cell's pictures and field, and last its own file: it is finished when that is there."""
    task = finished.task
    for part, ending in (("pictures", "npz"), ("fields", "nii.gz")):  # of a result that this one takes the place of
        (store.folder / part / task.row / f"{task.case}.{ending}").unlink(missing_ok=True)
    if finished.picture is not None:
        pictures.save(store, [task.row, task.case], finished.picture)
    if finished.displacement is not None:
        from benchmark.datasets.io.images import write_displacement

        try:
            write_displacement(store.path("fields", task.row, f"{task.case}.nii.gz"), *finished.displacement)
        except BadInput as error:
            raise Stopped(f"{error}; what is finished is kept in {store.folder}") from error
    store.write_cell(task.row, task.case, finished.content)


def _message(finished: Finished) -> str:
    """The cause where there is no result; else what makes its time doubtful: more threads than given, other work."""
    cell = finished.content["case"]
    observed, given = cell.get("threads_observed") or 0.0, cell.get("threads") or 0
    # Of a call that is over at once, what it kept busy is chance.
    if cell["error"] is None and (cell.get("seconds") or 0.0) > 0.05 and observed > 1.2 * given + 0.2:
        return f"kept {observed:.1f} processors busy with {given} thread{'s' if given > 1 else ''} given"
    if cell["error"] is None and disturbed(cell):
        return f"other work kept {cell['busy_elsewhere']:.1f} processors busy meanwhile; its time does not count"
    return cell["error"] or ""


def _say_what_is_kept(store: Store, kept: Sequence[Task], progress: Progress) -> None:
    for row, machine in elsewhere(store, kept).items():
        progress.say(f"{row}: cells that are kept were timed on another machine ({machine}); times do not compare")
    # A cell's file may have been deleted since it was looked for.
    cells = [cell for t in kept if (cell := store.cell(t.row, t.case)) is not None]
    failed = sum(cell["case"]["status"] not in ("ok", "unavailable") for cell in cells)
    if failed:
        progress.say(f"{failed} cell{'s' if failed > 1 else ''} without a result kept; --retry-failed runs them again")


def _describe(store: Store, plan: Plan, name: str, load: Callable[[str], Case], outcome: Outcome) -> None:
    """Write the pair's rows and pictures, once; a patient that cannot be read is refused."""
    refused = outcome.refused
    known = store.cell("pairs", name)
    source = plan.dataset.fingerprint(name) + plan.code_of_pairs().everything()
    described = known is not None and all(row["vertebra"] is not None for row in known["rows"])
    if known is not None and described and known["fingerprint"] == source and name not in refused:
        return  # one refused before is tried again
    rows: list[dict[str, Any]] = []
    try:
        if name not in refused:
            with spending(outcome.spent, "load"):
                case = read(load, name)
            with spending(outcome.spent, "evaluate"):
                rows = describe_pair(case)
                picture = pictures.of_case(case)
            pictures.save(store, [name], picture)
    except BadInput as error:
        refused[name] = str(error)
    if name in refused:
        _write_absent(store, plan, name, refused[name])
    else:
        store.write_cell("pairs", name, {"fingerprint": source, "rows": [{**_identity(plan, name), **r} for r in rows]})


def _write_absent(store: Store, plan: Plan, name: str, why: str) -> None:
    """In place of a patient's vertebrae one row that says why there are none."""
    row = _identity(plan, name) | {"vertebra": None, "excluded_reason": why}
    store.write_cell("pairs", name, {"fingerprint": "", "rows": [row]})


def _identity(plan: Plan, name: str) -> dict[str, Any]:
    return {"dataset": plan.dataset.name, "split": plan.config.dataset.split, "case": name}
