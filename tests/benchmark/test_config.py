"""Configurations: what is accepted, and the one line for what is not."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmark.cli.requests import parse_dataset, request
from benchmark.config import config_names, load_config, make_config
from benchmark.errors import BadInput

GOOD = {"dataset": {"name": "phantom"}, "methods": ["initial"]}


@pytest.mark.parametrize("name", config_names())
def test_built_in_configurations_are_valid(name: str) -> None:
    config = load_config(name)
    assert make_config(yaml.safe_load(config.to_yaml()), "again") == config


def test_a_row_is_a_name_or_a_method_with_settings() -> None:
    rows = ["initial", {"method": "voxelmorph", "name": "strong", "settings": {"penalties": {"pc": 0.1}}}]
    config = make_config({**GOOD, "methods": rows}, "test")
    assert [(m.name, m.method) for m in config.methods] == [("initial", "initial"), ("strong", "voxelmorph")]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"repeat": 2}, "unknown key 'repeat'; did you mean 'repeats'?"),
        ({"devices": ["cpu", "cpu"]}, "devices: expected each once, got cpu, cpu"),
        ({"methods": ["inital"]}, "unknown method 'inital'; did you mean 'initial'?"),
        ({"methods": []}, "methods: List should have at least 1 item"),
        ({"methods": ["initial", "initial"]}, "got initial more than once"),
        (
            {"methods": ["initial", {"method": "initial", "name": "again", "of": "initial"}]},
            "got initial with seed 0 more than once; say which in `seed`",
        ),
        (
            {"methods": [{"method": "initial", "seed": -1}]},
            "methods.0.seed: Input should be greater than or equal to 0",
        ),
        ({"dataset": {"name": "fantom"}}, "unknown dataset 'fantom'; did you mean 'phantom'?"),
        ({"dataset": {"name": "phantom", "split": "tset"}}, "dataset.split: Input should be 'train', 'val' or 'test'"),
        ({"dataset": {"name": "phantom", "split": "tset"}}, "got 'tset'; did you mean 'test'?"),
        ({"devices": ["gpu"]}, "devices.0: Input should be 'cpu' or 'cuda', got 'gpu'"),
        ({"devices": ["cdua"]}, "got 'cdua'; did you mean 'cuda'?"),
        ({"memory_limit": 2}, "unknown key 'memory_limit'; did you mean 'memory_limit_gb'?"),
        (
            {"methods": [{"method": "initial", "setings": {}}]},
            "unknown key 'methods.0.setings'; did you mean 'settings'?",
        ),
        ({"repeats": "three"}, "repeats: Input should be a valid integer"),
    ],
)
def test_a_mistake_is_one_line_that_names_it(change: dict, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_config({**GOOD, **change}, "--config x")
    assert message in str(caught.value) and str(caught.value).startswith("--config x: ")
    assert "\n" not in str(caught.value)


def test_a_key_in_the_wrong_place_is_not_offered_as_itself() -> None:
    with pytest.raises(BadInput) as caught:
        make_config({**GOOD, "limit": 5}, "--config x")
    assert "unknown key 'limit'" in str(caught.value) and "mean 'limit'" not in str(caught.value)


def test_a_file_that_is_no_configuration(tmp_path: Path) -> None:
    file = tmp_path / "c.yaml"
    for content, message in (
        ("a:\n  [", "expected YAML, line 2, column 4: expected the node content"),
        ("- a", "expected keys and values, got list"),
    ):
        file.write_text(content)
        with pytest.raises(BadInput, match=message):
            load_config(str(file))
    with pytest.raises(BadInput, match=r"expected a YAML file or one of classical, quick, seeds, table1"):
        load_config("tabel1")


def test_options_go_over_the_configuration() -> None:
    config = request("quick", "initial,voxelmorph", "folders:some dir", "cpu", 3, True, [])
    assert [m.name for m in config.methods] == ["initial", "voxelmorph"]
    assert config.dataset.settings == {"dir": "some dir"} and config.dataset.limit == 3 and config.save_fields


def test_a_dataset_argument_where_none_is_taken() -> None:
    with pytest.raises(BadInput, match="phantom takes nothing after the colon"):
        parse_dataset("phantom:x")
    with pytest.raises(BadInput, match="did you mean 'folders'"):
        parse_dataset("folder:x")
