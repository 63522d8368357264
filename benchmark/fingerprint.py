"""Hashes of the source code that can change a result: fingerprints of cells, of cases and of a cluster's workers.

The source is read when this module is imported. An edit while the process runs therefore has no effect on the
fingerprints of results that the old code makes.
"""

from __future__ import annotations

import hashlib
import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from methods.sources import Sources, syntax_hash

ROOT = Path(__file__).resolve().parents[__name__.count(".")]
PACKAGES = ("benchmark", "methods", "metrics")
# Code that every cell runs besides its dataset and its method, with all modules that it reaches.
MEASURING = ("benchmark.evaluation", "benchmark.measures")
RUNNING = ("benchmark.execution.worker", "benchmark.execution.worker_process")
# It passes the pair to the worker and the result to the evaluation. Its other imports (configuration, store, pictures)
# store and show results and cannot change them, so they are not followed.
HANDING_ON = ("benchmark.execution.cell",)
# Suffixes of the packages' data files, which a cluster's workers must have too.
DATA = (".txt", ".yaml", ".json", ".safetensors")
PROJECT = Sources(ROOT, PACKAGES)


def python_version() -> str:
    """Return the interpreter's version, on which every result depends."""
    return platform.python_version()


@dataclass(frozen=True)
class Code:
    """The code that makes something: modules of the project, and files of plugins and installed packages.

    Attributes:
        modules: dotted names, with all modules that they reach.
        files: outside the project.
        versions: name and version of the packages that the files belong to.
    """

    modules: frozenset[str] = frozenset()
    files: frozenset[Path] = frozenset()
    versions: frozenset[str] = frozenset()

    def __or__(self, other: Code) -> Code:
        return Code(self.modules | other.modules, self.files | other.files, self.versions | other.versions)

    def project(self) -> str:
        """Hash the project's part and the interpreter's version."""
        outside = (PROJECT.imported_by(file.read_bytes()) for file in self.files if file.suffix == ".py")
        return _short([PROJECT.hash(self.modules.union(*outside)), python_version()])

    def outside(self) -> str:
        """Hash the part outside the project; empty where there is none."""
        files = sorted(syntax_hash(file) for file in self.files)
        return _short([files, sorted(self.versions)]) if files or self.versions else ""

    def everything(self) -> str:
        """Hash both parts."""
        return self.project() + self.outside()


def code_of(*things: Any, package: str = "") -> Code:
    """Find the code of classes or functions.

    The file of a class or function outside the project counts, together with what that file imports from the project.
    Its other imports are not followed: the version of its package represents them.

    Args:
        *things: classes or functions.
        package: the installed package that they come from; empty: none.

    Returns:
        Their modules with all modules that these reach, their files outside the project, and the package's version.
    """
    modules = {str(thing.__module__) for thing in things}
    inside = {module for module in modules if module.partition(".")[0] in PROJECT.packages}
    files = (getattr(sys.modules.get(module), "__file__", None) for module in modules - inside)
    return Code(
        frozenset(PROJECT.reached(inside)), frozenset(Path(f) for f in files if f is not None),
        frozenset({f"{package} {_version(package)}"} if package else ()),
    )  # fmt: skip


def code_in(files: Iterable[Path]) -> Code:
    """Find the code of plugin files and of what they import from the project.

    Args:
        files: .py files.

    Returns:
        The files; `Code.project` follows their imports.

    Raises:
        FileNotFoundError: a file does not exist.
    """
    return Code(files=frozenset(file.expanduser().resolve(strict=True) for file in files))


@cache
def measuring() -> Code:
    """Return the code that computes values from a registration: the evaluation and every metric."""
    return Code(frozenset(PROJECT.reached([*MEASURING, *PROJECT.within("metrics")])))


@cache
def running() -> Code:
    """Return the code that every cell runs: the worker process, the code that calls it, and `measuring`."""
    return measuring() | Code(frozenset(PROJECT.reached(RUNNING)) | frozenset(HANDING_ON))


@cache
def whole_project() -> str:
    """Hash every module and data file of the packages: the same on all workers of a cluster."""
    modules = set().union(*(PROJECT.within(package) for package in PROJECT.packages))
    files = (f for package in PROJECT.packages for f in sorted((ROOT / package).rglob("*")) if f.suffix in DATA)
    data = {f.relative_to(ROOT).as_posix(): syntax_hash(f) for f in files if not f.name.startswith(".")}
    return _short([PROJECT.hash(modules), data, python_version()])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # an entry point without the name of its package
        return None


def _short(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
