"""Registries: methods, datasets, metrics (table columns) and penalties (loss terms), each found by name.

The four kinds register the same way: built in, from an installed package's entry point (`rigidbench.methods`,
`.datasets`, `.metrics`, `.penalties`), or from a file given with `--plugin`. An entry is a name, a factory (an object,
or `module:attribute`, imported on first use) and settings.

Each registry names the module that registers its built-in entries, and imports it when the registry is first searched.
Some of these modules belong to a layer above this one. Their names appear here as strings only, so that no import runs
upward.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from methods.base import Method
from methods.columns import Column

BUILT_IN = "built in"
PACKAGE = "package "  # the start of the origin of an installed package's entries


class UnknownName(ValueError):
    """No entry is registered under this name."""


@dataclass(frozen=True)
class Entry:
    """One registered name.

    Attributes:
        origin: `built in`, a package or a plugin file, for `list` and for the run's record.
        oracle: of a method: whether it sees the fixed labels, as a reference that no ranking includes.
    """

    name: str
    factory: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = BUILT_IN
    summary: str = ""
    oracle: bool = False

    @property
    def package(self) -> str:
        """The installed package that registered it, or nothing."""
        return self.origin.removeprefix(PACKAGE) if self.origin.startswith(PACKAGE) else ""

    def load(self) -> Any:
        """The factory itself, imported if it was given as `module:attribute`."""
        if not isinstance(self.factory, str):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry:
    """Entries of one kind: the built-in ones first, then the others in the order in which they were added.

    Args:
        kind: what an entry is, for messages.
        group: the entry points' group of installed packages.
        module: the module that registers the built-in entries; empty where there are none.
    """

    def __init__(self, kind: str, group: str, module: str = "") -> None:
        self.kind, self.group, self.module = kind, group, module
        self._built_in: dict[str, Entry] = {}
        self._added: dict[str, Entry] = {}
        self._imported = self._searched = False

    def add(
        self, name: str, factory: Any, settings: Mapping[str, Any] | None = None, summary: str = "",
        oracle: bool = False,
    ) -> None:  # fmt: skip
        """Register a factory under a name.

        A plugin may register while the built-in entries are not imported yet. Its names are then compared with
        theirs when the registry is first searched.

        Args:
            name: the name. The same origin may register it again, which replaces the entry.
            factory: an object, or `module:attribute`.
            settings: keyword arguments of the factory, for `create`.
            summary: one line for `list`.
            oracle: of a method: whether `run` shows it the fixed labels. Reports print such a row in brackets, and no
                ranking, claim or statistic includes it.

        Raises:
            ValueError: another origin has registered the name, or `oracle` is said of something else than a method.
        """
        if oracle and self.kind != "method":
            raise ValueError(f"{self.kind} {name!r}: oracle: expected False, got True; only a method can be an oracle")
        # A plugin that imports the built-in module does not become the origin of the entries in it.
        built_in = _current_origin == BUILT_IN or getattr(factory, "__module__", None) == self.module
        origin = BUILT_IN if built_in else _current_origin
        known = self._built_in.get(name) or (None if built_in else self._added.get(name))
        if known is not None and known.origin != origin:
            raise ValueError(self._taken(name, known.origin))
        entries = self._built_in if built_in else self._added
        entries[name] = Entry(name, factory, dict(settings or {}), origin, summary, oracle)

    def register(self, name: str, summary: str = "", oracle: bool = False, **settings: Any) -> Callable[[Any], Any]:
        """Decorator form of `add`, for a class or a function. The default summary is its docstring's first line."""

        def add(factory: Any) -> Any:
            self.add(name, factory, settings, summary or (factory.__doc__ or "").strip().split("\n")[0], oracle)
            return factory

        return add

    def __getitem__(self, name: str) -> Entry:
        entries = self._search()
        if name not in entries:
            near = difflib.get_close_matches(name, entries, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; is a --plugin missing?"
            raise UnknownName(f"unknown {self.kind} {name!r}{hint} Known: {', '.join(entries)}")
        return entries[name]

    def __contains__(self, name: object) -> bool:
        return name in self._search()

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._search().values())

    def create(self, name: str, settings: Mapping[str, Any] | None = None, row: str = "") -> Any:
        """An instance of an entry: `factory(row or name, **settings)`. `settings` override the entry's own."""
        entry = self[name]
        return entry.load()(row or name, **{**entry.settings, **(settings or {})})

    def _search(self) -> dict[str, Entry]:
        """All entries by name: the built-in ones, those of installed packages and those of plugin files."""
        self._import_built_in()
        if not self._searched:
            for point in entry_points(group=self.group):
                self._add_package(point)
            self._searched = True
        return {**self._built_in, **self._added}

    def check_names(self, origin: str) -> None:
        """Raise ValueError if `origin` has registered the name of a built-in entry."""
        if any(entry.origin == origin for entry in self._added.values()):
            self._import_built_in()

    def _import_built_in(self) -> None:
        """Import the built-in entries. Raises ValueError, and drops the entry, if a plugin has taken one's name."""
        if self._imported:
            return
        if self.module:
            with origin_of(BUILT_IN):
                importlib.import_module(self.module)
        self._imported = True
        taken = [self._added.pop(name) for name in self._built_in if name in self._added]
        if taken:
            raise ValueError(f"{taken[0].origin}: {self._taken(taken[0].name, BUILT_IN)}")

    def _add_package(self, point: EntryPoint) -> None:
        package = f"{PACKAGE}{point.dist.name if point.dist else point.value}"
        with origin_of(package):
            try:
                factory = point.load()  # a decorated factory registers itself, with its settings
                if point.name not in self._built_in and point.name not in self._added:
                    self.add(point.name, factory)
            except (ImportError, AttributeError, ValueError) as error:
                raise ValueError(f"{package}: expected {self.kind} {point.name!r} at {point.value}, got {error}; "
                                 "correct or uninstall the package") from error  # fmt: skip

    def _taken(self, name: str, origin: str) -> str:
        return f"{self.kind} {name!r} is already registered ({origin}); choose another name"


class MetricRegistry(Registry):
    """Metrics. Each declares the table column that it fills.

    `register` takes, besides the name, either `column`, a complete `Column`, or the fields of one as keywords: `per`
    (required), `dtype`, `unit`, `title`, `better` and `description`. By default the title is the name, and the
    description is the docstring's first line.
    """

    def add(
        self, name: str, factory: Any, settings: Mapping[str, Any] | None = None, summary: str = "",
        oracle: bool = False,
    ) -> None:  # fmt: skip
        """Register a metric: a function of one `benchmark.evaluation.Evaluation`.

        Args:
            name: the column's name.
            factory: the function, or `module:attribute`. It returns a number for `per="case"`, and a sequence with
                one number for each vertebra for `per="vertebra"`. A value that is not finite is stored as null.
            settings: the column, as `register` takes it.
            summary: one line for `list`.
            oracle: False; a metric always sees the fixed labels.

        Raises:
            ValueError: another origin has registered the name, the column is not declared as above, or the function
                does not take one argument.
        """
        self._check_function(name, factory)
        super().add(name, factory, {"column": self._column(name, dict(settings or {}), summary)}, summary, oracle)

    def columns(self) -> dict[str, Column]:
        """The declared column of every metric, by name, in the order of registration."""
        return {entry.name: entry.settings["column"] for entry in self}

    def _column(self, name: str, settings: dict[str, Any], summary: str) -> Column:
        """The declared column. Raises ValueError, one line that names the metric."""
        if "column" in settings and len(settings) > 1:
            raise ValueError(f"metric {name!r}: expected a column or its fields, got both")
        try:
            column = settings.pop("column", None) or Column(name, **{"description": summary, **settings})
        except TypeError as error:
            got = ", ".join(settings) or "none"
            raise ValueError(f"metric {name!r}: expected per='vertebra' or per='case' and the column's unit, title, "
                             f"better, dtype or description, got {got}") from error  # fmt: skip
        except ValueError as error:
            raise ValueError(f"metric {name!r}: {error}") from error
        if column.name != name:
            raise ValueError(f"metric {name!r}: column: expected this name, got {column.name!r}")
        if column.dtype == "string":
            raise ValueError(f"metric {name!r}: dtype: expected 'Float64', 'Int64' or 'boolean', got 'string'")
        return replace(column, metric=True)

    def _check_function(self, name: str, factory: Any) -> None:
        if isinstance(factory, str):
            return
        try:
            inspect.signature(factory).bind(None)
        except TypeError as error:
            raise ValueError(f"metric {name!r}: expected a function of one Evaluation, got {factory!r}: {error}"
                             ) from error  # fmt: skip
        except ValueError:  # a function in C may have no readable signature
            return


_current_origin = BUILT_IN


@contextmanager
def origin_of(origin: str) -> Iterator[None]:
    """Record `origin` for every entry that is registered inside."""
    global _current_origin
    before, _current_origin = _current_origin, origin
    try:
        yield
    finally:
        _current_origin = before


METHODS = Registry("method", "rigidbench.methods", "methods.builtin")
DATASETS = Registry("dataset", "rigidbench.datasets", "benchmark.datasets.builtin")
METRICS = MetricRegistry("metric", "rigidbench.metrics", "benchmark.measures")
PENALTIES = Registry("penalty", "rigidbench.penalties", "methods.penalties")
REGISTRIES = (METHODS, DATASETS, METRICS, PENALTIES)


def plugins() -> dict[str, str]:
    """The entries that are not built in: `kind name` -> the plugin file or package that registered it."""
    return {
        f"{registry.kind} {entry.name}": entry.origin
        for registry in REGISTRIES
        for entry in registry
        if entry.origin != BUILT_IN
    }


def load_plugin(path: str | Path, check_names: bool = True) -> None:
    """Run a plugin file, which registers its entries. No other code from outside is run.

    Args:
        path: a Python file.
        check_names: compare its names with the built-in ones now, which may import torch. A method's process passes
            False, because its parent has compared them.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file does not end in .py, or registers a name that is taken.
        Exception: whatever the file itself raises.
    """
    file = Path(path).expanduser().resolve()
    if not file.is_file():
        raise FileNotFoundError(f"--plugin: expected a Python file, found nothing at {path}")
    name = f"rigidbench_plugin_{file.stem.replace('-', '_')}"
    spec = importlib.util.spec_from_file_location(name, file)
    if spec is None or spec.loader is None:
        raise ValueError(f"--plugin: expected a file that ends in .py, got {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    with origin_of(str(file)):
        spec.loader.exec_module(module)
    for registry in REGISTRIES if check_names else ():
        registry.check_names(str(file))


def create_method(name: str, settings: Mapping[str, Any] | None = None, row: str = "") -> Method:
    """An instance of a registered method.

    Args:
        name: the method's registered name.
        settings: override the entry's own settings.
        row: the instance's name, if it is not `name`.

    Raises:
        UnknownName: no method has this name.
        TypeError: the entry is not a `methods.base.Method`.
        pydantic.ValidationError: a setting is not one of the method's, or has a wrong value.
    """
    method = METHODS.create(name, settings, row)
    if not isinstance(method, Method):
        raise TypeError(f"method {name!r}: expected a methods.base.Method, got {type(method).__name__}")
    return method
