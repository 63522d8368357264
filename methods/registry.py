"""Everything that can be added by name: methods, datasets, metrics (table columns) and penalties (loss terms).

The four kinds register the same way: built in, from an installed package's entry point (`rigidbench.methods`,
`.datasets`, `.metrics`, `.penalties`), or from a file given with `--plugin`. An entry is a name, a factory (an object,
or `module:attribute`, imported on first use) and settings.
"""

from __future__ import annotations

import difflib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from methods.base import Method

BUILT_IN = "built in"
PACKAGE = "package "  # begins the origin of what an installed package offers


class UnknownName(ValueError):
    """A name that nothing is registered under."""


@dataclass(frozen=True)
class Entry:
    """One registered name. origin: where it came from, for `list` and for the run's record."""

    name: str
    factory: Any
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = BUILT_IN
    summary: str = ""

    @property
    def package(self) -> str:
        """The installed package that it came from, or nothing."""
        return self.origin.removeprefix(PACKAGE) if self.origin.startswith(PACKAGE) else ""

    def load(self) -> Any:
        """The factory itself, imported if it was given as `module:attribute`."""
        if not isinstance(self.factory, str):
            return self.factory
        module, _, attribute = self.factory.partition(":")
        return getattr(importlib.import_module(module), attribute)


class Registry:
    """Entries of one kind, by name, in the order in which they were added.

    group: of the entry points of installed packages. catalogue: the module that adds the built-in entries, imported
    before any other is added or one is asked for; empty where they are added by modules that everyone imports.
    """

    def __init__(self, kind: str, group: str, catalogue: str = "") -> None:
        self.kind, self.group = kind, group
        self._catalogue = catalogue
        self._entries: dict[str, Entry] = {}
        self._searched = False

    def add(self, name: str, factory: Any, settings: Mapping[str, Any] | None = None, summary: str = "") -> None:
        """Register `factory` under `name`. A name taken from elsewhere is refused, never replaced in silence."""
        origin = _current_origin
        if origin != BUILT_IN:
            self._add_built_in()
        known = self._entries.get(name)
        if known is not None and known.origin != origin:
            raise ValueError(f"{self.kind} {name!r} is already registered ({known.origin}); choose another name")
        self._entries[name] = Entry(name, factory, dict(settings or {}), origin, summary)

    def register(self, name: str, summary: str = "", **settings: Any) -> Callable[[Any], Any]:
        """Decorator form of `add`, for a class or a function."""

        def add(factory: Any) -> Any:
            self.add(name, factory, settings, summary or (factory.__doc__ or "").strip().split("\n")[0])
            return factory

        return add

    def __getitem__(self, name: str) -> Entry:
        self._search()
        if name not in self._entries:
            near = difflib.get_close_matches(name, self._entries, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else "; is a --plugin missing?"
            raise UnknownName(f"unknown {self.kind} {name!r}{hint} Known: {', '.join(self._entries)}")
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._search()
        return name in self._entries

    def __iter__(self) -> Iterator[Entry]:
        self._search()
        return iter(self._entries.values())

    def create(self, name: str, settings: Mapping[str, Any] | None = None, row: str = "") -> Any:
        """An instance for `name`: `factory(row or name, **settings)`, the given settings over the entry's own."""
        entry = self[name]
        return entry.load()(row or name, **{**entry.settings, **(settings or {})})

    def _add_built_in(self) -> None:
        """Import the catalogue. It may be asked for while a plugin is loaded, whose entries these are not."""
        if self._catalogue:
            catalogue, self._catalogue = self._catalogue, ""
            with origin_of(BUILT_IN):
                importlib.import_module(catalogue)

    def _search(self) -> None:
        """Add what is built in and what installed packages offer, once."""
        self._add_built_in()
        if self._searched:
            return
        self._searched = True
        for point in entry_points(group=self.group):
            package = f"{PACKAGE}{point.dist.name if point.dist else point.value}"
            with origin_of(package):
                try:
                    factory = point.load()  # a decorated one registers itself, with its settings
                except (ImportError, AttributeError) as error:
                    self._searched = False  # said again to whoever asks next
                    raise ValueError(f"{package}: expected {self.kind} {point.name!r} at {point.value}, got {error}; "
                                     "mend or uninstall it") from error  # fmt: skip
                if point.name not in self._entries:
                    self.add(point.name, factory)


_current_origin = BUILT_IN


@contextmanager
def origin_of(origin: str) -> Iterator[None]:
    """Everything registered inside is recorded as coming from `origin`."""
    global _current_origin
    before, _current_origin = _current_origin, origin
    try:
        yield
    finally:
        _current_origin = before


METHODS = Registry("method", "rigidbench.methods", "methods.builtin")
DATASETS = Registry("dataset", "rigidbench.datasets", "benchmark.datasets.builtin")
METRICS = Registry("metric", "rigidbench.metrics")
PENALTIES = Registry("penalty", "rigidbench.penalties")


def plugins() -> dict[str, str]:
    """What did not come with rigidbench: `kind name` -> the file or package that it came from."""
    return {
        f"{registry.kind} {entry.name}": entry.origin
        for registry in (METHODS, DATASETS, METRICS, PENALTIES)
        for entry in registry
        if entry.origin != BUILT_IN
    }


def load_plugin(path: str | Path) -> None:
    """Run a plugin file: the only code from outside that rigidbench runs.

    Raises FileNotFoundError for a missing file; what the file itself raises passes through.
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


def create_method(name: str, settings: Mapping[str, Any] | None = None, row: str = "") -> Method:
    """The method registered under `name`, with `settings` over its own. row: what this instance is called, if else."""
    method = METHODS.create(name, settings, row)
    if not isinstance(method, Method):
        raise TypeError(f"method {name!r}: expected a methods.base.Method, got {type(method).__name__}")
    return method
