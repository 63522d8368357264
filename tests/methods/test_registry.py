"""Adding things by name: decorator, `module:attribute`, file; and what is refused."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from methods.base import Method
from methods.registry import METHODS, Registry, UnknownName, create_method, load_plugin


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(UnknownName, match="did you mean 'voxelmorph'"):
        create_method("voxelmorf")


def test_a_plugin_file_adds_a_method_and_is_recorded_as_its_origin(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from methods.base import Method\nfrom methods.initial import Initial\nfrom methods.registry import METHODS\n"
        "@METHODS.register('mine-for-test')\nclass Mine(Initial):\n    '''Mine.'''\n"
    )
    load_plugin(file)
    assert METHODS["mine-for-test"].origin == str(file)
    assert METHODS["mine-for-test"].summary == "Mine."
    assert isinstance(create_method("mine-for-test"), Method)


def test_an_installed_package_adds_what_it_decorates_or_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "offers.py").write_text(
        "from methods.registry import METRICS\n@METRICS.register('decorated', per='case')\ndef decorated(e):\n"
        "    return 1.0\ndef plain(e):\n    return 2.0\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    registry = Registry("metric", "rigidbench.test-metrics")
    monkeypatch.setattr("methods.registry.METRICS", registry)
    points = [EntryPoint(n, f"offers:{n}", registry.group) for n in ("decorated", "plain")]
    monkeypatch.setattr("methods.registry.entry_points", lambda group: points)
    decorated = registry["decorated"]
    assert decorated.settings == {"per": "case"} and decorated.origin == "package offers:decorated"
    assert registry["plain"].load()(None) == 2.0
    broken = Registry("metric", "rigidbench.test-metrics")
    points[:] = [EntryPoint("gone", "offers:gone", registry.group)]
    for _ in range(2):
        with pytest.raises(ValueError, match="package offers:gone: expected metric 'gone' at offers:gone"):
            list(broken)


def test_a_missing_plugin_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nothing at .*absent\.py"):
        load_plugin(tmp_path / "absent.py")


def test_a_taken_name_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "thief.py"
    file.write_text("from methods.registry import METHODS\nMETHODS.add('initial', object)\n")
    with pytest.raises(ValueError, match="'initial' is already registered"):
        load_plugin(file)


def test_given_settings_go_over_the_entrys_own() -> None:
    registry = Registry("thing", "rigidbench.test-things")
    registry.add("a", lambda name, **settings: (name, settings), {"x": 1, "y": 2})
    assert registry.create("a", {"y": 3}) == ("a", {"x": 1, "y": 3})
