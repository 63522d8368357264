"""Short trainings: settings, a progress that records and pauses, and the comparison of two results."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file

from methods.base import Preview, Progress
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import Training
from methods.voxelmorph.stages import Stage

QUICK = Training(steps=10, shrink_factor=1, patch=(16, 32, 32), lr=1e-3, warm_up=2, validate_every=3,
                 checkpoint_every=2, precision="fp32", ema=0.9, penalties={"pc": 0.5})  # fmt: skip
CHANGES = {"steps": 10, "shrink_factor": 1, "patch": [16, 32, 32], "lr": 1e-3, "warm_up": 2, "validate_every": 5,
           "checkpoint_every": 3, "precision": "fp32", "ema": 0.9, "stages": []}  # fmt: skip
# One, two and three steps before the paper's loss, with items of every kind.
SHORT_STAGES = (
    Stage("read", 1, warm_up=0, patch=(16, 32, 32)),
    Stage("compare", 2, warm_up=0, patch=(16, 32, 32), items={"synthetic": 1, "moved": 1}, displacement=(0.1, 0.4),
          head_first=1),
    Stage("distil", 3, warm_up=0, patch=(16, 32, 32), items={"moved": 1, "taught": 1}, displacement=(1.0, 1.0),
          optimiser="muon"),
)  # fmt: skip


def same(a: Path, b: Path, part: str = "") -> bool:
    """Whether two safetensors files have the same bits in all tensors, or in those whose names start with `part`."""
    left, right = ({k: v for k, v in load_file(f).items() if k.startswith(part)} for f in (a, b))
    assert left and left.keys() == right.keys()
    return all(torch.equal(v, right[k]) for k, v in left.items())


def strong_network(seed: int = 0) -> VelocityUNet:
    """A network whose velocity is several voxels long, so that differences are visible."""
    torch.manual_seed(seed)
    return VelocityUNet(final_layer_std=0.1)


class Recorder(Progress):
    """Records every report, and ends the training's time after `steps` steps."""

    def __init__(self, steps: int | None = None) -> None:
        self.left, self.lines, self.steps = steps, list[str](), list[tuple[str, int]]()
        self.previews: list[Preview | None] = []

    def __call__(self, line: str) -> None:
        self.lines.append(line)

    def step(self, run: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        self.steps.append((run, done))
        self.left = None if self.left is None else self.left - 1

    def validated(self, run: str, done: int, values: Mapping[str, float], preview: Preview | None) -> None:
        self.previews.append(preview)

    def out_of_time(self) -> bool:
        return self.left is not None and self.left <= 1
