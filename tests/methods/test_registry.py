"""Registries: what can be registered, what a name finds, where built-in entries come from, and what is refused."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from methods.base import Method
from methods.columns import Column
from methods.registry import METHODS, METRICS, MetricRegistry, Registry, UnknownName, create_method, load_plugin

ROOT = Path(__file__).parents[2]


def in_a_fresh_process(code: str) -> str:
    """What `code` prints in a process that has imported nothing of the project."""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, encoding="utf-8", timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a plugin file with this text after the imports of the registries."""

    def write(text: str) -> Path:
        file = tmp_path / "plugin.py"
        file.write_text(f"from methods.registry import METHODS, METRICS, PENALTIES\n{text}\n", encoding="utf-8")
        return file

    return write


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'voxelmorph'"):
        create_method("voxelmorf")


def test_a_plugin_file_adds_a_method(plugin: Callable[[str], Path]) -> None:
    file = plugin(
        "from methods.initial import Initial\n"
        "@METHODS.register('mine-for-test')\nclass Mine(Initial):\n    '''Mine.'''\n"
    )
    load_plugin(file)
    assert METHODS["mine-for-test"].origin == str(file)
    assert METHODS["mine-for-test"].summary == "Mine."
    assert isinstance(create_method("mine-for-test"), Method)


def test_a_missing_plugin_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent\.py"):
        load_plugin(tmp_path / "absent.py")


def test_settings_override_those_of_the_entry() -> None:
    registry = Registry("thing", "rigidbench.test-things")
    registry.add("a", lambda name, **settings: (name, settings), {"x": 1, "y": 2})
    assert registry.create("a", {"y": 3}) == ("a", {"x": 1, "y": 3})


@pytest.mark.parametrize(
    ("registry", "name", "factory"),
    [
        ("METHODS", "voxelmorph", "VoxelMorph"),
        ("DATASETS", "phantom", "Phantom"),
        ("METRICS", "rigid_dsc", "rigid_dsc"),
        ("PENALTIES", "oc", "oc"),
    ],
)
def test_built_in_entries_need_no_other_import(registry: str, name: str, factory: str) -> None:
    code = f"from methods.registry import {registry} as r; print(r[{name!r}].load().__name__, r[{name!r}].origin)"
    assert in_a_fresh_process(code) == f"{factory} built in"


@pytest.mark.parametrize("registry", ["METHODS", "DATASETS"])
def test_names_for_shell_completion_need_no_torch(registry: str) -> None:
    code = f"import sys; from methods.registry import {registry} as r; print(len(list(r)) > 3, 'torch' in sys.modules)"
    assert in_a_fresh_process(code) == "True False"


def test_a_taken_name_is_refused(plugin: Callable[[str], Path]) -> None:
    with pytest.raises(ValueError, match="method 'initial' is already registered"):
        load_plugin(plugin("METHODS.add('initial', object)"))
    assert METHODS["initial"].origin == "built in"


def test_a_name_is_refused_that_a_built_in_metric_has(plugin: Callable[[str], Path]) -> None:
    file = plugin("METRICS.add('dsc', lambda e: 0, {'per': 'case'})")
    code = f"""
from methods.registry import METRICS, load_plugin
try:
    load_plugin({str(file)!r})
except ValueError as error:
    print(error)
print(METRICS["dsc"].origin)
"""
    assert in_a_fresh_process(code).splitlines() == [
        f"{file}: metric 'dsc' is already registered (built in); choose another name", "built in",
    ]  # fmt: skip


def test_a_plugin_that_imports_the_built_in_metrics_is_not_their_origin(plugin: Callable[[str], Path]) -> None:
    file = plugin("import benchmark.measures, methods.penalties\nPENALTIES.add('own', lambda warped: 0)")
    code = f"from methods.registry import load_plugin, plugins; load_plugin({str(file)!r}); print(plugins())"
    assert in_a_fresh_process(code) == str({"penalty own": str(file)})


def test_a_methods_process_imports_no_metrics(plugin: Callable[[str], Path]) -> None:
    file = plugin("METRICS.add('own', lambda e: 0, {'per': 'case'})")
    code = (
        "import sys; from methods.registry import create_method, load_plugin; "
        f"load_plugin({str(file)!r}, check_names=False); create_method('initial'); "
        "print('torch' in sys.modules, 'benchmark.measures' in sys.modules)"
    )
    assert in_a_fresh_process(code) == "False False"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Installs a package `offers` with this text, and entry points for these names in it."""

    def install(text: str, *names: str) -> None:
        (tmp_path / "offers.py").write_text(text, encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        monkeypatch.delitem(sys.modules, "offers", raising=False)
        points = [EntryPoint(name, f"offers:{name}", "rigidbench.test-things") for name in names]
        monkeypatch.setattr("methods.registry.entry_points", lambda group: points)

    return install


def test_a_package_adds_what_its_entry_points_name(package: Callable[..., None]) -> None:
    package("def plain(warped):\n    return 2.0\n", "plain")
    registry = Registry("penalty", "rigidbench.test-things")
    assert registry["plain"].load()(None) == 2.0
    assert registry["plain"].origin == "package offers:plain"


def test_a_package_may_decorate_what_it_adds(package: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    registry = MetricRegistry("metric", "rigidbench.test-things")
    monkeypatch.setattr("methods.registry.METRICS", registry)
    package(
        "from methods.registry import METRICS\n@METRICS.register('decorated', per='case', unit='mm')\n"
        "def decorated(e):\n    return 1.0\n",
        "decorated",
    )
    assert registry.columns() == {"decorated": Column("decorated", "case", unit="mm", metric=True)}
    assert registry["decorated"].origin == "package offers:decorated"


@pytest.mark.parametrize("text", ["", "def broken(a, b):\n    return 0\n"])
def test_a_package_that_cannot_be_used_is_named_each_time(package: Callable[..., None], text: str) -> None:
    package(text, "broken")
    registry = MetricRegistry("metric", "rigidbench.test-things")
    for _ in range(2):
        with pytest.raises(ValueError, match="package offers:broken: expected metric 'broken' at offers:broken, got"):
            list(registry)


def test_a_metric_declares_its_column() -> None:
    registry = MetricRegistry("metric", "rigidbench.test-metrics")

    @registry.register("gap_mm", per="vertebra", unit="mm", title="Gap", better="lower")
    def gap_mm(evaluation: Any) -> list[float]:
        """Width of the gap.

        More about it.
        """
        return []

    expected = Column("gap_mm", "vertebra", "Float64", "mm", "Gap", "lower", "Width of the gap.", metric=True)
    assert registry.columns() == {"gap_mm": expected}


def test_a_metric_may_be_given_its_column() -> None:
    registry = MetricRegistry("metric", "rigidbench.test-metrics")
    column = Column("gap_mm", "vertebra", unit="mm")
    registry.register("gap_mm", column=column)(lambda evaluation: [])
    assert registry.columns()["gap_mm"].unit == "mm"


def test_a_metric_without_title_has_its_name_as_title() -> None:
    registry = MetricRegistry("metric", "rigidbench.test-metrics")
    registry.register("gap", per="case")(lambda evaluation: 0)
    column = registry.columns()["gap"]
    assert (column.title, column.unit, column.better) == ("gap", "", None)


def mean_of(evaluation: Any, other: Any) -> float:
    """A function that no evaluation can be given to."""
    return 0.0


@pytest.mark.parametrize(
    ("function", "declared", "message"),
    [
        (abs, {}, "metric 'x': expected per='vertebra' or per='case' and .*, got none"),
        (abs, {"per": "patient"}, "metric 'x': .*per: expected one of 'vertebra', 'case', got 'patient'"),
        (abs, {"per": "case", "units": "mm"}, "metric 'x': expected per=.*, got per, units"),
        (abs, {"per": "case", "better": "up"}, "metric 'x': .*better: expected one of 'higher', .*, got 'up'"),
        (abs, {"per": "case", "dtype": "string"}, "metric 'x': dtype: expected 'Float64', .*, got 'string'"),
        (abs, {"per": "case", "unit": None}, "metric 'x': .*unit: expected text, got None"),
        (abs, {"column": Column("y", "case")}, "metric 'x': column: expected this name, got 'y'"),
        (abs, {"column": Column("x", "case"), "unit": "mm"}, "metric 'x': expected a column or its fields, got both"),
        (mean_of, {"per": "case"}, "metric 'x': expected a function of one Evaluation, got .*mean_of"),
        (3, {"per": "case"}, "metric 'x': expected a function of one Evaluation, got 3"),
    ],
)
def test_a_wrong_metric_is_refused_in_one_line(function: Any, declared: dict[str, Any], message: str) -> None:
    registry = MetricRegistry("metric", "rigidbench.test-metrics")
    with pytest.raises(ValueError, match=message) as error:
        registry.register("x", **declared)(function)
    assert "\n" not in str(error.value)
    assert list(registry) == []


def test_every_built_in_metric_declares_title_and_description() -> None:
    for name, column in METRICS.columns().items():
        if METRICS[name].origin == "built in":
            assert column.title != name and column.description
