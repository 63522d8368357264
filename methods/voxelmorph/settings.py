"""The settings of a training, their profiles, and the schedules as pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from methods.base import SMALLEST_VERTEBRA_MM3
from methods.voxelmorph.stages import STAGES, Stage, make_stages, scaled, stage_number
from methods.voxelmorph.variants import WEIGHTS_FOLDER, weights_of

SIMILARITIES = ("mind", "nmi", "ngf")
NUMBERS = ("steps", "epochs", "crops", "branch", "supervision", "least_following", "branch_seed", "shrink_factor",
           "smoothness", "lr", "lr_decay", "lr_decay_steps", "warm_up", "clip", "final_layer_std", "ema",
           "smallest_label_mm3", "validate_every", "checkpoint_every", "memory_gb")  # fmt: skip
PRECISIONS = ("auto", "fp32", "bf16")
CHOICES = ("last", "best")
# Voxels that pass through the network in one piece: some 0.6 GB in bf16, twice that in float32.
LARGEST_VOXELS = 2**23


@dataclass(frozen=True)
class Training:
    """The settings of one training. The defaults are the profile `from-scratch`: the paper's loss at 2 mm.

    Attributes:
        steps: length of the schedule with all stages; None: `epochs` times `crops` of each patient.
        epochs: length of the schedule if `steps` is None.
        crops: samples of each patient per epoch.
        branch: share of the schedule that the baseline and its variants have in common, trained without penalties.
        stages: what is trained before the paper's loss, to which the settings from `patch` to `warm_up`, `flips`,
            `anatomy` and `motion` belong.
        supervision: weight of the displacement's loss, on one item per step of the last of `stages`, beside the paper's
            loss.
        least_following: the training stops at a validation in which the network follows a shift of the CT along some
            axis by a smaller share, if the paper's loss is trained after `stages`; 0 never stops.
        branch_seed: seed of data order and augmentation after the branch, for several trainings from one trunk; None:
            the training's seed.
        shrink_factor: voxels of the input per voxel of the network along each axis; 2 trains a 1 mm pair at 2 mm.
        patch: (z, y, x) voxels of the network, multiples of 16; None: whole volumes.
        similarity: mind, nmi or ngf.
        smoothness: weight of the velocity's diffusion.
        penalties: weights by name.
        squares: whether the Dice of rigid-dice divides by sums of squares; the paper's does not.
        lr: Adam's learning rate after the warm-up.
        lr_decay: factor by which the learning rate changes in `lr_decay_steps`.
        lr_decay_steps: steps; None: an epoch.
        warm_up: steps in which the learning rate rises linearly.
        clip: largest gradient norm; None: no limit.
        start: a file of initial weights with a card beside it, or a row with released weights; None: random weights.
        final_layer_std: standard deviation of the last layer's random weights.
        ema: decay of the running average of the weights, which is validated and kept; 0 keeps the weights themselves.
        flips: augment by left-right flips.
        anatomy: augment by other anatomies, as in `augmentation`.
        motion: augment by other motions.
        appearance: augment by other appearances of the network's input.
        smallest_label_mm3: vertebrae with a smaller volume in the patch are excluded from the penalties.
        choose: the network that is kept: the `last`, or the one with the `best` validation DSC after the branch.
        validate_every: steps between validations.
        checkpoint_every: steps between checkpoints.
        device: cpu or cuda.
        precision: of the convolutions; `auto` is bf16 if the processor computes in it, else fp32.
        memory_gb: most memory of the device for shrunk patients.
        background: make the items of the next step in a second thread; None: if torch's threads leave a core free.

    Raises:
        ValueError: a value is outside its range. The message names the setting.
    """

    steps: int | None = 9000
    epochs: int = 500
    crops: int = 1
    branch: float = 0.8
    stages: tuple[Stage, ...] = ()
    supervision: float = 0.0
    least_following: float = 0.0
    branch_seed: int | None = None
    shrink_factor: int = 2
    patch: tuple[int, int, int] | None = (96, 48, 48)
    similarity: str = "mind"
    smoothness: float = 1.0
    penalties: Mapping[str, float] = field(default_factory=dict)
    squares: bool = True
    lr: float = 1e-3
    lr_decay: float = 0.99
    lr_decay_steps: int | None = 30
    warm_up: int = 50
    clip: float | None = 1.0
    start: str | None = None
    final_layer_std: float = 1e-3
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
    background: bool | None = None

    def __post_init__(self) -> None:
        allowed = {"similarity": SIMILARITIES, "precision": PRECISIONS, "choose": CHOICES, "device": ("cpu", "cuda"),
                   "background": (None, True, False)}  # fmt: skip
        for name, known in allowed.items():
            if getattr(self, name) not in known:
                names = ", ".join(map(str, known))
                raise ValueError(f"training.{name}: expected one of {names}, got {getattr(self, name)!r}")
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
        whole = ("steps", "epochs", "crops", "shrink_factor", "lr_decay_steps", "validate_every", "checkpoint_every")
        for name in whole:
            value = getattr(self, name)
            if value is not None and (value != int(value) or value < 1):
                raise ValueError(f"training.{name}: expected a whole number of at least 1, got {value}")
        if self.branch_seed is not None and (self.branch_seed != int(self.branch_seed) or self.branch_seed < 0):
            raise ValueError(f"training.branch_seed: expected a whole number of at least 0, got {self.branch_seed}")
        if self.patch is not None and (len(self.patch) != 3 or any(n < 16 or n % 16 for n in self.patch)):
            raise ValueError(f"training.patch: expected three multiples of 16 (z, y, x), got {self.patch}")
        self._check_stages()

    def _check_stages(self) -> None:
        """Check the stages and the settings that need them."""
        before = stage_steps(self)
        if self.stages and (self.steps is None or self.steps <= before):
            raise ValueError(f"training.steps: expected more than the {before} steps of the stages, got {self.steps}; "
                             "give the stages fewer steps, or select the profile from-scratch")  # fmt: skip
        for name in ("supervision", "least_following"):
            value = getattr(self, name)
            if value is None or not value >= 0:
                raise ValueError(f"training.{name}: expected a number of at least 0, got {value}")
        if self.supervision and not (self.stages and self.stages[-1].compares):
            raise ValueError(f"training.supervision: expected 0 without a stage that trains the displacement, got "
                             f"{self.supervision}")  # fmt: skip


# `cpu` trains all rows in some hours on two cores. `from-scratch` is the same training without its stages, as the paper
# trains. `paper` has the settings of the released code. `ALWAYS` lists the differences that are in the code itself.
PROFILES: Mapping[str, Mapping[str, Any]] = {
    "cpu": {
        "steps": 8200, "branch": 0.97561, "stages": tuple(STAGES.values()), "lr": 3e-4,
        "supervision": 2.0, "least_following": 0.5, "validate_every": 400,
    },
    "from-scratch": {},
    "paper": {
        "steps": None, "epochs": 500, "crops": 2, "shrink_factor": 1, "patch": (64, 128, 64), "smoothness": 0.01,
        "lr": 1e-4, "lr_decay": 0.999, "lr_decay_steps": None, "warm_up": 0, "clip": None, "final_layer_std": 1e-5,
        "ema": 0.0, "flips": False, "appearance": False, "precision": "fp32", "squares": False,
        "validate_every": 500,
        "checkpoint_every": 100, "memory_gb": 16.0,
    },
}  # fmt: skip
ALWAYS = (
    "He initialisation",
    "CT windowed and MR standardised over its tissue before the first convolution",
    "similarity counted only where a point lands inside the image",
    "penalties are means over vertebrae, their labels' gradient used by rigid-dice and volume alone",
)
# The differences of single penalties that are in the code itself.
OF_PENALTIES: Mapping[str, tuple[str, ...]] = {
    "rigid-dice": ("eq. 2 solved by Levenberg-Marquardt to its minimum, instead of 50 Adam steps",),
    "rigid-field": (
        "rigid fit of eq. 4 over all voxels of a label, instead of 256 drawn ones",
        "length of the difference in eq. 4 not squared, as in the released code and unlike the printed equation",
    ),
}
_SQUARES = (
    "rigid dice of squared soft labels, which an exactly rigid motion minimises, instead of labels without squares"
)
# Settings that may change when a checkpoint is continued.
FREE = ("steps", "epochs", "device", "memory_gb", "checkpoint_every", "validate_every", "least_following",
        "background")  # fmt: skip
_NO_DEVIATION = (*FREE, "penalties", "squares", "start", "branch_seed", "stages", "supervision")
# Settings that older checkpoints lack, and the values that they were trained with.
_ADDED = {"stages": [], "supervision": 0.0, "least_following": 0.0, "squares": True}
# Former names in YAML files, cards and checkpoints, which remain valid, and the present ones.
_FORMER_NAMES = {"coarsening": "shrink_factor", "start_sd": "final_layer_std"}


def with_present_names(values: Mapping[str, Any]) -> dict[str, Any]:
    """Replace former names of settings by the present ones.

    Args:
        values: settings of a training by name, from YAML, a card or a checkpoint.

    Raises:
        ValueError: a setting is given under both names.
    """
    for former, present in _FORMER_NAMES.items():
        if former in values and present in values:
            raise ValueError(f"training.{present}: expected one value, got two, the other as {former}; remove {former}")
    return {_FORMER_NAMES.get(name, name): value for name, value in values.items()}


def with_added_settings(values: Mapping[str, Any]) -> dict[str, Any]:
    """Complete the settings of an older checkpoint by the settings that were added since."""
    return {**_ADDED, **with_present_names(values)}


def make_training(profile: str, changes: Mapping[str, Any], penalties: Mapping[str, float | None]) -> Training:
    """Make the settings of a training.

    Args:
        profile: cpu, from-scratch or paper.
        changes: settings that differ from the profile, by present or former name. Other `steps` without `stages`
            shorten or extend the stages of the profile alike.
        penalties: weights by name; None selects the profile's weight.

    Raises:
        ValueError: the profile or a setting is unknown, or a value is outside its range.
    """
    if profile not in PROFILES:
        raise ValueError(f"profile: expected one of {', '.join(PROFILES)}, got {profile!r}")
    known = {f.name for f in fields(Training)} - {"penalties"}
    changes = with_present_names(changes)
    for name in changes:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise ValueError(f"training: unknown setting {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    values = {**PROFILES[profile], **changes}
    if isinstance(values.get("patch"), list):
        values["patch"] = tuple(values["patch"])
    if "stages" in changes:
        values["stages"] = make_stages(changes["stages"])
        if not values["stages"]:
            values |= {k: _ADDED[k] for k in ("supervision", "least_following") if k not in changes}
    elif values.get("stages") and isinstance(changes.get("steps"), int) and changes["steps"] > 0:
        values["stages"] = scaled(values["stages"], changes["steps"] / PROFILES[profile]["steps"])
    return replace(Training(**values), penalties=weights_of(penalties, profile))


def start_file(start: str) -> Path:
    """The file of initial weights; start: the file, or the name of a row with released weights."""
    released = WEIGHTS_FOLDER / f"{start}.safetensors"
    return released if not Path(start).is_file() and released.is_file() else Path(start)


def total_steps(settings: Training, patients: int, workers: int = 1) -> int:
    """Number of steps of the schedule. In each step every one of `workers` processes takes another crop."""
    return settings.steps or settings.epochs * steps_per_epoch(settings, patients, workers)


def stage_steps(settings: Training) -> int:
    """Number of steps of all stages before the paper's loss."""
    return sum(stage.steps for stage in settings.stages)


def steps_per_epoch(settings: Training, patients: int, workers: int = 1) -> int:
    """Number of steps in which every patient is used `crops` times, at least 1."""
    return max(1, patients * settings.crops // workers)


def branch_step(settings: Training, patients: int, workers: int = 1) -> int:
    """Number of steps that the baseline and all variants have in common, fewer than all; 0 for no trunk."""
    return int(round(settings.branch * total_steps(settings, patients, workers), 6))


def learning_rate(step: int, settings: Training, epoch_steps: int) -> float:
    """The learning rate of a step: that of its stage; with the paper's loss warm-up times a stepwise exponential decay.

    Args:
        step: of the training, from 0.
        settings: of the training.
        epoch_steps: steps between decays if the settings give none.
    """
    number, step = stage_number(step, settings.stages)
    if number < len(settings.stages):
        return settings.stages[number].learning_rate(step)
    rise = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
    return settings.lr * rise * settings.lr_decay ** (step // (settings.lr_decay_steps or epoch_steps))


def average_decay(step: int, ema: float) -> float:
    """The decay of the running average at a step. It is smaller at first, so that the initial weights soon vanish."""
    return min(ema, (1 + step) / (10 + step))


def patient_of(index: int, patients: int, seed: int, crops: int = 1) -> int:
    """The patient of a sample: each epoch contains every patient `crops` times in succession, in a random order.

    Args:
        index: number of the sample in the training, from 0.
        patients: number of training patients.
        seed: of the order.
        crops: samples of a patient per epoch.

    Returns:
        The patient's number, from 0.
    """
    epoch, position = divmod(index, patients * crops)
    order = np.random.Generator(np.random.PCG64([seed, 0, epoch])).permutation(patients)
    return int(order[position // crops])


def changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The names of the settings that differ, except those in `FREE`."""
    return [k for k in now if k not in FREE and before.get(k) != now[k]]


def deviations(settings: Training) -> list[str]:
    """The differences to the paper's training, one line each, for the card."""
    paper, ours = asdict(make_training("paper", {}, {})), asdict(settings)
    lines = [
        f"{name.replace('_', ' ')} {ours[name]} instead of {paper[name]}"
        for name in ours
        if name not in _NO_DEVIATION and ours[name] != paper[name]
    ]
    if settings.steps is not None:
        lines.insert(
            0, f"{settings.steps} steps instead of {paper['epochs']} epochs of {paper['crops']} crops a patient"
        )
    elif settings.epochs != paper["epochs"]:
        lines.insert(0, f"{settings.epochs} epochs instead of {paper['epochs']}")
    if settings.start is not None:
        lines.append("begun from other weights instead of random ones")
    lines += [stage.describe() for stage in settings.stages]
    if settings.supervision:
        lines.append(f"displacement's loss of stage {settings.stages[-1].name} kept beside eq. 1, weight "
                     f"{settings.supervision}")  # fmt: skip
    if settings.squares and "rigid-dice" in settings.penalties:
        lines.append(_SQUARES)
    return [*lines, *ALWAYS, *(line for name in settings.penalties for line in OF_PENALTIES.get(name, ()))]
