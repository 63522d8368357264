"""Typed options become a checked request."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.command_line import refused

from benchmark.cli.requests import parse_dataset, parse_method, run_request
from benchmark.errors import BadInput


def test_options_replace_the_configuration_s_values() -> None:
    config = run_request("quick", "initial,voxelmorph", "folders:some dir", "cpu", 3, True, [])
    assert [m.name for m in config.methods] == ["initial", "voxelmorph"]
    assert config.dataset.settings == {"dir": "some dir"} and config.dataset.limit == 3 and config.save_fields


def test_a_dataset_argument_where_none_is_taken_is_refused() -> None:
    with pytest.raises(BadInput, match="phantom takes nothing after the colon"):
        parse_dataset("phantom:x")
    with pytest.raises(BadInput, match="did you mean 'folders'"):
        parse_dataset("folder:x")


def test_a_method_with_an_argument_is_a_row_named_after_both() -> None:
    assert parse_method("precomputed:some/where/mine/") == {
        "method": "precomputed",
        "name": "precomputed-mine",
        "settings": {"dir": "some/where/mine/"},
    }
    assert parse_method("initial") == {"method": "initial"}


@pytest.mark.parametrize(
    ("text", "message"),
    [("initial:x", "initial takes nothing after the colon"), ("precomputed:", "precomputed:DIR")],
)
def test_a_method_argument_that_cannot_be_used_is_refused(text: str, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        parse_method(text)


def test_an_unknown_method_with_an_argument_is_named() -> None:
    assert "unknown method 'precomputd'; did you mean 'precomputed'" in refused("run", "--methods", "precomputd:x")


def test_a_plugin_that_raises_is_named(tmp_path: Path) -> None:
    file = tmp_path / "broken.py"
    file.write_text("import no_such_module\n")
    line = refused("run", "--plugin", file, "--out", tmp_path / "out")
    assert str(file) in line and "no_such_module" in line


@pytest.mark.parametrize("command", ["run", "train"])
def test_a_plugin_that_a_configuration_alone_names_is_not_executed(tmp_path: Path, command: str) -> None:
    plugin, sign, config = tmp_path / "mine.py", tmp_path / "executed", tmp_path / "c.yaml"
    plugin.write_text(f"from pathlib import Path\nPath({str(sign)!r}).touch()\n")
    config.write_text(f"dataset: phantom\nmethods: [initial, sent-along]\nplugins: [{plugin}]\n")
    line = refused(command, "--config", config, "--out", tmp_path / "out")
    assert line.endswith(f"add --plugin {plugin}") and not sign.exists()


def test_a_configuration_may_name_the_plugins_that_the_command_names(tmp_path: Path) -> None:
    plugin, config = tmp_path / "nothing.py", tmp_path / "c.yaml"
    plugin.write_text("")
    config.write_text(f"dataset: phantom\nmethods: [initial]\nplugins: [{plugin}]\n")
    assert run_request(str(config), plugins=[plugin]).plugins == [plugin]
