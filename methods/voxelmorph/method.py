"""`voxelmorph` and its rigidity-loss variants: one class, whose penalties make the variant."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import Field, model_validator

from methods.base import Case, Grid, Method, Pair, Progress, Registration, Scan, Settings, UserPath
from methods.voxelmorph.settings import LARGEST_VOXELS, Training, branch_step, make_training, with_present_names
from methods.voxelmorph.variants import VARIANTS, WEIGHTS_FOLDER
from methods.weights import checksum

if TYPE_CHECKING:
    from torch import Tensor


class VoxelMorphSettings(Settings):
    """Settings of `voxelmorph` and its variants.

    Attributes:
        penalties: weight of each penalty by name; None selects the profile's weight.
        weights: a safetensors file with its card in JSON beside it; None: the weights in this package.
        precision: of the convolutions when registering; `auto` is bf16 if the processor computes in it, else fp32.
        largest_voxels: most voxels that pass through the network in one piece; a larger pair is split.
        passes: most passes through the network; each gets the CT warped by the displacement so far, and is kept only
            where MIND near the bones falls.
        profile: `cpu`, `from-scratch` or `paper`, the settings of a training.
        training: settings of `settings.Training` that differ from the profile.
    """

    penalties: dict[str, float | None] = Field(default_factory=dict)
    weights: UserPath | None = None
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    largest_voxels: int = Field(default=LARGEST_VOXELS, ge=1)
    passes: int = Field(default=1, ge=1)
    profile: str = "cpu"
    training: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _usable(self) -> VoxelMorphSettings:
        self.resolved()
        return self

    def resolved(self) -> Training:
        """The settings of a training. Raises ValueError for a value that cannot be used."""
        return make_training(self.profile, self.training, self.penalties)


class VoxelMorph(Method):
    """The paper's diffeomorphic VoxelMorph. The card beside the weights describes their training."""

    devices = ("cpu", "cuda")
    Settings = VoxelMorphSettings
    settings: VoxelMorphSettings

    @property
    def weights(self) -> Path:
        """The file of the weights."""
        return self.settings.weights or WEIGHTS_FOLDER / f"{self.name}.safetensors"

    def unavailable(self, device: str) -> str | None:
        import torch

        from methods.registry import PENALTIES

        card = self.weights.with_suffix(".json")
        # For the weights in this package the message has a relative path, which is valid on any machine.
        shown = self.settings.weights or Path("methods/voxelmorph/weights", self.weights.name)
        if not self.weights.is_file() or not card.is_file():
            unknown = [name for name in self.settings.penalties if name not in PENALTIES]
            if unknown:
                return (
                    f"no weights at {shown} with a card, and no penalty {unknown[0]!r} to train them with (--plugin?)"
                )
            option = "" if self.name in VARIANTS and self.settings.weights is None else "--config FILE "
            return f"no weights at {shown} with a card; make them with `train {option}--methods {self.name}`"
        trained = json.loads(card.read_text(encoding="utf-8"))["training"]["penalties"]
        expected = {name: trained.get(name) if w is None else w for name, w in self.settings.penalties.items()}
        if trained != expected:
            return (f"the weights at {shown} were trained with penalties {trained}, this row names {expected}; set "
                    "the same `penalties`, or select other weights by the setting `weights`")  # fmt: skip
        if device == "cuda" and not torch.cuda.is_available():
            return "torch finds no CUDA device"
        return None

    def fingerprint(self) -> str:
        """A hash of the weights and their card."""
        return checksum(self.weights, self.weights.with_suffix(".json"))

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Load the network and predict once, because the first prediction is slow."""
        import torch
        from safetensors.torch import load_file

        from methods.voxelmorph.inference import for_inference
        from methods.voxelmorph.network import VelocityUNet

        torch.manual_seed(seed)
        card = json.loads(self.weights.with_suffix(".json").read_text(encoding="utf-8"))
        self._shrink_factor = with_present_names(card["training"])["shrink_factor"]
        self._device = device
        network = VelocityUNet()
        network.load_state_dict({k: v.float() for k, v in load_file(self.weights).items()})
        self._network = for_inference(network, device)
        self._predict(_warm_up_pair())

    def register(self, pair: Pair) -> Registration:
        """Register one pair by one or more passes through the network."""
        from methods.geometry import to_millimetres

        displacement, kept = self._predict(pair)
        notes = {"passes_kept": float(kept)} if self.settings.passes > 1 else {}
        return Registration(to_millimetres(displacement, pair.grid), notes)

    def _predict(self, pair: Pair) -> tuple[Tensor, int]:
        """The displacement (1, 3, D, H, W) in voxels, and the number of passes that were kept."""
        from methods.voxelmorph.passes import predict_in_passes

        return predict_in_passes(
            self._network,
            pair,
            self.settings.passes,
            self._shrink_factor,
            self._device,
            self.settings.precision,
            self.settings.largest_voxels,
        )

    def fit(self, train: Sequence[Pair], val: Sequence[Case], workdir: Path, seed: int, progress: Progress) -> None:
        """Train by the paper's protocol.

        First `workdir`/trunk is trained without penalties, stage after stage; all rows that are trained in `workdir`
        share it. Then `workdir`/NAME continues from its end with the penalties and writes NAME.safetensors and its card
        NAME.json. These can be copied to `weights/` or named in YAML.
        """
        from methods.registry import PENALTIES
        from methods.voxelmorph import checkpoint
        from methods.voxelmorph.card import write_weights
        from methods.voxelmorph.devices import join_distributed
        from methods.voxelmorph.trainer import train as train_network

        settings, distributed = self.settings.resolved(), join_distributed(self.settings.resolved().device)
        for name in settings.penalties:
            PENALTIES[name]  # refuses an unknown name before the trunk is trained
        taught = _teacher(settings, train, seed)
        branch, trunk = branch_step(settings, len(train), distributed.size), None
        if branch:
            trunk = workdir / "trunk"
            if not (workdir / self.name / checkpoint.NAME).is_file():
                plain = replace(settings, penalties={}, branch_seed=None)
                train_network(train, val, trunk, plain, seed, progress, until=branch, taught=taught)
        state = train_network(train, val, workdir / self.name, settings, seed, progress, trunk, taught=taught)
        if distributed.first:
            write_weights(workdir / self.name, self.name, self.settings.profile, settings, state, len(train), val,
                          seed, progress)  # fmt: skip
        distributed.wait()


def _teacher(settings: Training, pairs: Sequence[Pair], seed: int) -> Callable[[int], Tensor]:
    """The teacher of the stages that have one, checked before the first step."""
    from methods.voxelmorph.teacher import Teacher
    from methods.voxelmorph.trainer import no_teacher

    rows = {stage.teacher for stage in settings.stages if stage.items.get("taught", 0) > 0}
    if len(rows) > 1:
        raise ValueError(f"training.stages: expected one teacher, got {', '.join(sorted(rows))}")
    return Teacher(rows.pop(), pairs, settings.shrink_factor, seed, settings.device) if rows else no_teacher


def _warm_up_pair() -> Pair:
    """A small empty pair for the first prediction."""
    grid = Grid((64, 64, 64))
    image = np.zeros(grid.shape, np.float32)
    return Pair("warm-up", Scan(image, None, grid), Scan(image, np.zeros(grid.shape, np.uint16), grid))
