"""`voxelmorph` and its rigidity-loss variants: one class; a variant is its penalties."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from methods.base import Case, Grid, Method, Pair, Progress, Registration, Scan, Settings, UserPath
from methods.voxelmorph.settings import LARGEST_VOXELS, Training, branch_step, make_training
from methods.voxelmorph.variants import VARIANTS

if TYPE_CHECKING:
    from torch import Tensor

WEIGHTS = Path(__file__).parent / "weights"


class VoxelMorphSettings(Settings):
    """penalties: weight of each loss term by name; None for the profile's own.

    weights: a safetensors file with its card in JSON beside it, instead of the one that comes with the project.
    precision: of the convolutions when registering; `auto` is bf16 where the processor computes in it, else fp32.
    largest_voxels: of the network that are shown to it in one piece; a larger pair goes through in overlapping pieces.
    profile: `cpu` or `paper`, how it is trained. training: values of `settings.Training` that are not the profile's.
    """

    penalties: dict[str, float | None] = Field(default_factory=dict)
    weights: UserPath | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    largest_voxels: int = Field(default=LARGEST_VOXELS, ge=1)
    profile: str = "cpu"
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _usable(self) -> VoxelMorphSettings:
        self.resolved()
        return self

    def resolved(self) -> Training:
        return make_training(self.profile, self.training, self.penalties)


class VoxelMorph(Method):
    """The paper's diffeomorphic VoxelMorph. The model card beside the weights says how they were trained."""

    devices = ("cpu", "cuda")
    Settings = VoxelMorphSettings
    settings: VoxelMorphSettings

    @property
    def weights(self) -> Path:
        return self.settings.weights or WEIGHTS / f"{self.name}.safetensors"

    def unavailable(self, device: str) -> str | None:
        import torch

        from methods.registry import PENALTIES

        card = self.weights.with_suffix(".json")
        # Of the project's own the name says enough, and holds on another machine.
        shown = self.settings.weights or Path("methods/voxelmorph/weights", self.weights.name)
        if not self.weights.is_file() or not card.is_file():
            unknown = [name for name in self.settings.penalties if name not in PENALTIES]
            if unknown:
                return (
                    f"no weights at {shown} with a card, and no penalty {unknown[0]!r} to train them with (--plugin?)"
                )
            how = "" if self.name in VARIANTS and self.settings.weights is None else "--config FILE "
            return f"no weights at {shown} with a card; make them with `train {how}--methods {self.name}`"
        trained = json.loads(card.read_text(encoding="utf-8"))["training"]["penalties"]
        expected = {name: trained.get(name) if w is None else w for name, w in self.settings.penalties.items()}
        if trained != expected:
            return (f"the weights at {shown} were trained with penalties {trained}, this row names {expected}; say the "
                    "same in its `penalties`, or name others in the setting `weights`")  # fmt: skip
        if device == "cuda" and not torch.cuda.is_available():
            return "torch sees no CUDA device"
        return None

    def fingerprint(self) -> str:
        """Hash of the weights and their card."""
        digest = hashlib.sha256()
        for file in (self.weights, self.weights.with_suffix(".json")):
            digest.update(file.read_bytes() if file.is_file() else b"none")
        return digest.hexdigest()

    def prepare(self, device: str, threads: int, seed: int) -> None:
        import torch
        from safetensors.torch import load_file

        from methods.voxelmorph.inference import for_inference
        from methods.voxelmorph.network import VelocityUNet as Network

        torch.manual_seed(seed)
        card = json.loads(self.weights.with_suffix(".json").read_text(encoding="utf-8"))
        self._coarsening = card["training"]["coarsening"]
        self._device = device
        network = Network()
        network.load_state_dict({k: v.float() for k, v in load_file(self.weights).items()})
        self._network = for_inference(network, device)
        self._predict(_nothing())

    def register(self, pair: Pair) -> Registration:
        from methods.geometry import to_millimetres

        return Registration(to_millimetres(self._predict(pair), pair.grid))

    def _predict(self, pair: Pair) -> Tensor:
        from methods.voxelmorph.inference import predict

        return predict(
            self._network, pair, self._coarsening, self._device, self.settings.precision, self.settings.largest_voxels
        )

    def fit(self, train: Sequence[Pair], val: Sequence[Case], workdir: Path, seed: int, progress: Progress) -> None:
        """The paper's protocol: `workdir`/trunk without penalties, which every method trained in `workdir` shares, and
        from its end `workdir`/<name> with them. That ends with <name>.safetensors and its card, to be copied to
        `weights/` or named in YAML."""
        from methods.registry import PENALTIES
        from methods.voxelmorph import checkpoint
        from methods.voxelmorph.card import write_weights
        from methods.voxelmorph.devices import join_distributed
        from methods.voxelmorph.trainer import train as run

        settings, team = self.settings.resolved(), join_distributed(self.settings.resolved().device)
        for name in settings.penalties:
            PENALTIES[name]  # an unknown one is refused before the trunk is trained, not after
        branch, trunk = branch_step(settings, len(train), team.size), None
        if branch:
            trunk = workdir / "trunk"
            if not (workdir / self.name / checkpoint.NAME).is_file():
                run(train, val, trunk, replace(settings, penalties={}, branch_seed=None), seed, progress, until=branch)
        state = run(train, val, workdir / self.name, settings, seed, progress, trunk)
        if team.first:
            write_weights(workdir / self.name, self.name, self.settings.profile, settings, state, len(train), val,
                          seed, progress)  # fmt: skip
        team.wait()


def _nothing() -> Pair:
    """A small empty pair, for what is slow the first time only."""
    grid = Grid((64, 64, 64))
    image = np.zeros(grid.shape, np.float32)
    return Pair("warm-up", Scan(image, None, grid), Scan(image, np.zeros(grid.shape, np.uint16), grid))
