"""The weights and the card that a training writes."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from checks.retrain import bits, retrained
from safetensors.torch import load_file
from support.short_training import CHANGES, QUICK

from methods.base import Case, Pair, Progress
from methods.registry import create_method
from methods.voxelmorph import checkpoint
from methods.voxelmorph.card import export_trunk
from methods.voxelmorph.variants import VARIANTS, WEIGHTS_FOLDER


def test_fit_writes_usable_weights_and_a_card_that_describes_the_training(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    (tmp_path / "data.json").write_text('{"dataset": "blocks"}')
    method = create_method("pc", {"training": CHANGES})
    method.fit(pairs, cases[:1], tmp_path, 5, Progress())
    card = json.loads((tmp_path / "pc" / "pc.json").read_text())
    assert card["steps"] == {"all": 10, "with_penalties_from": 9} and card["profile"] == "cpu"
    assert card["data"]["dataset"] == "blocks" and card["data"]["train"] == 3 and card["seed"] == 5
    assert card["precision"] == "fp32" and card["device"].startswith("cpu, 1 threads") and card["version"]
    assert [h["step"] for h in card["validation"]] == [0, 5, 10] and card["chosen"]["step"] == 10
    deviations = card["deviations_from_the_paper"]
    assert (
        deviations[0] == "10 steps instead of 500 epochs of 2 crops a patient"
        and "smoothness 1.0 instead of 0.01" in deviations
    )
    change = abs(card["weights"]["dsc_float16"] - card["weights"]["dsc_float32"])
    dtype = load_file(tmp_path / "pc" / "pc.safetensors")["velocity.weight"].dtype
    assert dtype == (torch.float16 if change < 0.001 else torch.float32)
    trained = create_method(
        "voxelmorph", {"penalties": {"pc": None}, "weights": tmp_path / "pc" / "pc.safetensors"}, "x"
    )
    assert trained.unavailable("cpu") is None
    trained.prepare("cpu", 1, 0)
    trained.register(pairs[0]).check(pairs[0].grid)


def test_initial_weights_are_used_and_identified_in_the_card(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    create_method("voxelmorph", {"training": CHANGES}).fit(pairs, cases[:1], tmp_path / "first", 5, Progress())
    file = tmp_path / "first" / "voxelmorph" / "voxelmorph.safetensors"
    settings = replace(QUICK, start=str(file))
    begun = checkpoint.initial_state(settings, 0).network.state_dict()
    assert all(torch.equal(begun[k], v.float()) for k, v in load_file(file).items())
    again = {"training": {**CHANGES, "start": str(file)}}
    create_method("voxelmorph", again).fit(pairs, cases[:1], tmp_path / "second", 5, Progress())
    card = json.loads((tmp_path / "second" / "voxelmorph" / "voxelmorph.json").read_text())
    start = card["training"]["start"]
    assert start["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest() and start["card"]["steps"]["all"] == 10
    assert card["deviations_from_the_paper"].count("begun from other weights instead of random ones") == 1
    assert str(tmp_path) not in json.dumps(card), "the card contains no path of the machine"


def test_weights_that_half_precision_would_change_stay_float32(
    cases: list[Case], pairs: list[Pair], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from methods.voxelmorph import card

    scores = iter([0.8, 0.798])
    monkeypatch.setattr(card, "validate", lambda *_: ({"dsc": next(scores)}, None))
    create_method("pc", {"training": CHANGES}).fit(pairs, cases[:1], tmp_path, 0, Progress())
    assert load_file(tmp_path / "pc" / "pc.safetensors")["velocity.weight"].dtype == torch.float32


def test_a_new_card_has_the_present_names_of_settings(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    create_method("pc", {"training": CHANGES}).fit(pairs, cases[:1], tmp_path, 0, Progress())
    training = json.loads((tmp_path / "pc" / "pc.json").read_text())["training"]
    assert training["shrink_factor"] == 1 and training["final_layer_std"] == 1e-3
    assert "coarsening" not in training and "start_sd" not in training


def test_a_card_says_where_how_long_and_from_which_commit_it_was_trained(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    (tmp_path / "provenance.json").write_text('{"commit": "abc", "modified": false, "processor": "a CPU"}')
    (tmp_path / "data.json").write_text('{"dataset": "blocks", "fingerprint": "0123"}')
    few = {**CHANGES, "steps": 5, "validate_every": 5}
    create_method("pc", {"training": few}).fit(pairs, cases[:1], tmp_path, 0, Progress())
    card = json.loads((tmp_path / "pc" / "pc.json").read_text())
    assert (card["commit"], card["modified"], card["processor"]) == ("abc", False, "a CPU")
    assert card["data"]["fingerprint"] == "0123" and card["hours"] >= 0
    trunk = export_trunk(tmp_path / "trunk", tmp_path / "weights" / "trunk.safetensors")
    assert json.loads(trunk.with_suffix(".json").read_text())["steps"] == 4
    short = {"steps": 2, "validate_every": 2, "patch": [16, 32, 32], "shrink_factor": 1, "warm_up": 0}
    found = [retrained(trunk, pairs, cases[:1], tmp_path / str(k), short) for k in (0, 1)]
    assert found[0] == found[1] != bits(trunk), "the same bits from the trunk's weights, which the steps changed"


STEPS_PER_HOUR = 20_000  # no machine that trained the released weights was as fast


def test_the_released_cards_name_commit_data_and_hours_of_the_whole_training() -> None:
    """A training in pieces once had 0.08 hours in its card, the last piece alone."""
    cards = [file for file in WEIGHTS_FOLDER.glob("*.json") if file.with_suffix(".safetensors").is_file()]
    assert {file.stem for file in cards} == {*VARIANTS, "trunk"}
    for file in cards:
        card = json.loads(file.read_text(encoding="utf-8"))
        steps = card["steps"] if file.stem == "trunk" else card["steps"]["all"]
        assert card["hours"] > steps / STEPS_PER_HOUR, file.name
        assert card["commit"] and card["data"]["fingerprint"], file.name
        # The present trunk was trained in pieces from changed files, which its card says.
        assert card["modified"] is (file.stem == "trunk"), file.name
