"""How one network is trained: settings, their profiles `cpu` and `paper`, and schedules as pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

import numpy as np

from methods.base import SMALLEST_VERTEBRA_MM3
from methods.voxelmorph.variants import weights_of

SIMILARITIES = ("mind", "nmi", "ngf")
NUMBERS = ("steps", "epochs", "crops", "branch", "branch_seed", "coarsening", "smoothness", "lr", "lr_decay",
           "lr_decay_steps", "warm_up", "clip", "start_sd", "ema", "smallest_label_mm3", "validate_every",
           "checkpoint_every", "memory_gb")  # fmt: skip
PRECISIONS = ("auto", "fp32", "bf16")
CHOICES = ("last", "best")
# Of the network, in one piece when registering: some 0.6 GB in bf16, twice that in float32.
LARGEST_VOXELS = 2**23


@dataclass(frozen=True)
class Training:
    """How one network is trained; the defaults are the profile `cpu`: all rows in some hours on two cores.

    steps: of the whole schedule, or None for `epochs` times `crops` of each patient. branch: the share of it that the
    baseline and its variants have in common, trained without penalties. branch_seed: of the data order and appearance
    after it (None: the training's own seed), for several trainings from one trunk.
    coarsening: voxels of the input per voxel of the network, along each axis (2: a 1 mm pair is seen at 2 mm).
    patch: (z, y, x) voxels of the network, multiples of 16, or None for whole volumes.
    similarity: mind, nmi or ngf. smoothness: weight of the velocity's diffusion. penalties: weights by name.
    lr: Adam's, multiplied by lr_decay once in lr_decay_steps (None: an epoch), after warm_up steps of linear rise.
    clip: largest gradient norm, or None.
    start: a file of weights to begin from, a card beside it; None: random ones, the last layer's of SD start_sd.
    ema: decay of the running average of the weights that is validated and kept instead of them; 0 for none.
    flips, anatomy, motion, appearance: augment by left-right flips; by other bodies; by other motions; by what the
    network is shown, as in `augmentation`.
    smallest_label_mm3: vertebrae of which the patch shows less are left out of the penalties (500 voxels of 1 mm).
    choose: the network that is kept, the `last` or that of the `best` validation DSC after the branch.
    device: cpu or cuda. precision: of the convolutions; `auto` is bf16 where the processor computes in it, else fp32.
    memory_gb: how much of the patients is held in memory (of the device), coarsened.

    Raises ValueError, naming the setting, for a value that cannot be used.
    """

    steps: int | None = 9000
    epochs: int = 500
    crops: int = 1
    branch: float = 0.8
    branch_seed: int | None = None
    coarsening: int = 2
    patch: tuple[int, int, int] | None = (96, 48, 48)
    similarity: str = "mind"
    smoothness: float = 1.0
    penalties: Mapping[str, float] = field(default_factory=dict)
    lr: float = 1e-3
    lr_decay: float = 0.99
    lr_decay_steps: int | None = 30
    warm_up: int = 50
    clip: float | None = 1.0
    start: str | None = None
    start_sd: float = 1e-3
    ema: float = 0.99
    flips: bool = True
    anatomy: bool = False
    motion: bool = False
    appearance: bool = True
    smallest_label_mm3: float = SMALLEST_VERTEBRA_MM3
    choose: str = "last"
    validate_every: int = 250
    checkpoint_every: int = 50
    device: str = "cpu"
    precision: str = "auto"
    memory_gb: float = 6.0

    def __post_init__(self) -> None:
        allowed = {"similarity": SIMILARITIES, "precision": PRECISIONS, "choose": CHOICES, "device": ("cpu", "cuda")}
        for name, known in allowed.items():
            if getattr(self, name) not in known:
                raise ValueError(f"training.{name}: expected one of {', '.join(known)}, got {getattr(self, name)!r}")
        for name in NUMBERS:
            value = getattr(self, name)
            if value is not None and not isinstance(value, int | float):
                raise ValueError(
                    f"training.{name}: expected a number, got {value!r} (to YAML 1e-4 is text; write 1.0e-4)"
                )
        for name in ("branch", "ema"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"training.{name}: expected a share, 0 or more and below 1, got {getattr(self, name)}")
        for name in ("lr", "lr_decay", "memory_gb"):
            if not getattr(self, name) > 0:
                raise ValueError(f"training.{name}: expected a number above 0, got {getattr(self, name)}")
        for name in ("steps", "epochs", "crops", "coarsening", "lr_decay_steps", "validate_every", "checkpoint_every"):
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(f"training.{name}: expected a whole number of at least 1, got {value}")
        if self.branch_seed is not None and (self.branch_seed != int(self.branch_seed) or self.branch_seed < 0):
            raise ValueError(f"training.branch_seed: expected a whole number of at least 0, got {self.branch_seed}")
        if self.patch is not None and (len(self.patch) != 3 or any(n < 16 or n % 16 for n in self.patch)):
            raise ValueError(f"training.patch: expected three multiples of 16 (z, y, x), got {self.patch}")


# The released code's settings. What of it this project does otherwise in the code itself is `ALWAYS`.
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {},
    "paper": {
        "steps": None, "epochs": 500, "crops": 2, "coarsening": 1, "patch": (64, 128, 64), "smoothness": 0.01,
        "lr": 1e-4, "lr_decay": 0.999, "lr_decay_steps": None, "warm_up": 0, "clip": None, "start_sd": 1e-5,
        "ema": 0.0, "flips": False, "appearance": False, "precision": "fp32", "validate_every": 500,
        "checkpoint_every": 100, "memory_gb": 16.0,
    },
}  # fmt: skip
ALWAYS = (
    "He initialisation",
    "CT windowed and MR standardised over its tissue before the first convolution",
    "similarity counted only where a point lands inside the image",
    "penalties are means over vertebrae, their labels' gradient used by rigid-dice and volume alone",
)
# What a figure does not depend on, or the schedule that a checkpoint may be continued under.
FREE = ("steps", "epochs", "device", "memory_gb", "checkpoint_every", "validate_every")
_NOT_OF_THE_METHOD = (*FREE, "penalties", "start", "branch_seed")


def make_training(profile: str, changes: Mapping[str, Any], penalties: Mapping[str, float | None]) -> Training:
    """A profile with changes; None is a penalty's weight in the profile.

    Raises ValueError for an unknown profile or setting, or a value that cannot be used.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, got {profile!r}")
    known = {f.name for f in fields(Training)} - {"penalties"}
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"training: unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    values = {**PROFILES[profile], **changes}
    if isinstance(values.get("patch"), list):
        values["patch"] = tuple(values["patch"])
    return replace(Training(**values), penalties=weights_of(penalties, profile))


def total_steps(settings: Training, patients: int, workers: int = 1) -> int:
    """Steps of the whole schedule; each of `workers` processes takes another crop in each."""
    return settings.steps or settings.epochs * steps_per_epoch(settings, patients, workers)


def steps_per_epoch(settings: Training, patients: int, workers: int = 1) -> int:
    return max(1, patients * settings.crops // workers)


def branch_step(settings: Training, patients: int, workers: int = 1) -> int:
    """Steps that the baseline and every variant have in common, fewer than all; 0 for no trunk."""
    return int(round(settings.branch * total_steps(settings, patients, workers), 6))


def learning_rate(step: int, settings: Training, epoch_steps: int) -> float:
    """The rate of a step, counted from 0: linear warm-up, then decay by `lr_decay` once in so many steps."""
    rise = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
    return settings.lr * rise * settings.lr_decay ** (step // (settings.lr_decay_steps or epoch_steps))


def average_decay(step: int, ema: float) -> float:
    """The share that the average of the weights keeps at a step: short at first, since it begins at the start."""
    return min(ema, (1 + step) / (10 + step))


def patient_of(sample: int, patients: int, seed: int, crops: int = 1) -> int:
    """Which patient sample `sample` is of: every patient `crops` times an epoch, in an order drawn from the seed."""
    epoch, position = divmod(sample, patients * crops)
    order = np.random.Generator(np.random.PCG64([seed, 0, epoch])).permutation(patients)
    return int(order[position // crops])


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Names of the settings, besides those that are free to change, that differ."""
    return [k for k in now if k not in FREE and before.get(k) != now[k]]


def deviations(settings: Training) -> list[str]:
    """What differs from the paper's training, for the model card."""
    paper, ours = asdict(make_training("paper", {}, {})), asdict(settings)
    lines = [
        f"{name.replace('_', ' ')} {ours[name]} instead of {paper[name]}"
        for name in ours
        if name not in _NOT_OF_THE_METHOD and ours[name] != paper[name]
    ]
    if settings.steps is not None:
        lines.insert(
            0, f"{settings.steps} steps instead of {paper['epochs']} epochs of {paper['crops']} crops a patient"
        )
    elif settings.epochs != paper["epochs"]:
        lines.insert(0, f"{settings.epochs} epochs instead of {paper['epochs']}")
    if settings.start is not None:
        lines.append("begun from other weights instead of random ones")
    return [*lines, *ALWAYS]
