"""The structure of the source tree: layers, import cycles, sizes, and tests that mirror the code."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LAYERS = {"metrics": 1, "methods": 2, "benchmark": 3, "reports": 4, "run_benchmark": 5}
MAX_MODULE_LINES, MAX_FUNCTION_LINES = 350, 60
# metrics/ is pure mathematics: torch, scipy and their dependencies, and psutil for the memory that timing reports.
METRICS_MAY_IMPORT = {"torch", "scipy", "numpy", "psutil"}


def source_files() -> list[Path]:
    files = [file for package in LAYERS for file in (ROOT / package).rglob("*.py")]
    return sorted([*files, ROOT / "run_benchmark.py"])


def all_files() -> list[Path]:
    return [*source_files(), *sorted((ROOT / "tests").rglob("*.py"))]


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(file): file for file in source_files()}


@cache
def tree_of(file: Path) -> ast.Module:
    return ast.parse(file.read_text(encoding="utf-8"))


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def statements(node: ast.AST) -> Iterator[ast.AST]:
    """Every node below `node`, except the imports under TYPE_CHECKING, which do not run."""
    for child in ast.iter_child_nodes(node):
        if not is_type_checking(child):
            yield child
            yield from statements(child)


def imported_names(file: Path) -> set[str]:
    """Dotted names that a file imports, at its top or inside a function; `from a import b` gives a.b."""
    names: set[str] = set()
    for node in statements(tree_of(file)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno}: expected an absolute import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def imported_modules(file: Path) -> set[str]:
    """The modules of the project that a file imports."""
    found = set()
    for name in imported_names(file):
        known = name if name in MODULES else name.rpartition(".")[0]
        if known in MODULES:
            found.add(known)
    return found - {module_name(file)}


@pytest.mark.parametrize("module", MODULES)
def test_no_import_runs_upward(module: str) -> None:
    layer = LAYERS[module.partition(".")[0]]
    upward = [name for name in imported_modules(MODULES[module]) if LAYERS[name.partition(".")[0]] > layer]
    assert not upward, f"{module} imports {', '.join(upward)} from a higher layer"


def test_metrics_import_mathematics_only() -> None:
    import sys

    for module, file in MODULES.items():
        if module.partition(".")[0] == "metrics":
            packages = {name.partition(".")[0] for name in imported_names(file)}
            others = packages - {"metrics"} - METRICS_MAY_IMPORT - set(sys.stdlib_module_names)
            assert not others, f"{module} imports {', '.join(sorted(others))}"


def test_no_modules_import_each_other() -> None:
    """Neither directly nor through others, also by imports inside functions."""
    edges = {module: imported_modules(file) for module, file in MODULES.items()}
    finished: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, "import cycle: " + " -> ".join([*path[path.index(module) :], module])
        if module not in finished:
            for other in sorted(edges[module]):
                visit(other, (*path, module))
            finished.add(module)

    for module in edges:
        visit(module, ())


def test_a_module_is_at_most_350_lines() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file in all_files()}
    long = {str(file.relative_to(ROOT)): count for file, count in lengths.items() if count > MAX_MODULE_LINES}
    assert not long, f"split by idea: {long}"


def test_a_function_is_at_most_60_lines() -> None:
    long = []
    for file in all_files():
        for node in ast.walk(tree_of(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                body = node.body[1:] if ast.get_docstring(node) else node.body
                # Typer's signatures and docstrings are documentation: the statements count.
                lines = body[-1].end_lineno - body[0].lineno + 1 if body else 0
                if lines > MAX_FUNCTION_LINES:
                    long.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name} {lines}")
    assert not long, f"split: {long}"


def test_each_unit_test_file_mirrors_a_module() -> None:
    """Tests of the whole program are in tests/scenarios and tests/test_*.py."""
    strays = []
    for file in sorted((ROOT / "tests").rglob("test_*.py")):
        folder = file.relative_to(ROOT / "tests").parent
        if folder.parts and folder.parts[0] in LAYERS:
            module = ROOT / folder / file.name.removeprefix("test_")
            private = module.with_name(f"_{module.name}")
            if not (module.is_file() or private.is_file() or (module.with_suffix("") / "__init__.py").is_file()):
                strays.append(str(file.relative_to(ROOT)))
    assert not strays, f"no module of this name: {strays}"
