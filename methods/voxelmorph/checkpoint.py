"""The state of a training: saved atomically, and loaded so that a resumed training equals an uninterrupted one."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from methods.atomic import atomic_write
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import Training, average_decay, changed, with_present_names

NAME = "checkpoint.safetensors"


@dataclass
class State:
    """A network in training.

    Attributes:
        network: with its present weights.
        optimiser: Adam, with its moments.
        average: running average of the weights by name; empty without averaging.
        step: number of finished steps.
        branched_at: step of the trunk from which this training branched off; 0 for none.
        history: one record per validation, including those of the trunk.
    """

    network: VelocityUNet
    optimiser: torch.optim.Adam
    average: dict[str, Tensor]
    step: int = 0
    branched_at: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def update_average(self, ema: float) -> None:
        """Update the running average by the present weights; ema: its decay."""
        share = 1 - average_decay(self.step, ema)
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if name in self.average:
                    self.average[name].lerp_(value, share)

    def weights(self) -> dict[str, Tensor]:
        """The weights that are validated and kept, on the CPU: the running average if there is one."""
        source = self.average or self.network.state_dict()
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in source.items()}


def initial_state(settings: Training, seed: int) -> State:
    """The state before the first step, with random weights or those of `settings.start`.

    Raises:
        ValueError: the file of `settings.start` is missing, has no card beside it, or holds no network of this kind.
    """
    torch.manual_seed(seed)
    network = VelocityUNet(settings.final_layer_std)
    if settings.start is not None:
        file = Path(settings.start)
        for needed in (file, file.with_suffix(".json")):
            if not needed.is_file():
                raise ValueError(f"training.start: expected weights with a card beside them, found no {needed}")
        try:
            network.load_state_dict({k: v.float() for k, v in load_file(file).items()})
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"training.start: {file} holds no network of this kind: {error}") from error
    network = network.to(device=settings.device)
    average = {k: v.clone() for k, v in network.state_dict().items()} if settings.ema else {}
    return State(network, torch.optim.Adam(network.parameters(), lr=settings.lr), average)


def save(workdir: Path, state: State, settings: Training, facts: Mapping[str, Any]) -> None:
    """Write the checkpoint and the history of validations into `workdir`.

    Args:
        workdir: folder of the training.
        state: to save.
        settings: of the training.
        facts: other values that determine the result, by name, such as the seed.
    """
    tensors = {f"network.{k}": v for k, v in state.network.state_dict().items()}
    tensors |= {f"average.{k}": v for k, v in state.average.items()}
    for i, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{i}.{k}": v for k, v in moments.items()}
    record = {
        "step": state.step,
        "branched_at": state.branched_at,
        "history": state.history,
        "settings": asdict(settings),
        "facts": dict(facts),
    }
    metadata = {k: json.dumps(v) for k, v in record.items()}
    atomic_write(workdir / NAME, partial(save_file, tensors, metadata=metadata))
    history = json.dumps(state.history, indent=1)
    atomic_write(workdir / "history.json", lambda temporary: temporary.write_text(history, encoding="utf-8"))


def load(file: Path, state: State, settings: Training, facts: Mapping[str, Any], branching: bool = False) -> None:
    """Fill `state` from a checkpoint.

    Args:
        file: the checkpoint.
        state: receives weights, optimiser, average, step and history.
        settings: of this training.
        facts: as in `save`, of this training.
        branching: the checkpoint is the trunk's. It may differ in penalties and in the seed after the branch.

    Raises:
        ValueError: the checkpoint was made with other settings or facts.
    """
    with safe_open(file, "pt") as opened:
        record = {k: json.loads(v) for k, v in (opened.metadata() or {}).items()}
    now = json.loads(json.dumps({**asdict(settings), **facts}))
    if branching:
        del now["penalties"], now["branch_seed"]
    other = changed({**with_present_names(record["settings"]), **record["facts"]}, now)
    if other:
        raise ValueError(
            f"{file.parent}: its checkpoint has other {', '.join(other)}; choose another folder to train in"
        )
    parts: dict[str, dict[str, Tensor]] = {"network": {}, "average": {}, "adam": {}}
    for key, value in load_file(file, device=settings.device).items():
        part, name = key.split(".", 1)
        parts[part][name] = value
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["adam"].items():
        index, name = key.split(".")
        # Adam keeps its step count on the CPU, even if the weights are on a GPU.
        moments.setdefault(int(index), {})[name] = value.cpu() if name == "step" else value
    state.network.load_state_dict(parts["network"])
    state.optimiser.load_state_dict({"state": moments, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.average = parts["average"]
    state.step, state.history = record["step"], record["history"]
    state.branched_at = record["step"] if branching else record["branched_at"]
