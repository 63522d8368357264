"""Hashes of the source code that can change a result, for the fingerprints of cells, cases and cluster workers.

A module is hashed by its syntax tree, without comments, docstrings, layout and the annotations of arguments, returns
and variables: they cannot change a result. Annotations in a class body are hashed, since pydantic and dataclasses make
fields from them. A hash covers all modules that are imported, directly or through others, also inside functions.

The source is read when this module is imported, so that the hash is that of the code that runs, even if a file is
edited meanwhile.
"""

from __future__ import annotations

import ast
import hashlib
import json
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[__name__.count(".")]
PACKAGES = ("benchmark", "methods", "metrics")
# The code that evaluates and the code that runs every cell, each with all modules that it imports.
MEASURING = ("benchmark.evaluation", "benchmark.measures")
RUNNING = ("benchmark.execution.worker", "benchmark.execution.worker_process")
# Passes the pair to the worker and the result to the evaluation. Its other imports (configuration, store, pictures)
# only store and show results, so they are not hashed.
HANDING_ON = ("benchmark.execution.cell",)
# Data files of the packages that must be the same on all workers of a cluster.
DATA = (".txt", ".yaml", ".json", ".safetensors")


@dataclass(frozen=True)
class Import:
    """One import statement of a module: `import module`, or `from <level dots>module import names`."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


class Sources:
    """The source of all modules of some packages, as it is on disk when this object is made.

    root: the folder that holds the packages' folders. Raises FileNotFoundError if one of them is missing.
    """

    def __init__(self, root: Path, packages: Sequence[str]) -> None:
        self.packages = tuple(packages)
        self._contents: dict[str, bytes] = {}
        self._is_package: set[str] = set()
        for package in packages:
            if not (root / package).is_dir():
                raise FileNotFoundError(f"{root / package}: expected the folder of package {package}, found none")
            for file in sorted((root / package).rglob("*.py")):
                parts = file.relative_to(root).with_suffix("").parts
                name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
                self._contents[name] = file.read_bytes()
                if parts[-1] == "__init__":
                    self._is_package.add(name)

    def __contains__(self, module: object) -> bool:
        return module in self._contents

    def within(self, package: str) -> set[str]:
        """The modules of a package, itself included. Raises FileNotFoundError where there is none of this name."""
        self._check(package)
        return {name for name in self._contents if name == package or name.startswith(f"{package}.")}

    def reached(self, modules: Iterable[str]) -> set[str]:
        """These modules and all modules of the packages that they import, directly or through others.

        The `__init__` of their packages is included. Imports under `if TYPE_CHECKING` are ignored.
        Raises FileNotFoundError for a missing module.
        """
        found: set[str] = set()
        waiting = [parent for module in modules for parent in _with_parents(module)]
        while waiting:
            module = waiting.pop()
            if module not in found:
                self._check(module)
                found.add(module)
                waiting += self._imported(module)
        return found

    def imported_by(self, content: bytes) -> set[str]:
        """The modules of the packages that a file outside them imports, directly or through others."""
        absolute = [entry for entry in _read(content)[1] if not entry.level]
        named = {name for entry in absolute for name in (entry.module, *_members(entry.module, entry.names))}
        return self.reached(name for name in named if name in self)

    def hash(self, modules: Iterable[str]) -> str:
        """A hash of the syntax of these modules, without their imports. Raises FileNotFoundError for a missing one."""
        digest = hashlib.sha256()
        for module in sorted(set(modules)):
            self._check(module)
            digest.update(f"{module} {_read(self._contents[module])[0]}\n".encode())
        return digest.hexdigest()

    def _imported(self, module: str) -> Iterator[str]:
        for entry in _read(self._contents[module])[1]:
            base = entry.module
            if entry.level:
                up = entry.level - (module in self._is_package)
                base = ".".join([*module.split(".")[: -up or None], *filter(None, [entry.module])])
            if base.partition(".")[0] not in self.packages:
                continue
            yield from _with_parents(base)
            yield from (name for name in _members(base, entry.names) if name in self)

    def _check(self, module: str) -> None:
        if module not in self:
            raise FileNotFoundError(
                f"module {module}: expected a source file in {', '.join(self.packages)}, found none"
            )


def _with_parents(module: str) -> list[str]:
    parts = module.split(".")
    return [".".join(parts[: n + 1]) for n in range(len(parts))]


def _members(module: str, names: Iterable[str]) -> Iterator[str]:
    return (f"{module}.{name}" for name in names)


PROJECT = Sources(ROOT, PACKAGES)


def syntax_hash(path: Path) -> str:
    """A hash of the syntax of a .py file, or of the bytes of any other file.

    Raises FileNotFoundError for a missing file, SyntaxError for a .py file that cannot be parsed.
    """
    content = path.read_bytes()
    return _read(content)[0] if path.suffix == ".py" else hashlib.sha256(content).hexdigest()


def python_version() -> str:
    """The version of the Python interpreter, which can change any result."""
    return platform.python_version()


@dataclass(frozen=True)
class Code:
    """The code that can change a result: modules of the project, and files of plugins and installed packages.

    modules: with all modules that they import. files: outside of the project. versions: of the installed packages to
    which the files belong.
    """

    modules: frozenset[str] = frozenset()
    files: frozenset[Path] = frozenset()
    versions: frozenset[str] = frozenset()

    def __or__(self, other: Code) -> Code:
        return Code(self.modules | other.modules, self.files | other.files, self.versions | other.versions)

    def project(self) -> str:
        """A hash of the project's modules and of the interpreter's version."""
        outside = (PROJECT.imported_by(file.read_bytes()) for file in self.files if file.suffix == ".py")
        return _short([PROJECT.hash(self.modules.union(*outside)), python_version()])

    def outside(self) -> str:
        """A hash of the files outside of the project and of the packages' versions; empty without any."""
        files = sorted(syntax_hash(file) for file in self.files)
        return _short([files, sorted(self.versions)]) if files or self.versions else ""

    def everything(self) -> str:
        """The hashes of `project` and `outside`, joined."""
        return self.project() + self.outside()


def code_of(*things: Any, package: str = "") -> Code:
    """The code of some classes or functions. package: the installed package that they come from; empty for none.

    For a class or function outside of the project, this is the file of its module, if it has one, and the modules of
    the project that this file imports. Its other imports are represented by the version of the package.
    """
    modules = {str(thing.__module__) for thing in things}
    inside = {module for module in modules if module.partition(".")[0] in PROJECT.packages}
    files = (getattr(sys.modules.get(module), "__file__", None) for module in modules - inside)
    return Code(
        frozenset(PROJECT.reached(inside)), frozenset(Path(f) for f in files if f is not None),
        frozenset({f"{package} {_version(package)}"} if package else ()),
    )  # fmt: skip


def code_in(files: Iterable[Path]) -> Code:
    """The code of plugin files and of their imports from the project. Raises FileNotFoundError for a missing file."""
    return Code(files=frozenset(file.expanduser().resolve(strict=True) for file in files))


@cache
def measuring() -> Code:
    """The code that computes values from a registration: the evaluation and every metric."""
    return Code(frozenset(PROJECT.reached([*MEASURING, *PROJECT.within("metrics")])))


@cache
def running() -> Code:
    """The code that runs and evaluates every cell, besides its dataset and its method."""
    return measuring() | Code(frozenset(PROJECT.reached(RUNNING)) | frozenset(HANDING_ON))


@cache
def whole_project() -> str:
    """A hash of every module and data file of the packages, which is the same on all workers of a cluster."""
    modules = set().union(*(PROJECT.within(package) for package in PROJECT.packages))
    files = (f for package in PROJECT.packages for f in sorted((ROOT / package).rglob("*")) if f.suffix in DATA)
    data = {f.relative_to(ROOT).as_posix(): syntax_hash(f) for f in files if not f.name.startswith(".")}
    return _short([PROJECT.hash(modules), data, python_version()])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # the entry point does not name its package
        return None


def _short(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


@cache
def _read(content: bytes) -> tuple[str, tuple[Import, ...]]:
    """The hash of a source's syntax, and its import statements."""
    tree = ast.parse(content)
    words: list[str] = []
    imports: list[Import] = []
    _write(tree, words, imports, in_class=False)
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest(), tuple(imports)


# Fields of the syntax tree without effect on a result. A name's context (load or store) follows from its position.
_IGNORED_FIELDS = {"ctx", "kind", "type_comment", "type_ignores", "returns"}


# Keywords of METRICS.register that change how a column is printed, not its values.
_HEADINGS = {"unit", "title", "better", "description", "summary"}


def _registers_metric(function: ast.AST) -> bool:
    return ast.unparse(function) == "METRICS.register"


def _write(node: ast.AST, words: list[str], imports: list[Import], in_class: bool) -> None:
    """Append the types and values in a node to `words`, and its import statements to `imports`."""
    kind = type(node).__name__
    skipped: tuple[str, ...] = ()
    if isinstance(node, ast.Import):
        imports += [Import(alias.name) for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        imports.append(Import(node.module or "", tuple(alias.name for alias in node.names), node.level))
    elif isinstance(node, ast.ClassDef):
        in_class = True
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        in_class = False
    elif isinstance(node, ast.arg):
        skipped = ("annotation",)
    elif isinstance(node, ast.AnnAssign) and not in_class:
        if node.value is not None:  # `x: T = v` has the hash of `x = v`
            node = ast.Assign([node.target], node.value)
            kind = "Assign"
        skipped = ("annotation", "simple")
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        skipped = ("body",)
    elif isinstance(node, ast.Call) and _registers_metric(node.func):
        node = ast.Call(node.func, node.args, [k for k in node.keywords if k.arg not in _HEADINGS])
    words.append(kind)
    for name in node._fields:
        if name not in _IGNORED_FIELDS and name not in skipped:
            _write_value(getattr(node, name, None), words, imports, in_class)
    words.append(")")


def _write_value(value: Any, words: list[str], imports: list[Import], in_class: bool) -> None:
    if isinstance(value, ast.AST):
        _write(value, words, imports, in_class)
    elif isinstance(value, list):
        words.append("[")
        for item in value:
            if not _does_nothing(item):
                _write_value(item, words, imports, in_class)
        words.append("]")
    else:
        words.append(repr(value))


def _does_nothing(statement: Any) -> bool:
    """Whether a statement has no effect: a docstring or another lone constant, or `pass`."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"
