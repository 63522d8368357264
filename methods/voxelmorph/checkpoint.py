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
from torch import Tensor, nn

from methods.atomic import atomic_write
from methods.voxelmorph.muon import Muon
from methods.voxelmorph.network import VelocityUNet
from methods.voxelmorph.settings import Training, average_decay, changed, start_file, with_added_settings
from methods.voxelmorph.supervision import reading_layer

NAME = "checkpoint.safetensors"


@dataclass
class State:
    """A network in training.

    Attributes:
        network: with its present weights.
        optimiser: of the present stage, with its moments.
        layer: reads positions and bone masks; None without stages.
        stage: number of the present stage; the number of stages for the paper's loss.
        average: running average of the weights by name; empty without averaging.
        step: number of finished steps.
        branched_at: step of the trunk from which this training branched off; 0 for none.
        history: one record per validation, including those of the trunk.
        seconds: wall time of all steps and validations until the checkpoint, those of the trunk included.
    """

    network: VelocityUNet
    optimiser: torch.optim.Optimizer
    average: dict[str, Tensor]
    layer: nn.Module | None = None
    stage: int = 0
    step: int = 0
    branched_at: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    seconds: float = 0.0

    def enter(self, stage: int, settings: Training) -> None:
        """Begin a stage with an optimiser that has no moments yet; stage: its number."""
        self.stage = stage
        self.optimiser = _optimiser(self.network, self.layer, stage, settings)

    @property
    def trained(self) -> list[nn.Parameter]:
        """The parameters that the optimiser changes."""
        return [parameter for group in self.optimiser.param_groups for parameter in group["params"]]

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
        file = start_file(settings.start)
        for needed in (file, file.with_suffix(".json")):
            if not needed.is_file():
                raise ValueError(f"training.start: expected weights with a card beside them, found no {needed}")
        try:
            network.load_state_dict({k: v.float() for k, v in load_file(file).items()})
        except (RuntimeError, SafetensorError) as error:
            raise ValueError(f"training.start: {file} holds no network of this kind: {error}") from error
    network = network.to(device=settings.device)
    layer = reading_layer().to(device=settings.device) if settings.stages else None
    average = {k: v.clone() for k, v in network.state_dict().items()} if settings.ema else {}
    return State(network, _optimiser(network, layer, 0, settings), average, layer)


def _optimiser(network: VelocityUNet, layer: nn.Module | None, stage: int, settings: Training) -> torch.optim.Optimizer:
    """The optimiser of a stage. Muon trains hidden convolutions, Adam the first and the last one and all biases."""
    if stage == len(settings.stages) or layer is None:
        return torch.optim.Adam(network.parameters(), lr=settings.lr)
    chosen = settings.stages[stage]
    parameters = [*network.parameters(), *layer.parameters()]
    if chosen.optimiser == "adam":
        return torch.optim.Adam(parameters, lr=chosen.lr)
    outer = {id(network.encoder[0].weight), id(network.velocity.weight)}
    hidden = [p for p in network.parameters() if p.ndim > 1 and id(p) not in outer]
    known = {id(p) for p in hidden}
    return Muon(hidden, [p for p in parameters if id(p) not in known], chosen.lr)


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
    tensors |= {f"layer.{k}": v for k, v in state.layer.state_dict().items()} if state.layer is not None else {}
    for i, moments in state.optimiser.state_dict()["state"].items():
        tensors |= {f"optimiser.{i}.{k}": v for k, v in moments.items()}
    record = {
        "step": state.step,
        "stage": state.stage,
        "branched_at": state.branched_at,
        "history": state.history,
        "seconds": state.seconds,
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
    other = changed({**with_added_settings(record["settings"]), **record["facts"]}, now)
    if other:
        raise ValueError(
            f"{file.parent}: its checkpoint has other {', '.join(other)}; choose another folder to train in"
        )
    parts: dict[str, dict[str, Tensor]] = {part: {} for part in ("network", "average", "layer", "optimiser")}
    for key, value in load_file(file, device=settings.device).items():
        part, name = key.split(".", 1)
        parts["optimiser" if part == "adam" else part][name] = value  # `adam` in older checkpoints
    state.enter(record.get("stage", 0), settings)
    moments: dict[int, dict[str, Tensor]] = {}
    for key, value in parts["optimiser"].items():
        index, name = key.split(".")
        # Both optimisers keep their step count on the CPU, even if the weights are on a GPU.
        moments.setdefault(int(index), {})[name] = value.cpu() if name == "step" else value
    state.network.load_state_dict(parts["network"])
    if state.layer is not None:
        state.layer.load_state_dict(parts["layer"])
    state.optimiser.load_state_dict({"state": moments, "param_groups": state.optimiser.state_dict()["param_groups"]})
    state.average = parts["average"]
    state.step, state.history = record["step"], record["history"]
    state.seconds = record.get("seconds", 0.0)
    state.branched_at = record["step"] if branching else record["branched_at"]
