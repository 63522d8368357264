"""A run: the missing cells are run, and each is stored as soon as it is finished."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

from benchmark import environment
from benchmark.config import RunConfig
from benchmark.errors import BadInput, Stopped
from benchmark.evaluation import describe_pair
from benchmark.execution.cell import FinishedCell, is_disturbed, timed
from benchmark.execution.local import run_local
from benchmark.execution.plan import (
    OnStale,
    Plan,
    Task,
    load_checked,
    make_plan,
    missing,
    outdated,
    reader,
    refused_at_first,
    timed_elsewhere,
)
from benchmark.execution.same_data import check_same_data
from benchmark.results import fields, pictures
from benchmark.results.lock import check_free, locked
from benchmark.results.scans import FIXED, MOVING
from benchmark.results.store import Store
from methods.base import Case
from methods.registry import plugins as registered_plugins

Engine = Literal["local", "dask"]


class Progress(Protocol):
    """Receives the progress of a run."""

    def plan(self, cells: int, finished: int) -> None:
        """The run has `cells` cells, of which `finished` are kept from before."""

    def started(self, row: str, case: str) -> None:
        """A cell starts."""

    def finished(self, row: str, case: str, status: str, message: str) -> None:
        """A cell has a status. message: the cause of a failure, or a doubt about its time; else empty."""

    def notice(self, line: str) -> None:
        """Receive a line for the user, such as a warning."""


@dataclass(frozen=True)
class RunOptions:
    """Options of a run that do not change the values of a cell.

    Attributes:
        on_stale: what happens to a finished cell whose method, weights, settings, data, libraries or code have
            changed: `redo`, `keep` or `fail`.
        retry_failed: whether cells without a result are run again.
        jobs: number of cells that run at the same time.
        engine: `local`, or `dask` for a cluster.
        scheduler: address of the cluster; empty for one on this machine with `jobs` workers.
        ahead: as in `run_local`.
    """

    on_stale: OnStale = "redo"
    retry_failed: bool = False
    jobs: int = 1
    engine: Engine = "local"
    scheduler: str = ""
    ahead: bool = True


@dataclass
class Outcome:
    """How a run ended.

    Attributes:
        refused: cases that could not be used, and the cause in words.
        statuses: of every cell of the run.
        left_out: patients that the dataset does not use, and the cause in words.
        notes: cases that are used with doubt, and the doubts in words.
        seconds: time by part, as in `FinishedCell`.
        wall_seconds: of the whole run.
    """

    folder: Path
    refused: dict[str, str] = field(default_factory=dict)
    statuses: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    wall_seconds: float = 0.0

    @property
    def exit_status(self) -> int:
        """0 where every cell is `ok` or `unavailable` and no case was refused, else 1."""
        return int(bool(self.refused) or any(s not in ("ok", "unavailable") for s in self.statuses))


def run(config: RunConfig, out: Path, progress: Progress, options: RunOptions | None = None) -> Outcome:
    """Run the cells that are missing in the folder `out`, and write its tables.

    Raises:
        BadInput: where the request is wrong, no case is usable, or another process runs in `out`; nothing is written
            then.
        Stopped: where a file cannot be written, or the cluster is lost.
    """
    options = options or RunOptions()
    start = time.perf_counter()
    plan = make_plan(config)
    check_same_data(out, config)
    check_free(out)  # first, since loading cases takes time
    outcome = Outcome(out, left_out=plan.left_out)
    load = reader(plan.dataset)
    with timed(outcome.seconds, "load"):
        outcome.refused = refused_at_first(load, plan.cases)
    store = Store(out)
    with locked(out):
        _write_first_files(store, config)
        for case in plan.cases:
            _describe(store, plan, case, load, outcome)
        for case, cause in plan.left_out.items():
            _write_absent(store, plan, case, cause)
        tasks = plan.tasks([case for case in plan.cases if case not in outcome.refused])
        todo = missing(store, tasks, options.on_stale, options.retry_failed)
        _notice_stored(store, plan, tasks, todo, options, progress)
        progress.plan(len(tasks), len(tasks) - len(todo))
        _run_cells(store, plan, todo, _cells(config, todo, load, progress, options), outcome, progress)
        cells = [store.cell(task.row, task.case) for task in tasks]
        outcome.statuses = [c["case"]["status"] for c in cells if c is not None]
    outcome.wall_seconds = time.perf_counter() - start
    return outcome


def _write_first_files(store: Store, config: RunConfig) -> None:
    """Write configuration and environment. A folder that cannot be written is a wrong request: no cell has run."""
    try:
        store.clean()
        store.write_text("config.yaml", config.to_yaml())
        described = environment.describe() | {"plugins": registered_plugins()}
        store.write_text("environment.json", json.dumps(described, indent=1))
    except (Stopped, OSError) as error:
        raise BadInput(f"--out {store.folder}: expected a folder to write into; {error}") from error


def _cells(
    config: RunConfig, todo: Sequence[Task], load: Callable[[str], Case], progress: Progress, options: RunOptions
) -> Generator[FinishedCell, None, None]:
    """The cells as they finish, from this machine or the cluster."""

    def started(task: Task) -> None:
        progress.started(task.row, task.case)

    if options.engine == "dask" and todo:
        from benchmark.execution.dask import run_on_cluster

        return run_on_cluster(config, todo, options.scheduler, options.jobs, started)
    return run_local(config, todo, options.jobs, load, started, options.ahead)


def _run_cells(
    store: Store, plan: Plan, todo: Sequence[Task], cells: Generator[FinishedCell, None, None], outcome: Outcome,
    progress: Progress,
) -> None:  # fmt: skip
    """Store cells as they finish, and write the tables after each row and at the end."""
    cases = [*plan.cases, *plan.left_out]
    remaining = {row: sum(task.row == row for task in todo) for row in plan.rows}
    with closing(cells):
        for cell in cells:
            for row, log in cell.logs.items():
                store.append_log(row, log)
            if not cell.content:
                continue
            task = cell.task
            _store_cell(store, cell)
            for part, seconds in cell.seconds.items():
                outcome.seconds[part] = outcome.seconds.get(part, 0.0) + seconds
            progress.finished(task.row, task.case, cell.content["case"]["status"], _message(cell))
            remaining[task.row] -= 1
            if not remaining[task.row]:
                store.write_tables(plan.rows, cases)
    store.write_tables(plan.rows, cases)


def _store_cell(store: Store, cell: FinishedCell) -> None:
    """Write a cell's picture and field, and its own file last: a cell counts as finished when that file exists."""
    task = cell.task
    # Of an earlier result of the same cell.
    (store.folder / "pictures" / task.row / f"{task.case}.npz").unlink(missing_ok=True)
    fields.remove_fields(store.folder / "fields" / task.row, task.case)
    if cell.picture is not None:
        pictures.save(store, [task.row, task.case], cell.picture)
    if cell.registration is not None:
        is_learn2reg = cell.content["case"]["dataset"] == "learn2reg"
        folder = store.path("fields", task.row, f"{task.case}.nii.gz").parent
        try:
            fields.write_fields(folder, task.case, *cell.registration, learn2reg=is_learn2reg)
        except BadInput as error:
            raise Stopped(f"{error}; finished cells are kept in {store.folder}") from error
    store.write_cell(task.row, task.case, cell.content)


def _message(finished: FinishedCell) -> str:
    """Why a cell has no result, or why its time is doubtful: more threads than given, or other work; else empty."""
    cell = finished.content["case"]
    observed, given = cell.get("threads_observed") or 0.0, cell.get("threads") or 0
    # A call of a few milliseconds is too short to count processors.
    if cell["error"] is None and (cell.get("seconds") or 0.0) > 0.05 and observed > 1.2 * given + 0.2:
        return f"kept {observed:.1f} processors busy with {given} thread{'s' if given > 1 else ''} given"
    if cell["error"] is None and is_disturbed(cell):
        return f"time not counted: other work used {cell['busy_elsewhere']:.1f} processors"
    return cell["error"] or ""


def _notice_stored(
    store: Store, plan: Plan, tasks: Sequence[Task], todo: Sequence[Task], options: RunOptions, progress: Progress
) -> None:
    """Tell the user about stored cells that are stale, of other rows, of another machine or without a result."""
    for row, cause in outdated(store, tasks).items():
        progress.notice(f"{row}: {cause}: {'kept' if options.on_stale == 'keep' else 'run again'}")
    other_rows = sorted(store.rows() - set(plan.rows))
    if other_rows:
        progress.notice(f"{store.folder} also holds {', '.join(other_rows)}, which this run does not report")
    kept = [task for task in tasks if task not in todo]
    for row, machine in timed_elsewhere(store, kept).items():
        progress.notice(f"{row}: kept cells were timed on another machine ({machine}); times are not comparable")
    # The file of a cell may have been deleted in the meantime.
    cells = [cell for task in kept if (cell := store.cell(task.row, task.case)) is not None]
    failed = sum(cell["case"]["status"] not in ("ok", "unavailable") for cell in cells)
    if failed:
        progress.notice(
            f"{failed} cell{'s' if failed > 1 else ''} without a result kept; --retry-failed runs them again"
        )


def _describe(store: Store, plan: Plan, name: str, load: Callable[[str], Case], outcome: Outcome) -> None:
    """Write the values and the picture of a pair, unless they are stored already. Refuses an unusable case."""
    refused = outcome.refused
    stored = store.cell("pairs", name)
    fingerprint = plan.dataset.fingerprint(name) + plan.code_of_pairs().everything()
    # A case that was refused before has a line without vertebra, and is tried again.
    described = stored is not None and all(row["vertebra"] is not None for row in stored["rows"])
    if stored is not None and described and stored["fingerprint"] == fingerprint and name not in refused:
        _keep_notes(outcome, name, stored["rows"])
        return
    rows: list[dict[str, Any]] = []
    try:
        if name not in refused:
            with timed(outcome.seconds, "load"):
                case, group = load_checked(load, name), plan.dataset.group(name)
            with timed(outcome.seconds, "evaluate"):
                rows = describe_pair(case)
                picture = pictures.of_case(case)
            pictures.save(store, [name], picture)
    except BadInput as error:
        refused[name] = str(error)
    if name in refused:
        _write_absent(store, plan, name, refused[name])
        return
    about = {
        "group": group, "notes": "; ".join(case.notes) or None,
        FIXED: case.pair.fixed.modality, MOVING: case.pair.moving.modality,
    }  # fmt: skip
    rows = [{**_identity(plan, name), **row, **about} for row in rows]
    _keep_notes(outcome, name, rows)
    store.write_cell("pairs", name, {"fingerprint": fingerprint, "rows": rows})


def _keep_notes(outcome: Outcome, name: str, rows: Sequence[dict[str, Any]]) -> None:
    """Add the doubts in a pair's lines to the outcome."""
    if rows and (notes := rows[0].get("notes")):
        outcome.notes[name] = notes


def _write_absent(store: Store, plan: Plan, name: str, cause: str) -> None:
    """Write one line without vertebra for a case that is refused or left out, with the cause."""
    row = _identity(plan, name) | {"vertebra": None, "excluded_reason": cause}
    store.write_cell("pairs", name, {"fingerprint": "", "rows": [row]})


def _identity(plan: Plan, name: str) -> dict[str, Any]:
    return {"dataset": plan.dataset.name, "split": plan.config.dataset.split, "case": name}
