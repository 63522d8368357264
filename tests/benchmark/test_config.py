"""Configurations: valid content, and one line for each mistake."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from benchmark.config import config_names, load_config, make_config
from benchmark.errors import BadInput
from methods.voxelmorph.variants import VARIANTS

GOOD = {"dataset": {"name": "phantom"}, "methods": ["initial"]}


@pytest.mark.parametrize("name", config_names())
def test_built_in_configurations_are_valid(name: str) -> None:
    config = load_config(name)
    assert make_config(yaml.safe_load(config.to_yaml()), "again") == config


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_file_is_read_as_editors_save_it(tmp_path: Path, encoding: str) -> None:
    text = "dataset: {name: phantom}\r\nmethods: [initial]\r\n"
    (tmp_path / "c.yaml").write_bytes(text.encode(encoding))
    assert load_config(str(tmp_path / "c.yaml")) == make_config(GOOD, "test")


def test_a_dataset_may_be_a_name_alone() -> None:
    assert make_config({**GOOD, "dataset": "phantom"}, "test") == make_config(GOOD, "test")


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
            "got initial with seed 0 more than once; set `seed` of each",
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
def test_a_mistake_is_one_line_that_names_the_key(change: dict, message: str) -> None:
    with pytest.raises(BadInput) as caught:
        make_config({**GOOD, **change}, "--config x")
    assert message in str(caught.value) and str(caught.value).startswith("--config x: ")
    assert "\n" not in str(caught.value)


def test_a_misplaced_key_is_not_suggested_again() -> None:
    with pytest.raises(BadInput) as caught:
        make_config({**GOOD, "limit": 5}, "--config x")
    assert "unknown key 'limit'" in str(caught.value) and "mean 'limit'" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a:\n  [", "expected YAML, line 2, column 4: expected the node content"),
        ("- a", "expected keys and values, got list"),
    ],
)
def test_a_file_that_holds_no_configuration_is_refused(tmp_path: Path, content: str, message: str) -> None:
    file = tmp_path / "c.yaml"
    file.write_text(content)
    with pytest.raises(BadInput, match=message):
        load_config(str(file))


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(BadInput, match=r"expected a YAML file or one of classical, curves, quick, seeds, table1"):
        load_config("tabel1")


def test_table_1_has_every_deep_row() -> None:
    assert set(VARIANTS) <= {m.name for m in load_config("table1").methods}
