"""Runs every missing cell of a run: one row after the other, each in a process of its own, each cell kept at once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Protocol

from pydantic import ValidationError

from benchmark import environment, pictures
from benchmark.config import MethodConfig, RunConfig, explain
from benchmark.datasets.base import Dataset
from benchmark.errors import BadInput
from benchmark.evaluation import describe_pair, evaluate
from benchmark.store import Store
from benchmark.worker import CellError, Job, Worker
from methods.base import Case, Registration
from methods.registry import DATASETS, METHODS, create_method
from metrics.timing import Timing

OnStale = Literal["redo", "keep", "fail"]
SOURCES = ("metrics", "methods", "benchmark/datasets", "benchmark/evaluation.py", "benchmark/worker.py")


class Progress(Protocol):
    """Whoever wants to show how far a run is. `cell` is called before and `done` after every cell to be run."""

    def plan(self, cells: int, finished: int) -> None: ...
    def cell(self, row: str, case: str) -> None: ...
    def done(self, row: str, case: str, status: str, message: str) -> None: ...


@dataclass
class Outcome:
    """How a run ended. refused: patient -> why it could not be used. statuses: of every cell of the run.

    left_out: patients that are as they should be but cannot be measured, and why.
    """

    folder: Path
    refused: dict[str, str] = field(default_factory=dict)
    statuses: list[str] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)

    @property
    def exit_status(self) -> int:
        """0: every cell ok or unavailable, nobody refused. 1: otherwise."""
        return int(bool(self.refused) or any(s not in ("ok", "unavailable") for s in self.statuses))


def run(config: RunConfig, out: Path, progress: Progress, on_stale: OnStale = "redo") -> Outcome:
    """Run what is missing in the folder `out` and rewrite its tables.

    on_stale: what becomes of a finished cell whose method, weights, settings, data or code have changed since.
    Raises BadInput, before anything is written, where the request is wrong or no patient is usable.
    """
    dataset, names = open_dataset(config)
    load = lru_cache(maxsize=8)(dataset.load)
    methods = {m.name: _checked(m) for m in config.methods}
    refused = _refuse_all_or_go_on(load, names)
    store = Store(out)
    store.write_text("config.yaml", config.to_yaml())
    store.write_text("environment.json", json.dumps(environment.describe(), indent=1))
    outcome = Outcome(out, refused, left_out=dataset.left_out(config.dataset.split))
    for case in names:
        _describe(store, config, dataset, case, load, refused)
    for case, why in outcome.left_out.items():
        _write_absent(store, config, dataset, case, why)
    listed = [*names, *outcome.left_out]
    usable = [case for case in names if case not in refused]
    rows = [(m, device) for m in config.methods for device in map(str, config.devices)]
    prints = {
        (m.name, device, case): _fingerprint(config, m, methods[m.name], device, dataset, case)
        for m, device in rows for case in usable
    }  # fmt: skip
    missing = _missing(store, prints, on_stale)
    progress.plan(len(prints), len(prints) - len(missing))
    for m, device in rows:
        todo = [case for case in usable if (m.name, device, case) in missing]
        if todo:
            _run_row(store, config, m, device, todo, names, load, prints, progress)
            store.write_tables(_row_names(rows), listed)
    store.write_tables(_row_names(rows), listed)
    cells = [store.cell(f"{m.name}@{device}", case) for m, device in rows for case in usable]
    outcome.statuses = [c["case"]["status"] for c in cells if c is not None]
    return outcome


def open_dataset(config: RunConfig) -> tuple[Dataset, list[str]]:
    """The dataset of a run and its cases. Raises BadInput for settings it does not take, or without a case."""
    name = config.dataset.name
    try:
        dataset: Dataset = DATASETS.create(name, config.dataset.settings)
    except ValidationError as error:
        raise BadInput(f"dataset {name}: {explain(error, DATASETS[name].load().Settings)}") from error
    try:
        names = dataset.cases(config.dataset.split)[: config.dataset.limit]
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"dataset {name}: {error}") from error
    if not names and (left := dataset.left_out(config.dataset.split)):
        first, why = next(iter(left.items()))
        raise BadInput(
            f"dataset {name}: expected cases in split {config.dataset.split!r} to measure, found only such as {first}: "
            f"{why}"
        )
    if not names:
        raise BadInput(f"dataset {name}: expected cases in split {config.dataset.split!r}, found none")
    return dataset, names


def _checked(m: MethodConfig) -> Any:
    try:
        return create_method(m.method, m.settings, m.name)
    except ValidationError as error:
        raise BadInput(f"method {m.name}: {explain(error, METHODS[m.method].load().Settings)}") from error
    except (ValueError, OSError) as error:  # a file that the settings name
        raise BadInput(f"method {m.name}: {' '.join(str(error).split())}") from error


def _refuse_all_or_go_on(load: Callable[[str], Case], names: Sequence[str]) -> dict[str, str]:
    """The patients refused before the first usable one. Raises BadInput where there is none."""
    refused: dict[str, str] = {}
    for name in names:
        try:
            _evaluable(load(name), name)
            return refused
        except BadInput as error:
            refused[name] = str(error)
    if len(refused) == 1:
        raise BadInput(next(iter(refused.values())))
    raise BadInput(f"none of {len(refused)} patients is usable; the first: {next(iter(refused.values()))}")


def _evaluable(case: Case, name: str) -> None:
    if case.pair.fixed.labels is None:
        raise BadInput(f"{name}: no labels of the fixed scan, so that nothing can be measured; leave the patient out")


def _describe(
    store: Store, config: RunConfig, dataset: Dataset, name: str, load: Callable[[str], Case], refused: dict[str, str]
) -> None:
    """Write the pair's rows and pictures, once; a patient that cannot be read is refused."""
    identity = {"dataset": dataset.name, "split": config.dataset.split, "case": name}
    known = store.cell("pairs", name)
    source = dataset.fingerprint(name) + environment.code_hash(*SOURCES)
    described = known is not None and all(row["vertebra"] is not None for row in known["rows"])
    if known is not None and described and known["fingerprint"] == source and name not in refused:
        return  # one refused before is tried again
    rows: list[dict[str, Any]] = []
    try:
        if name not in refused:
            case = load(name)
            _evaluable(case, name)
            rows = describe_pair(case)
            pictures.save_case(store, case, name)
    except BadInput as error:
        refused[name] = str(error)
    if name in refused:
        _write_absent(store, config, dataset, name, refused[name])
    else:
        store.write_cell("pairs", name, {"fingerprint": source, "rows": [{**identity, **r} for r in rows]})


def _write_absent(store: Store, config: RunConfig, dataset: Dataset, name: str, why: str) -> None:
    """In place of a patient's vertebrae one row that says why there are none."""
    identity = {"dataset": dataset.name, "split": config.dataset.split, "case": name}
    store.write_cell(
        "pairs", name, {"fingerprint": "", "rows": [{**identity, "vertebra": None, "excluded_reason": why}]}
    )


def _run_row(
    store: Store, config: RunConfig, m: MethodConfig, device: str, todo: Sequence[str], names: Sequence[str],
    load: Callable[[str], Case], prints: dict[tuple[str, str, str], str], progress: Progress,
) -> None:  # fmt: skip
    """Run one method on one device on the cases of `todo`, in as many processes as it takes."""
    row = f"{m.name}@{device}"
    job = Job(m.method, m.settings, device, config.threads, config.seed, config.repeats,
              tuple(str(p) for p in config.plugins), m.name)  # fmt: skip
    kind = METHODS[m.method].load()
    worker: Worker | None = None
    log = ""
    try:
        for name in todo:
            progress.cell(row, name)
            case = load(name)
            cell: dict[str, Any] = {
                "dataset": config.dataset.name, "split": config.dataset.split, "case": name, "method": m.name,
                "device": device, "seed": config.seed, "fingerprint": prints[m.name, device, name],
                "contended": False, "threads": config.threads, "error": None,
            }  # fmt: skip
            vertebrae: list[dict[str, Any]] = []
            try:
                if worker is None:
                    worker = Worker(job, config.time_limit_s)
                token = name if kind.knows_case else f"pair-{names.index(name):03d}"
                registration, timing = worker.register(case.pair.blind(token))
                cell |= {"status": "ok", "prepare_seconds": worker.ready.prepare_seconds, **_clock(timing)}
                figures, vertebrae, warped = evaluate(case, registration)
                cell |= {**figures, "notes": dict(registration.notes)}
                _keep(store, config, case, name, row, warped, registration, name == names[0])
            except CellError as error:
                cell |= {"status": error.status, "error": str(error)}
            identity = {k: cell[k] for k in ("dataset", "split", "case", "method", "device", "seed")}
            notes = cell.pop("notes", {})
            store.write_cell(
                row, name, {"case": cell, "vertebrae": [{**identity, **v} for v in vertebrae], "notes": notes}
            )
            progress.done(row, name, cell["status"], cell["error"] or "")
            if worker is not None and (kind.fresh_process or not worker.alive):
                log += worker.close()
                worker = None
    finally:
        if worker is not None:
            log += worker.close()
        if log:
            with store.path("logs", f"{row}.log").open("a", encoding="utf-8") as file:
                file.write(log)


def _keep(
    store: Store, config: RunConfig, case: Case, name: str, row: str, warped: Any, registration: Registration,
    display: bool,
) -> None:  # fmt: skip
    pictures.save_cell(store, case, name, row, warped, registration, display)
    if config.save_fields:
        from benchmark.datasets.files import write_displacement

        write_displacement(store.path("fields", row, f"{name}.nii.gz"), registration.displacement_mm, case.pair.grid)


def _clock(timing: Timing) -> dict[str, Any]:
    values = asdict(timing)
    values["seconds_spread"] = values.pop("spread")
    values["threads_observed"] = values.pop("busy_threads")
    return values


def _row_names(rows: Sequence[tuple[MethodConfig, str]]) -> list[str]:
    return [f"{m.name}@{device}" for m, device in rows]


def _missing(store: Store, prints: dict[tuple[str, str, str], str], on_stale: OnStale) -> set[tuple[str, str, str]]:
    """The cells to run: absent ones, and by `on_stale` those made from something else than what is asked for now."""
    missing = set()
    for (name, device, case), fingerprint in prints.items():
        cell = store.cell(f"{name}@{device}", case)
        stale = cell is not None and cell["case"]["fingerprint"] != fingerprint
        if stale and on_stale == "fail":
            raise BadInput(
                f"{store.folder}: {name}@{device} on {case} was made with other settings, weights, data or code; "
                "choose --on-stale redo or keep, or another --out"
            )
        if cell is None or (stale and on_stale == "redo"):
            missing.add((name, device, case))
    return missing


def _fingerprint(config: RunConfig, m: MethodConfig, method: Any, device: str, dataset: Dataset, case: str) -> str:
    """A hash of all that decides a cell: method, settings, weights, where and how it ran, data, code, added metrics."""
    parts = [
        m.method, method.settings.model_dump_json(), method.fingerprint(), device, config.threads, config.repeats,
        config.seed, dataset.fingerprint(case), environment.code_hash(*SOURCES),
        *(Path(p).read_text(encoding="utf-8") for p in config.plugins),
    ]  # fmt: skip
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]
