"""`smoothed`: the displacement of another row after a Gaussian filter, the control of what a rigidity penalty adds.

Smoothing alone makes bones more rigid, without any label. A penalty has shown something only where it is better than
the same network without it, smoothed until its DSC would fall. The width is chosen on validation patients
(tests/checks/tuning/smoothed.py) and belongs to the weights of the start row.
"""

from __future__ import annotations

import hashlib
import sys
from typing import Any

import numpy as np
from pydantic import Field
from scipy import ndimage

from methods.base import Grid, Method, Pair, Registration, Settings
from methods.registry import METHODS, create_method

REACH_SIGMAS = 3.0  # where the filter ends
DIGITS = 12  # of a fingerprint in `chosen_for`


class SmoothedSettings(Settings):
    """Settings of `smoothed`.

    Attributes:
        start: the row whose displacement is smoothed.
        start_settings: settings of that row which differ from the registered ones, such as `weights`.
        sigma_mm: standard deviation of the Gaussian; 0 leaves the displacement as it is.
        chosen_for: the first digits of the start's fingerprint for which the width was chosen, as
            tests/checks/tuning/smoothed.py prints them; for a start of another fingerprint the row notes a warning.
            None: no check.
    """

    start: str
    start_settings: dict[str, Any] = Field(default_factory=dict)
    sigma_mm: float = Field(ge=0)
    chosen_for: str | None = None


class Smoothed(Method):
    """Another row's displacement, smoothed. The time of both counts."""

    devices = ("cpu", "cuda")
    Settings = SmoothedSettings
    settings: SmoothedSettings

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.uses = (self.settings.start,)

    def _make_start(self) -> Method:
        return create_method(self.settings.start, self.settings.start_settings)

    def unavailable(self, device: str) -> str | None:
        if self.settings.start not in METHODS:
            return f"no row {self.settings.start!r} to smooth (--plugin?)"
        start = self._make_start()
        if device not in start.devices:
            return f"its start, {self.settings.start}, does not run on {device}"
        reason = start.unavailable(device)
        return reason and f"its start, {self.settings.start}: {reason}"

    def fingerprint(self) -> str:
        """What the start's result depends on."""
        start = self._make_start().fingerprint() if self.settings.start in METHODS else ""
        return hashlib.sha256(start.encode()).hexdigest()

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Prepare the start."""
        self._start = self._make_start()
        self._start.prepare(device, threads, seed)
        known = self.settings.chosen_for
        self._doubt = known is not None and known != self._start.fingerprint()[:DIGITS]
        if self._doubt:
            print(f"{self.name}: {self._warning}", file=sys.stderr)

    @property
    def _warning(self) -> str:
        width = f"{self.settings.sigma_mm:g} mm"
        return (f"the width of {width} was not chosen for these weights of {self.settings.start}; choose it by "
                "tests/checks/tuning/smoothed.py")  # fmt: skip

    def register(self, pair: Pair) -> Registration:
        """Register one pair by the start and smooth its displacement."""
        found = self._start.register(pair)
        notes = {**found.notes, "warning": self._warning} if self._doubt else found.notes
        return Registration(smooth(found.displacement_mm, pair.grid, self.settings.sigma_mm), notes)


def smooth(displacement_mm: np.ndarray, grid: Grid, sigma_mm: float) -> np.ndarray:
    """Smooth a displacement by a Gaussian; beyond the border the nearest vector continues.

    Args:
        displacement_mm: float32 (z, y, x, 3), mm.
        grid: of the displacement.
        sigma_mm: standard deviation, at least 0.

    Returns:
        float32 (z, y, x, 3), mm.
    """
    sigma = [sigma_mm / spacing for spacing in reversed(grid.spacing_mm)]
    smoothed = [ndimage.gaussian_filter(displacement_mm[..., k], sigma, mode="nearest", truncate=REACH_SIGMAS)
                for k in range(3)]  # fmt: skip
    return np.stack(smoothed, axis=-1)
