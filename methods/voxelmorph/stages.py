"""The stages that precede the paper's loss: read the images, compare them, distil a per-case optimiser.

Eq. 1 of the paper alone leaves a plateau only after thousands of steps. A displacement is learned from the product of
what the network reads in both images, and from random weights the gradient of this product is small beside its noise.
Stage `read` therefore learns to read alone, `compare` learns motions that were applied to training images, and
`distil` learns the displacements that a per-case optimiser finds on training pairs. No stage uses a fixed label.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

OPTIMISERS = ("adam", "muon")
ITEMS = ("synthetic", "moved", "taught")
LEAST_RATE = 0.03  # share of a stage's learning rate that is left at its end


@dataclass(frozen=True)
class Stage:
    """The settings of one stage.

    Attributes:
        name: read, compare or distil.
        steps: number of steps.
        lr: largest learning rate.
        optimiser: `adam`, or `muon` for the weights of convolutions and Adam for all others.
        warm_up: steps in which the learning rate rises linearly.
        fall: share of the stage, at its end, in which the learning rate falls along a cosine.
        batch: items per step.
        patch: (z, y, x) voxels of the network, multiples of 16; None: whole volumes.
        items: how often each kind of item is drawn: `synthetic` (a CT and a synthetic MR made from it), `moved` (a
            training pair whose CT is moved by a known motion) and `taught` (a training pair with the displacement of
            `teacher`).
        ends: share of patches at the first or last vertebra of a volume.
        reading: weight of the loss of positions and bone masks.
        displacement: weights of the displacement's loss in the first and the last step, linear between.
        head_first: steps at the start in which the displacement's loss trains only the layers after the decoder.
        teacher: the row that registers training pairs for items `taught`.

    Raises:
        ValueError: a value is outside its range. The message names the setting.
    """

    name: str
    steps: int
    lr: float = 5e-4
    optimiser: str = "adam"
    warm_up: int = 50
    fall: float = 0.3
    batch: int = 2
    patch: tuple[int, int, int] | None = (64, 48, 48)
    items: Mapping[str, float] = field(default_factory=lambda: {"synthetic": 1.0})
    ends: float = 0.35
    reading: float = 1.0
    displacement: tuple[float, float] = (0.0, 0.0)
    head_first: int = 0
    teacher: str = "deformable-pc+oc"

    def __post_init__(self) -> None:
        here = f"training.stages.{self.name}"
        for name in ("steps", "lr", "warm_up", "fall", "batch", "ends", "reading", "head_first"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise ValueError(
                    f"{here}.{name}: expected a number, got {value!r} (to YAML 1e-4 is text; write 1.0e-4)"
                )
        for name in ("steps", "batch"):
            value = getattr(self, name)
            if value != int(value) or value < 1:
                raise ValueError(f"{here}.{name}: expected a whole number of at least 1, got {value}")
        for name in ("fall", "ends"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{here}.{name}: expected a share, 0 to 1, got {getattr(self, name)}")
        for name in ("reading", "warm_up", "head_first"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{here}.{name}: expected a number of at least 0, got {getattr(self, name)}")
        if not self.lr > 0:
            raise ValueError(f"{here}.lr: expected a number above 0, got {self.lr}")
        if self.optimiser not in OPTIMISERS:
            raise ValueError(f"{here}.optimiser: expected one of {', '.join(OPTIMISERS)}, got {self.optimiser!r}")
        if self.patch is not None and (len(self.patch) != 3 or any(n < 16 or n % 16 for n in self.patch)):
            raise ValueError(f"{here}.patch: expected three multiples of 16 (z, y, x), got {self.patch}")
        shares = self.items.values()
        if set(self.items) - set(ITEMS) or not all(s >= 0 for s in shares) or not sum(shares) > 0:
            raise ValueError(f"{here}.items: expected shares of {', '.join(ITEMS)}, got {dict(self.items)}")
        if len(self.displacement) != 2 or not all(w >= 0 for w in self.displacement):
            raise ValueError(f"{here}.displacement: expected two weights of at least 0, got {self.displacement}")

    @property
    def compares(self) -> bool:
        """Whether the stage trains the displacement."""
        return max(self.displacement) > 0

    def learning_rate(self, position: int) -> float:
        """The learning rate of a step: linear warm-up, constant, then the falling half of a cosine.

        Args:
            position: the step's number in the stage, from 0.
        """
        rise = min(1.0, (position + 1) / self.warm_up) if self.warm_up else 1.0
        left = (self.steps - position) / self.steps
        fallen = 0.5 - 0.5 * math.cos(math.pi * left / self.fall) if left < self.fall else 1.0
        return self.lr * rise * max(LEAST_RATE, fallen)

    def displacement_weight(self, position: int) -> float:
        """The weight of the displacement's loss in a step; position: from 0."""
        first, last = self.displacement
        return first + (last - first) * position / max(1, self.steps - 1)

    def describe(self) -> str:
        """One line for the card."""
        kinds = {
            "synthetic": "synthetic pairs made from a training CT and its labels",
            "moved": "training pairs whose CT is moved by a known motion",
            "taught": f"displacements of {self.teacher} on training pairs, found without fixed labels",
        }
        losses = [("positions in the vertebra and bone masks", self.reading)]
        losses.append(("the displacement", max(self.displacement)))
        learned = " and ".join(name for name, weight in losses if weight > 0)
        shown = ", ".join(text for kind, text in kinds.items() if self.items.get(kind, 0) > 0)
        return f"stage {self.name}: {self.steps} steps of {learned}, from {shown}"


STAGES: Mapping[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage("read", 1400, lr=1e-3, patch=(64, 48, 48)),
        Stage("compare", 2400, items={"synthetic": 0.5, "moved": 0.5}, displacement=(0.05, 0.4), head_first=150),
        Stage("distil", 4200, optimiser="muon", fall=0.6, patch=(64, 64, 48), items={"synthetic": 0.1, "taught": 0.9},
              reading=0.3, displacement=(1.0, 1.0)),
    )
}  # fmt: skip


def make_stages(values: Any) -> tuple[Stage, ...]:
    """Make the stages of a training from YAML.

    Args:
        values: stages in their order, each the name of one in `STAGES`, or a mapping of `name` and settings that differ
            from it. A name may occur once.

    Raises:
        ValueError: a stage or a setting is unknown, or a value is outside its range.
    """
    if not isinstance(values, list | tuple):
        raise ValueError(f"training.stages: expected a list of {', '.join(STAGES)}, got {values!r}; [] is none")
    stages = tuple(value if isinstance(value, Stage) else _make_stage(value) for value in values)
    names = [stage.name for stage in stages]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"training.stages: expected each stage once, got {name} {names.count(name)} times")
    return stages


def _make_stage(value: Any) -> Stage:
    """One stage of `make_stages`."""
    changes = {"name": value} if isinstance(value, str) else value
    if not isinstance(changes, Mapping) or changes.get("name") not in STAGES:
        name = changes.get("name") if isinstance(changes, Mapping) else changes
        raise ValueError(f"training.stages: expected names among {', '.join(STAGES)}, got {name!r}")
    known = [f.name for f in fields(Stage)]
    for setting in changes:
        if setting not in known:
            near = difflib.get_close_matches(str(setting), known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ValueError(f"training.stages.{changes['name']}: unknown setting {setting!r}{hint}")
    values: dict[str, Any] = {str(name): tuple(v) if isinstance(v, list) else v for name, v in changes.items()}
    return replace(STAGES[values["name"]], **values)


def scaled(stages: Iterable[Stage], factor: float) -> tuple[Stage, ...]:
    """Stages of another length, each of at least one step; `head_first` and the warm-up keep their share.

    Args:
        stages: at their length.
        factor: above 0, by which the numbers of steps are multiplied.
    """
    return tuple(
        replace(s, steps=max(1, int(s.steps * factor)), warm_up=min(s.warm_up, int(s.warm_up * factor)),
                head_first=min(s.head_first, int(s.head_first * factor)))
        for s in stages
    )  # fmt: skip


def stage_number(step: int, stages: Iterable[Stage]) -> tuple[int, int]:
    """The stage of a step.

    Args:
        step: of the training, from 0.
        stages: in their order.

    Returns:
        The stage's number, from 0, which is the number of stages for the paper's loss; and the number of the step in
        this stage, from 0.
    """
    number = 0
    for stage in stages:
        if step < stage.steps:
            break
        step -= stage.steps
        number += 1
    return number, step
