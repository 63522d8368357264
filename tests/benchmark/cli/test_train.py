"""`train`: rows by name or from YAML, pauses, and requests that are refused."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType

import pytest
import torch
import yaml
from support.command_line import invoke
from support.training import LEARNER
from support.training import train as train_blocks
from typer.testing import Result


@pytest.fixture(autouse=True)
def _one_thread(learner: ModuleType) -> None:
    """Volumes are small; the plugin is registered in this process too."""
    torch.set_num_threads(1)


def train(out: Path, *more: object) -> Result:
    """A short training of the paper's loss on `blocks`."""
    return train_blocks(out, "--profile", "from-scratch", *more)


def test_rows_share_one_trunk(tmp_path: Path) -> None:
    result = train(tmp_path, "--methods", "voxelmorph,pc", "--steps", 5)
    assert result.exit_code == 0, result.output
    assert result.output.count("validation DSC before training") == 1
    assert result.output.startswith("Loading the patients ...\n"), "the first step comes minutes later"
    steps = {
        n: json.loads((tmp_path / n / f"{n}.json").read_text(encoding="utf-8"))["steps"] for n in ("voxelmorph", "pc")
    }
    assert steps["voxelmorph"] == steps["pc"] == {"all": 5, "with_penalties_from": 4}
    assert (tmp_path / "pictures" / "pc" / "000005.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "trunk" / "checkpoint.safetensors").stat().st_mtime_ns
    assert train(tmp_path, "--methods", "pc,oc", "--steps", 5).exit_code == 0
    assert (tmp_path / "trunk" / "checkpoint.safetensors").stat().st_mtime_ns == before
    assert (tmp_path / "oc" / "oc.safetensors").is_file()


def test_out_of_time_is_status_0_and_the_same_command_continues(tmp_path: Path) -> None:
    for step in (1, 2):
        result = train(tmp_path, "--methods", "pc", "--steps", 4, "--minutes", 0)
        line = f"Time is up: trunk has done {step} of 4 steps. The same command continues"
        assert result.exit_code == 0 and line in result.output.replace("\n", ""), result.output
    # The third step ends the trunk; the fourth belongs to the row.
    assert train(tmp_path, "--methods", "pc", "--steps", 4, "--minutes", 0).exit_code == 0
    assert train(tmp_path, "--methods", "pc", "--steps", 4).exit_code == 0
    assert (tmp_path / "pc" / "pc.safetensors").is_file()


def test_a_row_from_yaml_with_a_plugin_s_penalty_is_trained_and_run(tmp_path: Path) -> None:
    settings = {"penalties": {"pc": 0.01, "my-penalty": 0.1}, "profile": "from-scratch"}
    row = {"method": "voxelmorph", "name": "mine", "settings": settings}
    config = tmp_path / "mine.yaml"
    content = {"dataset": {"name": "blocks"}, "methods": ["initial", row], "threads": 1}
    config.write_text(yaml.safe_dump(content))
    untrained = invoke("run", "--plugin", LEARNER, "--config", config, "--out", tmp_path / "before")
    output = " ".join(untrained.output.split())
    assert untrained.exit_code == 0 and "train --config FILE --methods mine" in output, untrained.output
    out = tmp_path / "training"
    result = invoke("train", "--plugin", LEARNER, "--config", config, "--methods", "mine", "--out", out, "--steps", 3)
    assert result.exit_code == 0, result.output
    card = json.loads((out / "mine" / "mine.json").read_text(encoding="utf-8"))
    assert card["training"]["penalties"] == {"pc": 0.01, "my-penalty": 0.1} and card["validation"][-1]["my-penalty"] > 0
    row["settings"]["weights"] = os.path.relpath(out / "mine" / "mine.safetensors")
    config.write_text(yaml.safe_dump(content))
    trained = invoke("run", "--plugin", LEARNER, "--config", config, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    cell = json.loads(next((tmp_path / "run" / "cells" / "mine@cpu").glob("*.json")).read_text(encoding="utf-8"))
    assert cell["case"]["status"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--methods", "pcc"], "unknown method 'pcc'; did you mean 'pc'?"),
        (["--profile", "gpu"], "profile: expected one of cpu, from-scratch, paper, got 'gpu'"),
        (["--device", "tpu"], "training.device: expected one of cpu, cuda, got 'tpu'"),
        (["--config", "nowhere.yaml"], "found no nowhere.yaml"),
        (
            ["--sweep", "--profile", "gpu"],
            "train --sweep: profile: expected one of cpu, from-",
        ),
        (["--methods", ","], "--methods: expected the names of rows to train, separated by commas, got none"),
        (["--dataset", "folders"], "dataset folders: dir: Field required"),
    ],
)
def test_a_wrong_request_is_one_line_and_trains_nothing(arguments: list[str], line: str, tmp_path: Path) -> None:
    result = train(tmp_path / "out", *arguments)
    assert result.exit_code == 2 and line in result.stderr and len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_an_unknown_penalty_is_refused_before_the_trunk_is_trained(tmp_path: Path) -> None:
    config = tmp_path / "mine.yaml"
    row = {"method": "voxelmorph", "name": "mine", "settings": {"penalties": {"rigid-dise": 1}}}
    config.write_text(yaml.safe_dump({"dataset": {"name": "blocks"}, "methods": [row]}))
    result = train(tmp_path / "out", "--config", config, "--methods", "mine")
    assert result.exit_code == 2 and "did you mean 'rigid-dice'?" in result.stderr
    assert not (tmp_path / "out" / "trunk").exists()


def staged(tmp_path: Path, teacher: str) -> Path:
    """A configuration of two rows with all stages, a step each."""
    stages = [
        {"name": name, "steps": 1, "patch": [16, 16, 16], "teacher": teacher} for name in ("read", "compare", "distil")
    ]
    training = {"stages": stages, "steps": 6, "shrink_factor": 1, "patch": [16, 16, 16], "least_following": 0}
    rows = [{"method": "voxelmorph", "name": name, "settings": {"penalties": penalties, "training": training}}
            for name, penalties in (("base", {}), ("mine", {"pc": 0.1}))]  # fmt: skip
    config = tmp_path / "staged.yaml"
    config.write_text(yaml.safe_dump({"dataset": {"name": "blocks"}, "methods": rows}))
    return config


def test_one_command_trains_all_stages_and_the_rows_from_one_trunk(tmp_path: Path) -> None:
    config, out = staged(tmp_path, "initial"), tmp_path / "out"
    result = train_blocks(out, "--config", config, "--methods", "base,mine")
    assert result.exit_code == 0, result.output
    cards = [json.loads((out / n / f"{n}.json").read_text(encoding="utf-8")) for n in ("base", "mine")]
    assert [card["steps"] for card in cards] == [{"all": 6, "with_penalties_from": 5}] * 2
    assert [stage["name"] for stage in cards[0]["training"]["stages"]] == ["read", "compare", "distil"]
    lines = cards[1]["deviations_from_the_paper"]
    assert any("displacements of initial on training pairs, found without fixed labels" in line for line in lines)


def test_a_teacher_that_is_unknown_is_refused_before_the_trunk_is_trained(tmp_path: Path) -> None:
    result = train_blocks(tmp_path / "out", "--config", staged(tmp_path, "initail"), "--methods", "base")
    assert result.exit_code == 2 and "did you mean 'initial'?" in result.stderr
    assert not (tmp_path / "out" / "trunk").exists()
