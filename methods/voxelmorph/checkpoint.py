"""All that a training is: written whole or not at all, read back so that it goes on as if never stopped."""

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
from methods.voxelmorph.settings import Training, average_decay, changed

NAME = "checkpoint.safetensors"


@dataclass
class State:
    """A network in training. average: the running average of its weights by name, empty where none is kept.

    step: how many are done. branched_at: the step of the trunk it began from, 0 for none. history: a record per
    validation, the trunk's among them.
    """

    network: VelocityUNet
    optimiser: torch.optim.Adam
    average: dict[str, Tensor]
    step: int = 0
    branched_at: int = 0
    history: list[dict[str, float]] = field(default_factory=list)

    def update_average(self, ema: float) -> None:
        """Take the weights after a step into the average."""
        share = 1 - average_decay(self.step, ema)
        with torch.no_grad():
            for name, value in self.network.state_dict().items():
                if name in self.average:
                    self.average[name].lerp_(value, share)

    def weights(self) -> dict[str, Tensor]:
        """What is validated and kept: the average where there is one, else the weights; on the CPU."""
        source = self.average or self.network.state_dict()
        return {name: value.detach().to("cpu", copy=True).contiguous() for name, value in source.items()}


def begin(settings: Training, seed: int) -> State:
    """A new network, its weights drawn from the seed or those of `settings.start`.

    Raises ValueError where that file has no card beside it or holds no such network.
    """
    torch.manual_seed(seed)
    network = VelocityUNet(settings.start_sd)
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
    """Write the checkpoint of `workdir`, and its history as JSON. facts: what else a figure depends on, by name."""
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
    """Fill `state` from a checkpoint, optimiser, average and history included.

    branching: the file is the trunk's, whose penalties are others, as the seed of what comes after it may be.
    Raises ValueError where it was made with other settings or facts than these, those that are free aside.
    """
    with safe_open(file, "pt") as opened:
        record = {k: json.loads(v) for k, v in (opened.metadata() or {}).items()}
    now = json.loads(json.dumps({**asdict(settings), **facts}))
    if branching:
        del now["penalties"], now["branch_seed"]
    other = changed({**record["settings"], **record["facts"]}, now)
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
        # Adam counts its steps on the CPU wherever the weights are.
        moments.setdefault(int(index), {})[name] = value.cpu() if name == "step" else value
    state.network.load_state_dict(parts["network"])
    state.optimiser.load_state_dict({"state": moments, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.average = parts["average"]
    state.step, state.history = record["step"], record["history"]
    state.branched_at = record["step"] if branching else record["branched_at"]
