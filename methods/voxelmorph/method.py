"""`voxelmorph` and its rigidity-loss variants: one class; a variant is its penalties."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import Field

from methods.base import Case, Method, Pair, Registration, Settings

WEIGHTS = Path(__file__).parent / "weights"


class VoxelMorphSettings(Settings):
    """penalties: weight of each loss term by name. weights: a safetensors file with its card in JSON beside it, instead
    of the one that comes with the project. training: values of `trainer.Training` that differ from its defaults."""

    penalties: dict[str, float] = Field(default_factory=dict)
    weights: Path | None = None
    training: dict[str, Any] = Field(default_factory=dict)


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

        if not self.weights.is_file():
            return f"no weights at {self.weights}; make them with `train --methods {self.name}`"
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

        from methods.voxelmorph.network import MULTIPLE
        from methods.voxelmorph.network import VoxelMorph as Network

        torch.manual_seed(seed)
        self._card = json.loads(self.weights.with_suffix(".json").read_text(encoding="utf-8"))
        self._device = device
        network = Network()
        network.load_state_dict({k: v.float() for k, v in load_file(self.weights).items()})
        self._network = network.to(device=device).eval()
        nothing = torch.zeros(1, 1, MULTIPLE, MULTIPLE, MULTIPLE, device=device)
        with torch.inference_mode():
            self._network(nothing, nothing)

    def register(self, pair: Pair) -> Registration:
        from methods.geometry import to_millimetres
        from methods.voxelmorph.trainer import predict

        displacement = predict(self._network, pair, self._card["training"]["coarsening"], self._device)
        return Registration(to_millimetres(displacement, pair.grid))

    def fit(
        self, train: Sequence[Pair], val: Sequence[Case], workdir: Path, seed: int, progress: Callable[[str], None]
    ) -> None:
        """Train into `workdir`/<name>: <name>.safetensors and its card, to be copied to `weights/` or named in YAML."""
        from methods.voxelmorph import trainer

        settings = replace(trainer.Training(**self.settings.training), penalties=self.settings.penalties)
        folder = workdir / self.name
        best = trainer.train(train, val, folder, settings, seed, progress)
        history = json.loads((folder / "history.json").read_text(encoding="utf-8"))
        card = {
            "method": self.name,
            "training": asdict(settings),
            "patients": {"train": len(train), "val": len(val)},
            "seed": seed,
            "device": "cpu",
            "date": datetime.now(UTC).date().isoformat(),
            "chosen": max(history, key=lambda h: h["dsc"]),
            "validation": history,
        }
        shutil.copyfile(best, folder / f"{self.name}.safetensors")
        (folder / f"{self.name}.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
        progress(f"wrote {folder / self.name}.safetensors")
