"""What a run is to do: its dataset, its patients, its rows, and which of their cells are missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from benchmark import environment, fingerprint
from benchmark.config import MethodConfig, RunConfig, explain
from benchmark.datasets.base import Dataset
from benchmark.datasets.cache import loader
from benchmark.errors import BadInput
from benchmark.fingerprint import Code
from benchmark.results.columns import check_names
from benchmark.results.store import Store, safe
from methods.base import Case, Method
from methods.registry import DATASETS, METHODS, METRICS, PENALTIES, Entry, create_method

OnStale = Literal["redo", "keep", "fail"]
# The parts of a cell's fingerprint, in order.
MADE_FROM = ("settings", "weights or package", "data", "device or threads", "plugin", "libraries", "code")
RETRIED = ("failed", "timeout", "crashed", "invalid", "unavailable")


@dataclass(frozen=True)
class Task:
    """One cell to be run. display: the case of which the reports draw the field too."""

    method: MethodConfig
    device: str
    case: str
    fingerprint: str
    display: bool = False

    @property
    def row(self) -> str:
        return f"{self.method.name}@{self.device}"


@dataclass(frozen=True)
class Plan:
    """A checked request. cases: of the split, in order; left_out: those that cannot be measured, and why."""

    config: RunConfig
    dataset: Dataset
    cases: Sequence[str]
    left_out: dict[str, str]

    @property
    def rows(self) -> list[str]:
        return [f"{m.name}@{device}" for m, device in self._rows()]

    def tasks(self, usable: Sequence[str]) -> list[Task]:
        """Every cell of these cases, row by row: a method's process serves one case after the other."""
        display = usable[0] if usable else None
        libraries = environment.libraries()
        data = {case: self.dataset.fingerprint(case) for case in usable}
        tasks = []
        for m, device in self._rows():
            method = create_method(m.method, m.settings, m.name)
            c, code = self.config, self.code_of_cells(m, method)
            made = {
                "settings": [m.method, method.settings.model_dump_json(), c.repeats, c.seed_of(m)],
                "weights or package": method.fingerprint(), "device or threads": [device, c.threads],
                "plugin": code.outside(), "libraries": libraries, "code": [code.project(), _place(METHODS[m.method])],
            }  # fmt: skip
            for case in usable:
                fingerprint = ".".join(_short(made | {"data": data[case]}, part) for part in MADE_FROM)
                tasks.append(Task(m, device, case, fingerprint, case == display))
        return tasks

    def code_of_pairs(self) -> Code:
        """What code decides what is measured of the pairs before any registration."""
        return self._code_of_data() | fingerprint.measuring()

    def code_of_cells(self, m: MethodConfig, method: Method) -> Code:
        """What code decides a row's figures: of its method, the data, the worker, the metrics and the plugins."""
        plugins = [p for p in self.config.plugins if _decides(p, m.method, self.config.dataset.name)]
        code = self._code_of_data() | fingerprint.running() | fingerprint.code_in(plugins)
        code |= _code_of(METHODS[m.method], type(method))
        for column in METRICS:
            if column.package:
                code |= _code_of(column)
        return code

    def _code_of_data(self) -> Code:
        return _code_of(DATASETS[self.config.dataset.name], type(self.dataset))

    def _rows(self) -> list[tuple[MethodConfig, str]]:
        return [(m, device) for m in self.config.methods for device in map(str, self.config.devices)]


def _short(made: Mapping[str, Any], part: str) -> str:
    return hashlib.sha256(json.dumps(made[part]).encode()).hexdigest()[:8]


def _place(entry: Entry) -> str:
    """Which factory of its module the catalogue names; nothing for a plugin's, whose file counts."""
    return entry.factory if isinstance(entry.factory, str) else ""


def _code_of(entry: Entry, *kinds: type) -> Code:
    return fingerprint.code_of(entry.load(), *kinds, package=entry.package)


def _decides(plugin: Path, method: str, dataset: str) -> bool:
    """Whether a plugin file has a part in a row's figures: its method, the data or a column. What registers nothing
    here may do anything, and counts; one that has other rows or a penalty alone does not."""
    origin = str(plugin.expanduser().resolve())
    others = [e for registry in (METHODS, DATASETS, PENALTIES) for e in registry if e.origin == origin]
    columns = [e for e in METRICS if e.origin == origin]
    mine = METHODS[method].origin == origin or DATASETS[dataset].origin == origin
    return mine or bool(columns) or not others


def changes(before: str, now: str) -> str:
    """In words, what two fingerprints of a cell differ in."""
    old, new = before.split("."), now.split(".")
    if len(old) != len(new):
        return "rigidbench version"
    return ", ".join(part for part, a, b in zip(MADE_FROM, old, new, strict=True) if a != b)


def make_plan(config: RunConfig) -> Plan:
    """Check what a configuration asks for. Raises BadInput, one line, for what cannot be run; nothing is written."""
    check_names()
    dataset, cases = open_dataset(config)
    for m in config.methods:
        _check(m)
    left_out = dataset.left_out(config.dataset.split)
    for name in [*cases, *left_out]:
        safe(name)
    return Plan(config, dataset, cases, left_out)


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


def _check(m: MethodConfig) -> None:
    safe(m.name)
    try:
        create_method(m.method, m.settings, m.name).fingerprint()
    except ValidationError as error:
        raise BadInput(f"method {m.name}: {explain(error, METHODS[m.method].load().Settings)}") from error
    except (ValueError, OSError, TypeError) as error:  # a file that the settings name; a plugin that is no Method
        raise BadInput(f"method {m.name}: {' '.join(str(error).split())}") from error


def reader(dataset: Dataset) -> Callable[[str], Case]:
    """The cases of a dataset, the last few held: rows go over the same ones."""
    return lru_cache(maxsize=8)(loader(dataset))


def refused_at_first(load: Callable[[str], Case], names: Sequence[str]) -> dict[str, str]:
    """The patients refused before the first usable one. Raises BadInput where there is none."""
    refused: dict[str, str] = {}
    for name in names:
        try:
            read(load, name)
            return refused
        except BadInput as error:
            refused[name] = str(error)
    if len(refused) == 1:
        raise BadInput(next(iter(refused.values())))
    raise BadInput(f"none of {len(refused)} patients is usable; the first: {next(iter(refused.values()))}")


def read(load: Callable[[str], Case], name: str) -> Case:
    """The case. Raises BadInput for one that cannot be read, whatever its reader raises, or cannot be measured."""
    try:
        case = load(name)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if case.pair.fixed.labels is None:
        raise BadInput(f"{name}: no labels of the fixed scan, so that nothing can be measured; leave the patient out")
    return case


def missing(store: Store, tasks: Sequence[Task], on_stale: OnStale, retry_failed: bool) -> list[Task]:
    """The cells to run: absent ones; by `on_stale` those made from something else than is asked for now; and with
    `retry_failed` those that gave no result.
    """
    found = []
    for task in tasks:
        cell = store.cell(task.row, task.case)
        stale = cell is not None and cell["case"]["fingerprint"] != task.fingerprint
        if cell is not None and stale and on_stale == "fail":
            other = changes(cell["case"]["fingerprint"], task.fingerprint)
            raise BadInput(
                f"{store.folder}: {task.row} on {task.case} was made with other {other}; choose --on-stale redo or "
                "keep, or another --out"
            )
        failed = cell is not None and cell["case"]["status"] in RETRIED
        if cell is None or (stale and on_stale == "redo") or (failed and retry_failed):
            found.append(task)
    return found


def outdated(store: Store, tasks: Sequence[Task]) -> dict[str, str]:
    """Row -> in words, how many of its cells were made from something else than is asked for now, and from what."""
    found: dict[str, list[str]] = {}
    for task in tasks:
        cell = store.cell(task.row, task.case)
        if cell is not None and cell["case"]["fingerprint"] != task.fingerprint:
            found.setdefault(task.row, []).append(changes(cell["case"]["fingerprint"], task.fingerprint))
    return {row: f"{len(why)} made with other {'; '.join(dict.fromkeys(why))}" for row, why in found.items()}


def elsewhere(store: Store, tasks: Sequence[Task]) -> dict[str, str]:
    """Row -> another machine that a cell which is kept was timed on."""
    found: dict[str, Any] = {}
    for task in tasks:
        cell = store.cell(task.row, task.case)
        machine = cell["case"].get("machine") if cell is not None else None
        if machine is not None and machine != environment.machine(task.device):
            found.setdefault(task.row, machine)
    return found
