"""Which source code decides a result, as a hash of its meaning: fingerprints of cells, of cases and of cluster workers.

A module counts by its syntax tree. Comments, docstrings, layout and the annotations of arguments, returns and variables
are no part of it: they cannot change a result. Annotations in a class body are, since pydantic and dataclasses make
fields from them. Which modules count is found from their import statements, also from those inside functions.

The source is read when this module is imported. Source that is edited while the process runs therefore does not lend
its name to what the old code makes.
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
# What every cell passes through besides its dataset and its method, with all that these modules reach.
MEASURING = ("benchmark.evaluation", "benchmark.measures")
RUNNING = ("benchmark.execution.worker", "benchmark.execution.worker_process")
# It hands the pair to the worker and the result to the evaluation. What it imports besides those keeps and shows
# results (configuration, store, pictures) and cannot change one.
HANDING_ON = ("benchmark.execution.cell",)
# Files of the packages that a cluster's workers must have too, besides the modules.
DATA = (".txt", ".yaml", ".json", ".safetensors")


@dataclass(frozen=True)
class Import:
    """One import statement of a module: `import module`, or `from <level dots>module import names`."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


class Sources:
    """The modules of some packages as they are on disk when this object is made.

    root: the folder that holds the packages' folders. Raises FileNotFoundError where it lacks one of them.
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

        An imported module brings its packages' `__init__` with it. Imports under `if TYPE_CHECKING` do not count.
        Raises FileNotFoundError for a module that is not there.
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
        """The modules of the packages that a file from elsewhere reaches. What it imports besides is left out."""
        absolute = [entry for entry in _read(content)[1] if not entry.level]
        named = {name for entry in absolute for name in (entry.module, *_members(entry.module, entry.names))}
        return self.reached(name for name in named if name in self)

    def hash(self, modules: Iterable[str]) -> str:
        """A hash of the syntax of exactly these modules. Raises FileNotFoundError for one that is not there."""
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
    """A hash of what a file means: the syntax of a .py file, the bytes of any other.

    Raises FileNotFoundError for a path that does not exist, SyntaxError for a .py file that is no Python.
    """
    content = path.read_bytes()
    return _read(content)[0] if path.suffix == ".py" else hashlib.sha256(content).hexdigest()


def python_version() -> str:
    """The interpreter's, which has a part in every result."""
    return platform.python_version()


@dataclass(frozen=True)
class Code:
    """What code makes something: modules of the project, and files of plugins and installed packages.

    modules: those that count, all that they reach included. files: outside of the project. versions: of the packages
    that files belong to.
    """

    modules: frozenset[str] = frozenset()
    files: frozenset[Path] = frozenset()
    versions: frozenset[str] = frozenset()

    def __or__(self, other: Code) -> Code:
        return Code(self.modules | other.modules, self.files | other.files, self.versions | other.versions)

    def project(self) -> str:
        """A hash of the project's part, and of the interpreter's version."""
        outside = (PROJECT.imported_by(file.read_bytes()) for file in self.files if file.suffix == ".py")
        return _short([PROJECT.hash(self.modules.union(*outside)), python_version()])

    def outside(self) -> str:
        """A hash of the part from elsewhere; empty where there is none."""
        files = sorted(syntax_hash(file) for file in self.files)
        return _short([files, sorted(self.versions)]) if files or self.versions else ""

    def everything(self) -> str:
        """A hash of both parts."""
        return self.project() + self.outside()


def code_of(*things: Any, package: str = "") -> Code:
    """The code that makes some classes or functions. package: the installed one that they come from, if they do.

    Of a class or function from elsewhere its module's file counts, where there is one, and what that imports from the
    project. What it imports besides is not followed: the package's version stands for it.
    """
    modules = {str(thing.__module__) for thing in things}
    inside = {module for module in modules if module.partition(".")[0] in PROJECT.packages}
    files = (getattr(sys.modules.get(module), "__file__", None) for module in modules - inside)
    return Code(
        frozenset(PROJECT.reached(inside)), frozenset(Path(f) for f in files if f is not None),
        frozenset({f"{package} {_version(package)}"} if package else ()),
    )  # fmt: skip


def code_in(files: Iterable[Path]) -> Code:
    """The code of plugin files and of what they import from the project. Raises FileNotFoundError for one not there."""
    return Code(files=frozenset(file.expanduser().resolve(strict=True) for file in files))


@cache
def measuring() -> Code:
    """The code that computes values from a registration: the evaluation and every metric."""
    return Code(frozenset(PROJECT.reached([*MEASURING, *PROJECT.within("metrics")])))


@cache
def running() -> Code:
    """The code that every cell passes through: the method's process, what hands on to it, and the measuring."""
    return measuring() | Code(frozenset(PROJECT.reached(RUNNING)) | frozenset(HANDING_ON))


@cache
def whole_project() -> str:
    """A hash of every module and every data file of the packages: what a cluster's workers must agree on."""
    modules = set().union(*(PROJECT.within(package) for package in PROJECT.packages))
    files = (f for package in PROJECT.packages for f in sorted((ROOT / package).rglob("*")) if f.suffix in DATA)
    data = {f.relative_to(ROOT).as_posix(): syntax_hash(f) for f in files if not f.name.startswith(".")}
    return _short([PROJECT.hash(modules), data, python_version()])


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # an entry point whose package says no name
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


# Fields that hold no meaning of their own: a name's context follows from where it stands.
_UNSAID = {"ctx", "kind", "type_comment", "type_ignores", "returns"}


# Keywords of METRICS.register that say how a column is printed and not what it holds.
_HEADINGS = {"unit", "title", "better", "description", "summary"}


def _registers_metric(function: ast.AST) -> bool:
    return ast.unparse(function) == "METRICS.register"


def _write(node: ast.AST, words: list[str], imports: list[Import], in_class: bool) -> None:
    """Append the words of a node's meaning to `words`, and its import statements to `imports`."""
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
        if node.value is not None:  # the same as without its annotation
            node = ast.Assign([node.target], node.value)
            kind = "Assign"
        skipped = ("annotation", "simple")
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        skipped = ("body",)
    elif isinstance(node, ast.Call) and _registers_metric(node.func):
        node = ast.Call(node.func, node.args, [k for k in node.keywords if k.arg not in _HEADINGS])
    words.append(kind)
    for name in node._fields:
        if name not in _UNSAID and name not in skipped:
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
    """A docstring or another constant that stands alone, or `pass`."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"
