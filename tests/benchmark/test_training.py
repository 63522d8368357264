"""`train` as a user meets it: rows by name or from YAML, pieces, pictures, and the tuning."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from rich.console import Console
from safetensors.torch import load_file
from typer.testing import CliRunner, Result

from benchmark.cli.progress import TrainingBar
from benchmark.config import load_config
from methods.base import Preview
from methods.voxelmorph.variants import VARIANTS
from reports.figures.training import draw_preview
from run_benchmark import app

PLUGIN = Path(__file__).resolve().parents[1] / "plugins" / "learner.py"


@pytest.fixture(autouse=True)
def _one_thread(learner: ModuleType) -> None:
    """Small volumes; the plugin is there for this process too."""
    torch.set_num_threads(1)


def invoke(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def train(out: Path, *more: object) -> Result:
    return invoke("train", "--plugin", PLUGIN, "--dataset", "blocks", "--out", out, *more)


def test_the_trunk_is_trained_once_and_every_method_branches_from_it(tmp_path: Path) -> None:
    result = train(tmp_path, "--methods", "voxelmorph,pc", "--steps", 5)
    assert result.exit_code == 0, result.output
    assert result.output.count("validation DSC before training") == 1, "one trunk for both"
    steps = {
        n: json.loads((tmp_path / n / f"{n}.json").read_text(encoding="utf-8"))["steps"] for n in ("voxelmorph", "pc")
    }
    assert steps["voxelmorph"] == steps["pc"] == {"all": 5, "with_penalties_from": 4}
    assert (tmp_path / "pictures" / "pc" / "000005.png").read_bytes().startswith(b"\x89PNG")
    before = (tmp_path / "trunk" / "checkpoint.safetensors").stat().st_mtime_ns
    assert train(tmp_path, "--methods", "pc,oc", "--steps", 5).exit_code == 0
    assert (tmp_path / "trunk" / "checkpoint.safetensors").stat().st_mtime_ns == before
    assert (tmp_path / "oc" / "oc.safetensors").is_file()
    refused = invoke("train", "--plugin", PLUGIN, "--dataset", "phantom", "--out", tmp_path)
    assert refused.exit_code == 2 and "expected the data it was begun with" in refused.stderr


def test_time_that_is_up_ends_with_status_0_and_the_next_call_goes_on(tmp_path: Path) -> None:
    for done in (1, 2, 3):
        result = train(tmp_path, "--methods", "pc", "--steps", 4, "--minutes", 0)
        line = f"Time is up: {'trunk' if done < 4 else 'pc'} has done {done} of 4 steps. The same command goes on"
        if done < 3:
            assert result.exit_code == 0 and line in result.output.replace("\n", ""), result.output
    # The third step ended the trunk; the fourth is the variant's.
    assert train(tmp_path, "--methods", "pc", "--steps", 4).exit_code == 0
    assert (tmp_path / "pc" / "pc.safetensors").is_file()


def test_a_variant_of_ones_own_is_yaml_and_a_penalty_one_function(tmp_path: Path) -> None:
    row = {"method": "voxelmorph", "name": "mine", "settings": {"penalties": {"pc": 0.01, "my-penalty": 0.1}}}
    config = tmp_path / "mine.yaml"
    content = {"dataset": {"name": "blocks"}, "methods": ["initial", row], "threads": 1}
    config.write_text(yaml.safe_dump(content))
    untrained = invoke("run", "--plugin", PLUGIN, "--config", config, "--out", tmp_path / "before")
    said = " ".join(untrained.output.split())
    assert untrained.exit_code == 0 and "train --config FILE --methods mine" in said, untrained.output
    out = tmp_path / "training"
    result = invoke("train", "--plugin", PLUGIN, "--config", config, "--methods", "mine", "--out", out, "--steps", 3)
    assert result.exit_code == 0, result.output
    card = json.loads((out / "mine" / "mine.json").read_text(encoding="utf-8"))
    assert card["training"]["penalties"] == {"pc": 0.01, "my-penalty": 0.1} and card["validation"][-1]["my-penalty"] > 0
    row["settings"]["weights"] = os.path.relpath(out / "mine" / "mine.safetensors")
    config.write_text(yaml.safe_dump(content))
    trained = invoke("run", "--plugin", PLUGIN, "--config", config, "--out", tmp_path / "run")
    assert trained.exit_code == 0, trained.output
    cell = json.loads(next((tmp_path / "run" / "cells" / "mine@cpu").glob("*.json")).read_text(encoding="utf-8"))
    assert cell["case"]["status"] == "ok"


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--methods", "pcc"], "unknown method 'pcc'; did you mean 'pc'?"),
        (["--profile", "gpu"], "profile: expected one of cpu, paper, got 'gpu'"),
        (["--device", "tpu"], "training.device: expected one of cpu, cuda, got 'tpu'"),
        (["--config", "nowhere.yaml"], "found no nowhere.yaml"),
        (["--sweep", "--profile", "gpu"], "train --sweep: profile: expected one of cpu, paper, got 'gpu'"),
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


def test_the_sweep_compares_similarities_then_smoothness_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.sweep.sweep.__defaults__", ((0.3, 1.0),))
    arguments = ("--sweep", "--steps", 4, "--val-limit", 1)
    paused = train(tmp_path, *arguments, "--minutes", 0)
    assert paused.exit_code == 0, paused.stderr
    assert "Time is up" in paused.output and not (tmp_path / "sweep.md").exists()
    result = train(tmp_path, *arguments)
    assert result.exit_code == 0 and "sweep.md" in result.output, result.output
    table = pd.read_parquet(tmp_path / "sweep.parquet")
    assert list(zip(table["similarity"], table["smoothness"], strict=True)) == [
        ("mind", 1.0), ("nmi", 1.0), ("ngf", 1.0), ("mind", 0.3),
    ]  # fmt: skip
    assert table[["dsc", "sd_log_jacobian", "dsc_before"]].notna().all(axis=None) and (table["steps"] == 4).all()
    text = (tmp_path / "sweep.md").read_text(encoding="utf-8")
    assert text.count("| mind |") == 2 and text.count("**") == 2 * (table["dsc"] == table["dsc"].max()).sum()
    for name in ("sweep.csv", "sweep.png", "sweep.pdf"):
        assert (tmp_path / name).stat().st_size > 100


def test_table_1_has_every_deep_row_and_says_which_have_no_weights_yet() -> None:
    assert set(VARIANTS) <= {m.name for m in load_config("table1").methods}
    result = invoke("list", "methods")
    listed = result.output.replace("\n", " ")
    assert result.exit_code == 0 and all(f" {name} " in f" {listed}" for name in VARIANTS)
    assert all(name in invoke("list", "penalties").output for name in ("rigid-dice", "rigid-field", "volume"))


def preview() -> Preview:
    labels = np.zeros((20, 30), np.uint16)
    labels[5:12, 8:20] = 20
    return Preview(labels / 20.0, labels / 40.0, labels, np.roll(labels, 2), 1.5)


def test_a_picture_needs_no_label_and_takes_what_a_training_gives(tmp_path: Path) -> None:
    empty = np.zeros((20, 30))
    draw_preview(preview(), "pc, step 3", tmp_path / "a" / "b.png")
    draw_preview(Preview(empty, empty, empty, empty), "trunk, step 0", tmp_path / "a" / "c.png")
    assert (tmp_path / "a" / "b.png").stat().st_size > (tmp_path / "a" / "c.png").stat().st_size > 1000


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_gets_a_bar_with_losses_and_a_pipe_gets_lines(terminal: bool, tmp_path: Path) -> None:
    console = Console(force_terminal=terminal, width=140, record=True, file=(tmp_path / "out").open("w"))
    with TrainingBar(console, tmp_path, None, draw_preview) as bar:
        bar("a line")
        bar.step("pc", 1, 2, {"similarity": 0.125, "pc": 0.5})
        bar.validated("pc", 1, {"dsc": 0.7}, preview())
        bar.step("pc", 2, 2, {"similarity": 0.1, "pc": 0.5})
        assert not bar.out_of_time()
    text = console.export_text()
    assert "a line" in text and ("similarity 0.1" in text) == terminal
    assert (tmp_path / "pictures" / "pc" / "000001.png").is_file()


def test_curves_for_tensorboard_where_it_is_installed(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TrainingBar(Console(quiet=True), tmp_path, None, draw_preview) as bar:
        for done in (1, 2):
            bar.step("pc", done, 2, {"pc": done / 4})
    events = accumulator.EventAccumulator(str(tmp_path / "curves" / "pc"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/pc")] == [(1, 0.25), (2, 0.5)]


def test_weights_of_all_rows_together_are_small() -> None:
    """In half precision nine networks take 18 MB of the 25 that the repository allows."""
    shipped = Path(__file__).resolve().parents[2] / "methods" / "voxelmorph" / "weights"
    for file in shipped.glob("*.safetensors"):
        assert {v.dtype.itemsize for v in load_file(file).values()} <= {2, 4}
    assert sum(f.stat().st_size for f in shipped.iterdir()) < 25e6
