"""How a training reports to the command that started it. `methods.base` exports these names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


class Paused(Exception):
    """Raised when a training stops because its time is up. Its state is saved; the same call resumes it."""


@dataclass(frozen=True)
class Preview:
    """One sagittal slice of a validation case, registered by the network in training.

    Attributes:
        fixed: slice of the fixed image, float32 (rows, columns), in [0, 1].
        warped: the same slice of the warped moving image, float32 (rows, columns).
        fixed_labels: VerSe ids of the fixed labels, integers (rows, columns).
        warped_labels: VerSe ids of the warped moving labels, integers (rows, columns).
        aspect: height of a voxel over its width, above 0.
        fixed_modality, moving_modality: of the two scans: ct, mr or cbct.
    """

    fixed: np.ndarray
    warped: np.ndarray
    fixed_labels: np.ndarray
    warped_labels: np.ndarray
    aspect: float = 1.0
    fixed_modality: str = "mr"
    moving_modality: str = "ct"


class Progress:
    """Receives the reports of a training. This base class ignores them; a subclass overrides what it shows.

    A `fit` must call `out_of_time`; every other call is optional. `run` names the network in training, such as
    `trunk` or `pc`.
    """

    def __call__(self, line: str) -> None:
        """Receive one line of text."""

    def step(self, run: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        """Receive the state after one step.

        Args:
            run: the network in training.
            done: number of finished steps.
            total: number of steps of the whole schedule.
            losses: each term of this step's loss by name.
        """

    def validated(self, run: str, done: int, values: Mapping[str, float], preview: Preview | None) -> None:
        """Receive the result of one validation.

        Args:
            run: the network in training.
            done: number of finished steps.
            values: validation metrics by name.
            preview: one case as it is registered now, or None.
        """

    def out_of_time(self) -> bool:
        """Whether the training must save its state and raise Paused."""
        return False
