"""The syntax and the imports of source files.

The hash of a module is that of its syntax tree. Comments, docstrings, layout and the annotations of arguments, returns
and variables are left out: they cannot change a result. Annotations in a class body are included, since pydantic and
dataclasses make fields from them. Imports are found from import statements, also from those inside functions.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Import:
    """One import statement of a module: `import module`, or `from <level dots>module import names`."""

    module: str
    names: tuple[str, ...] = ()
    level: int = 0


class Sources:
    """The modules of some packages, as they are on disk when this object is made.

    Args:
        root: the folder that holds the packages' folders.
        packages: names of packages.

    Raises:
        FileNotFoundError: `root` lacks the folder of a package.
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
        """List the modules of a package, itself included.

        Raises:
            FileNotFoundError: there is no such package.
        """
        self._check(package)
        return {name for name in self._contents if name == package or name.startswith(f"{package}.")}

    def reached(self, modules: Iterable[str]) -> set[str]:
        """List modules and all modules of the packages that they import, directly or through others.

        A module includes the `__init__` of its packages. Imports under `if TYPE_CHECKING` are left out.

        Args:
            modules: dotted names.

        Returns:
            The names given and the names of all modules that they reach.

        Raises:
            FileNotFoundError: a module does not exist.
        """
        reached: set[str] = set()
        waiting = [parent for module in modules for parent in _with_parents(module)]
        while waiting:
            module = waiting.pop()
            if module not in reached:
                self._check(module)
                reached.add(module)
                waiting += self._imported(module)
        return reached

    def imported_by(self, content: bytes) -> set[str]:
        """List the modules of the packages that a file outside them reaches. Its other imports are ignored.

        Args:
            content: the file's source code.

        Returns:
            Dotted names.
        """
        absolute = [entry for entry in _read(content)[1] if not entry.level]
        named = {name for entry in absolute for name in (entry.module, *_members(entry.module, entry.names))}
        return self.reached(name for name in named if name in self)

    def hash(self, modules: Iterable[str]) -> str:
        """Hash the syntax of exactly these modules.

        Args:
            modules: dotted names.

        Returns:
            A hexadecimal SHA-256.

        Raises:
            FileNotFoundError: a module does not exist.
        """
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


def syntax_hash(path: Path) -> str:
    """Hash the syntax of a .py file or the bytes of any other file.

    Args:
        path: the file.

    Returns:
        A hexadecimal SHA-256.

    Raises:
        FileNotFoundError: the file does not exist.
        SyntaxError: a .py file is not valid Python.
    """
    content = path.read_bytes()
    return _read(content)[0] if path.suffix == ".py" else hashlib.sha256(content).hexdigest()


@cache
def _read(content: bytes) -> tuple[str, tuple[Import, ...]]:
    """The hash of a source's syntax, and its import statements."""
    tree = ast.parse(content)
    words: list[str] = []
    imports: list[Import] = []
    _write(tree, words, imports, in_class=False)
    return hashlib.sha256("\0".join(words).encode("utf-8", "surrogatepass")).hexdigest(), tuple(imports)


# Keywords of METRICS.register that change how a column is printed and not its values.
_HEADINGS = {"unit", "title", "better", "description", "summary"}
# Fields that the rest of the tree determines, and annotations.
_IGNORED = {"ctx", "kind", "type_comment", "type_ignores", "returns"}


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
        if node.value is not None:  # equals the assignment without annotation
            node = ast.Assign([node.target], node.value)
            kind = "Assign"
        skipped = ("annotation", "simple")
    elif isinstance(node, ast.If) and _is_type_checking(node.test):
        skipped = ("body",)
    elif isinstance(node, ast.Call) and ast.unparse(node.func) == "METRICS.register":
        node = ast.Call(node.func, node.args, [k for k in node.keywords if k.arg not in _HEADINGS])
    words.append(kind)
    for name in node._fields:
        if name not in _IGNORED and name not in skipped:
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
    """Whether a statement is `pass`, a docstring or another constant on its own."""
    if isinstance(statement, ast.Expr):
        return isinstance(statement.value, ast.Constant)
    return isinstance(statement, ast.Pass)


def _is_type_checking(test: ast.expr) -> bool:
    name = test.attr if isinstance(test, ast.Attribute) else test.id if isinstance(test, ast.Name) else ""
    return name == "TYPE_CHECKING"
