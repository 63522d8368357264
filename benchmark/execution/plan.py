"""The plan of a run: its dataset, cases and rows, and the cells that are missing."""

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
from benchmark.results.following import MADE_WITH
from benchmark.results.store import Store, safe
from methods.base import Case, Method
from methods.registry import DATASETS, METHODS, METRICS, PENALTIES, Entry, create_method

OnStale = Literal["redo", "keep", "fail"]
# What decides a cell's values: the parts of its fingerprint, in order.
FINGERPRINT_PARTS = ("settings", "weights or package", "data", "device or threads", "plugin", "libraries", "code")
RETRIED = ("failed", "timeout", "crashed", "invalid", "unavailable")


@dataclass(frozen=True)
class Task:
    """One cell.

    Attributes:
        fingerprint: of all that decides its values.
        display: whether reports draw its displacement field; true for one case of a run.
    """

    method: MethodConfig
    device: str
    case: str
    fingerprint: str
    display: bool = False

    @property
    def row(self) -> str:
        """`method@device`: the name of the cell's folder."""
        return f"{self.method.name}@{self.device}"


@dataclass(frozen=True)
class Plan:
    """A checked request.

    Attributes:
        cases: names of the cases to run, in order.
        left_out: patients that cannot be evaluated or have files of unknown names, and the cause in words.
    """

    config: RunConfig
    dataset: Dataset
    cases: Sequence[str]
    left_out: dict[str, str]

    @property
    def rows(self) -> list[str]:
        """The rows as `method@device`, in the order of the table."""
        return [f"{m.name}@{device}" for m, device in self._rows()]

    def tasks(self, usable: Sequence[str]) -> list[Task]:
        """The cells of these cases, row by row, so that a method's process serves consecutive cases."""
        display = usable[0] if usable else None
        libraries = environment.libraries()
        data = {case: self.dataset.fingerprint(case) for case in usable}
        tasks = []
        for m, device in self._rows():
            method = create_method(m.method, m.settings, m.name)
            c, code = self.config, self.code_of_cells(m, method)
            decisive = _settings_and_weights(c, m, method) | {
                "device or threads": [device, c.threads],
                "plugin": code.outside(), "libraries": libraries,
                "code": [code.project(), _factory_name(METHODS[m.method]), METHODS[m.method].oracle],
            }  # fmt: skip
            for case in usable:
                fingerprint = ".".join(_short_hash(decisive | {"data": data[case]}, part) for part in FINGERPRINT_PARTS)
                tasks.append(Task(m, device, case, fingerprint, case == display))
        return tasks

    def code_of_pairs(self) -> Code:
        """The code that decides the values of the pairs before registration."""
        return self._code_of_data() | fingerprint.measuring()

    def code_of_cells(self, m: MethodConfig, method: Method) -> Code:
        """The code that decides a row's values: of its method, the data, the worker, the metrics and plugins."""
        plugins = [p for p in self.config.plugins if _affects(p, m.method, self.config.dataset.name)]
        code = self._code_of_data() | fingerprint.running() | fingerprint.code_in(plugins)
        code |= _code_of(METHODS[m.method], type(method))
        for name in method.uses:
            code |= _code_of(METHODS[name]) if name in METHODS else Code()
        for column in METRICS:
            if column.package:
                code |= _code_of(column)
        return code

    def _code_of_data(self) -> Code:
        return _code_of(DATASETS[self.config.dataset.name], type(self.dataset))

    def _rows(self) -> list[tuple[MethodConfig, str]]:
        return [(m, device) for m in self.config.methods for device in map(str, self.config.devices)]


def settings_and_weights(config: RunConfig, m: MethodConfig) -> str:
    """The parts of a cell's fingerprint that say with which settings and weights a row of a run was made."""
    decisive = _settings_and_weights(config, m, create_method(m.method, m.settings, m.name))
    return ".".join(_short_hash(decisive, part) for part in FINGERPRINT_PARTS[:MADE_WITH])


def _settings_and_weights(config: RunConfig, m: MethodConfig, method: Method) -> dict[str, Any]:
    settings = [m.method, method.settings.model_dump_json(), config.repeats, config.seed_of(m)]
    return {"settings": settings, "weights or package": method.fingerprint()}


def _short_hash(decisive: Mapping[str, Any], part: str) -> str:
    return hashlib.sha256(json.dumps(decisive[part]).encode()).hexdigest()[:8]


def _factory_name(entry: Entry) -> str:
    """`module:attribute` of a built-in entry; empty for one of a plugin, whose file counts."""
    return entry.factory if isinstance(entry.factory, str) else ""


def _code_of(entry: Entry, *kinds: type) -> Code:
    return fingerprint.code_of(entry.load(), *kinds, package=entry.package)


def _affects(plugin: Path, method: str, dataset: str) -> bool:
    """Whether a plugin file can change the values of a row.

    It can where it registers the row's method, the dataset or a column, or registers nothing, since its effect is
    unknown then. It cannot where it registers only other methods, datasets or penalties.
    """
    origin = str(plugin.expanduser().resolve())
    if origin in (METHODS[method].origin, DATASETS[dataset].origin):
        return True
    if any(entry.origin == origin for entry in METRICS):
        return True
    return not any(entry.origin == origin for registry in (METHODS, DATASETS, PENALTIES) for entry in registry)


def changes(before: str, now: str) -> str:
    """The parts in which two fingerprints of a cell differ, in words."""
    old, new = before.split("."), now.split(".")
    if len(old) != len(new):
        return "rigidbench version"
    return ", ".join(part for part, a, b in zip(FINGERPRINT_PARTS, old, new, strict=True) if a != b)


def make_plan(config: RunConfig) -> Plan:
    """Check a configuration and plan its run. Nothing is written.

    Raises:
        BadInput: for the first part of the request that cannot be run.
    """
    check_names()
    dataset, cases = open_dataset(config)
    for m in config.methods:
        _check(m)
    left_out = dataset.left_out(config.dataset.split)
    for name in [*cases, *left_out]:
        safe(name)
    return Plan(config, dataset, cases, left_out)


def open_dataset(config: RunConfig) -> tuple[Dataset, list[str]]:
    """The dataset of a run and the names of its cases.

    Raises:
        BadInput: for settings that the dataset does not take, or a split without usable cases.
    """
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
    if not names and (left_out := dataset.left_out(config.dataset.split)):
        first, cause = next(iter(left_out.items()))
        raise BadInput(
            f"dataset {name}: expected cases in split {config.dataset.split!r} that can be evaluated, found none; "
            f"the first: {first}: {cause}"
        )
    if not names:
        raise BadInput(
            f"dataset {name}: expected cases in split {config.dataset.split!r}, found none; choose another split"
        )
    return dataset, names


def _check(m: MethodConfig) -> None:
    """Raise BadInput for a row whose method cannot be created."""
    safe(m.name)
    try:
        create_method(m.method, m.settings, m.name).fingerprint()
    except ValidationError as error:
        raise BadInput(f"method {m.name}: {explain(error, METHODS[m.method].load().Settings)}") from error
    except (ValueError, OSError, TypeError) as error:  # a file that the settings name; a plugin that is no Method
        raise BadInput(f"method {m.name}: {' '.join(str(error).split())}") from error


def reader(dataset: Dataset) -> Callable[[str], Case]:
    """A function that loads the cases of a dataset and keeps the last few in memory: every row uses the same cases."""
    return lru_cache(maxsize=8)(loader(dataset))


def refused_at_first(load: Callable[[str], Case], names: Sequence[str]) -> dict[str, str]:
    """The cases refused before the first usable one, with the cause in words.

    Raises:
        BadInput: where no case is usable.
    """
    refused: dict[str, str] = {}
    for name in names:
        try:
            load_checked(load, name)
            return refused
        except BadInput as error:
            refused[name] = str(error)
    if len(refused) == 1:
        raise BadInput(next(iter(refused.values())))
    raise BadInput(f"none of {len(refused)} patients is usable; the first: {next(iter(refused.values()))}")


def load_checked(load: Callable[[str], Case], name: str) -> Case:
    """Load a case and check that it can be evaluated.

    Raises:
        BadInput: where loading raises any error, or the fixed scan has no labels.
    """
    try:
        case = load(name)
    except BadInput:
        raise
    except Exception as error:
        raise BadInput(f"{name}: {type(error).__name__}: {' '.join(str(error).split())}") from error
    if case.pair.fixed.labels is None:
        raise BadInput(f"{name}: expected labels of the fixed scan, found none; leave the patient out")
    return case


def missing(store: Store, tasks: Sequence[Task], on_stale: OnStale, retry_failed: bool) -> list[Task]:
    """The cells that are to be run.

    Args:
        on_stale: what happens to cells with another fingerprint; `redo` runs them again.
        retry_failed: whether cells without a result are run again.

    Raises:
        BadInput: for the first cell with another fingerprint, where `on_stale` is `fail`.
    """
    selected = []
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
            selected.append(task)
    return selected


def outdated(store: Store, tasks: Sequence[Task]) -> dict[str, str]:
    """For each row with stale cells: their number and the parts of the fingerprint that changed, in words."""
    differences: dict[str, list[str]] = {}
    for task in tasks:
        cell = store.cell(task.row, task.case)
        if cell is not None and cell["case"]["fingerprint"] != task.fingerprint:
            differences.setdefault(task.row, []).append(changes(cell["case"]["fingerprint"], task.fingerprint))
    return {
        row: f"{len(parts)} made with other {'; '.join(dict.fromkeys(parts))}" for row, parts in differences.items()
    }


def timed_elsewhere(store: Store, tasks: Sequence[Task]) -> dict[str, str]:
    """For each row with a cell that was timed on another machine: the first such machine, in words."""
    machines: dict[str, str] = {}
    for task in tasks:
        cell = store.cell(task.row, task.case)
        machine = cell["case"].get("machine") if cell is not None else None
        if machine is not None and machine != environment.machine(task.device):
            machines.setdefault(task.row, machine)
    return machines
