"""Checkpoints and initial weights."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.short_training import QUICK, same

from methods.base import Case, Pair, Progress
from methods.voxelmorph import checkpoint
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.trainer import NETWORK, train
from methods.voxelmorph.variants import WEIGHTS_FOLDER


def test_a_checkpoint_of_other_settings_or_patients_is_refused(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    train(pairs, cases[:1], tmp_path / "a", QUICK, 1, Progress(), until=4)
    tensors = load_file(tmp_path / "a" / checkpoint.NAME)
    weights = len(VelocityUNet().state_dict())
    assert {part: sum(k.startswith(f"{part}.") for k in tensors) for part in ("network", "average", "optimiser")} == {
        "network": weights, "average": weights, "optimiser": 3 * weights,
    }  # fmt: skip
    for change, seed, names in (
        ({"smoothness": 2.0, "lr": 1.0}, 1, "smoothness, lr"),
        ({"similarity": "ngf"}, 1, "similarity"),
        ({"penalties": {}}, 1, "penalties"),
        ({}, 2, "seed"),
    ):
        with pytest.raises(ValueError, match=f"its checkpoint has other {names}; choose another folder"):
            train(pairs, cases[:1], tmp_path / "a", replace(QUICK, **change), seed, Progress())
    with pytest.raises(ValueError, match="has other patients"):
        train(pairs[:2], cases[:1], tmp_path / "a", QUICK, 1, Progress())
    train(pairs, cases[:1], tmp_path / "a", replace(QUICK, steps=5), 1, Progress())


def test_the_running_average_of_the_weights_is_kept(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    settings = replace(QUICK, steps=3, penalties={})
    state = train(pairs, cases[:1], tmp_path / "a", settings, 1, Progress())
    kept = load_file(tmp_path / "a" / NETWORK)
    name = "velocity.weight"
    assert torch.equal(kept[name], state.average[name])
    assert not torch.equal(kept[name], state.network.state_dict()[name])
    # Expected: the average of the weights after each step; the share of the former average is 1/10, 2/11 and 3/12.
    expected = checkpoint.initial_state(settings, 1).network.state_dict()[name].clone()
    for step, share in ((1, 0.1), (2, 2 / 11), (3, 3 / 12)):
        weights = train(pairs, cases[:1], tmp_path / f"to-{step}", settings, 1, Progress(), until=step)
        expected = share * expected + (1 - share) * weights.network.state_dict()[name]
    torch.testing.assert_close(kept[name], expected)
    off = train(pairs, cases[:1], tmp_path / "off", replace(settings, ema=0.0), 1, Progress())
    assert not off.average
    assert torch.equal(load_file(tmp_path / "off" / NETWORK)[name], off.network.state_dict()[name])


def test_unusable_initial_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "w.safetensors"
    with pytest.raises(
        ValueError, match=r"training.start: expected weights with a card beside them, found no .*w.safe"
    ):
        checkpoint.initial_state(replace(QUICK, start=str(file)), 0)
    save_file({"other": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"found no .*w.json"):
        checkpoint.initial_state(replace(QUICK, start=str(file)), 0)
    file.with_suffix(".json").write_text("{}")
    with pytest.raises(ValueError, match="holds no network of this kind"):
        checkpoint.initial_state(replace(QUICK, start=str(file)), 0)
    file.write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no network of this kind"):
        checkpoint.initial_state(replace(QUICK, start=str(file)), 0)


def test_a_row_s_name_starts_from_its_released_weights() -> None:
    released = load_file(WEIGHTS_FOLDER / "pc.safetensors")
    state = checkpoint.initial_state(replace(QUICK, start="pc"), 0)
    assert all(torch.equal(value, released[k].float()) for k, value in state.network.state_dict().items())


def test_a_checkpoint_with_former_names_is_resumed(cases: list[Case], pairs: list[Pair], tmp_path: Path) -> None:
    """Older checkpoints call shrink_factor coarsening and final_layer_std start_sd."""
    train(pairs, cases[:1], tmp_path, QUICK, 1, Progress(), until=2)
    file = tmp_path / checkpoint.NAME
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    settings = json.loads(metadata["settings"])
    settings["coarsening"], settings["start_sd"] = settings.pop("shrink_factor"), settings.pop("final_layer_std")
    save_file(load_file(file), file, {**metadata, "settings": json.dumps(settings)})
    with pytest.raises(ValueError, match="its checkpoint has other shrink_factor; choose another folder"):
        train(pairs, cases[:1], tmp_path, replace(QUICK, shrink_factor=2), 1, Progress(), until=3)
    assert train(pairs, cases[:1], tmp_path, QUICK, 1, Progress(), until=3).step == 3


def test_a_checkpoint_from_before_the_stages_continues_with_the_same_bits(
    cases: list[Case], pairs: list[Pair], tmp_path: Path
) -> None:
    """Older checkpoints know no stages, and their optimiser's moments are named after Adam."""
    for name in ("new", "old"):
        train(pairs, cases[:1], tmp_path / name, QUICK, 1, Progress(), until=2)
    file = tmp_path / "old" / checkpoint.NAME
    with safe_open(file, "pt") as opened:
        metadata = opened.metadata()
    settings = json.loads(metadata["settings"])
    for added in ("stages", "supervision", "least_following", "background"):
        del settings[added]
    del metadata["stage"]
    tensors = {key.replace("optimiser.", "adam."): value for key, value in load_file(file).items()}
    save_file(tensors, file, {**metadata, "settings": json.dumps(settings)})
    for name in ("new", "old"):
        train(pairs, cases[:1], tmp_path / name, QUICK, 1, Progress(), until=3)
    assert same(tmp_path / "new" / checkpoint.NAME, file)
