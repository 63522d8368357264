"""`deformable` and its variants: eq. 1 of the paper minimised for one pair at a time, without a network.

The displacement is a cubic B-spline, optimised from coarse to fine. Similarity is taken near the moving labels, where
both scans saw the voxel; fixed labels are not used. The penalties are the functions that also train the networks.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import Grid, Method, Pair, Registration, Scan
from methods.checks import refuse_unlabelled
from methods.deformable.level import Level, flow_mm
from methods.deformable.optimise import Outcome, optimise
from methods.deformable.pyramid import Scans, load
from methods.deformable.settings import DeformableSettings
from methods.deformable.spline import ControlGrid, evaluate, least_slack, without_folds
from methods.deformable.variants import weights_of
from methods.geometry import to_millimetres, to_voxels
from methods.registry import BUILT_IN, METHODS, PENALTIES, create_method


class Deformable(Method):
    """Cubic B-splines with the paper's penalties, optimised for each pair. `variants.py` has the rows."""

    devices = ("cpu", "cuda")
    Settings = DeformableSettings
    settings: DeformableSettings

    def __init__(self, name: str, **settings: Any) -> None:
        super().__init__(name, **settings)
        self.uses = () if self.settings.start is None else (self.settings.start,)

    def unavailable(self, device: str) -> str | None:
        unknown = [name for name in self.settings.penalties if name not in PENALTIES]
        if unknown:
            return f"no penalty {unknown[0]!r} (--plugin?)"
        if device == "cuda" and not torch.cuda.is_available():
            return "torch finds no CUDA device"
        if self.settings.start is None:
            return None
        if self.settings.start not in METHODS:
            return f"no row {self.settings.start!r} to start from (--plugin?)"
        start = create_method(self.settings.start)
        if device not in start.devices:
            return f"its start, {self.settings.start}, does not run on {device}"
        reason = start.unavailable(device)
        return reason and f"its start, {self.settings.start}: {reason}"

    def fingerprint(self) -> str:
        """What the start's result depends on, and the code of penalties that are not built in."""
        parts = [create_method(name).fingerprint() for name in self.uses if name in METHODS]
        for name in self.settings.penalties:
            if name in PENALTIES and PENALTIES[name].origin != BUILT_IN:
                parts.append(inspect.getsource(sys.modules[PENALTIES[name].load().__module__]))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest() if parts else ""

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Set threads and seed, prepare the start, and optimise a small pair once, because the first time is slow."""
        torch.set_num_threads(threads)
        self._device, self._seed = device, seed
        self._start = None if self.settings.start is None else create_method(self.settings.start)
        if self._start is not None:
            self._start.prepare(device, threads, seed)
        self._solve(_warm_up_pair(), None)

    def register(self, pair: Pair) -> Registration:
        """Register one pair; with a start, its time counts too.

        Raises:
            ValueError: no vertebra is labelled.
        """
        refuse_unlabelled(pair, self.name)
        initial = None if self._start is None else to_voxels(self._start.register(pair).displacement_mm, pair.grid)
        return self._solve(pair, initial)

    def _solve(self, pair: Pair, initial: Tensor | None) -> Registration:
        with _one_order_of_sums(self._device):
            return self._solve_in_order(pair, initial)

    def _solve_in_order(self, pair: Pair, initial: Tensor | None) -> Registration:
        settings, scans = self.settings, load(pair, self._device)
        weights, velocity = weights_of(settings.penalties), settings.transform == "velocity"
        generator = torch.Generator().manual_seed(self._seed)
        control, coefficients, outcomes, points = None, None, [], []
        for own in settings.levels:
            finer = ControlGrid(scans.shape, scans.spacing_mm, own.control_mm)
            if control is None or coefficients is None:
                coefficients = _start_coefficients(scans, finer, initial)
            elif finer.control_mm != control.control_mm:
                coefficients = control.converted(coefficients, finer)
            control = finer
            level = Level(scans, own, control, coefficients, velocity)
            coefficients, outcome = optimise(level, control, coefficients, settings, weights, generator)
            outcomes.append(outcome)
            points.append(level.count)
        assert control is not None and coefficients is not None  # there is at least one level
        coefficients = without_folds(coefficients, control.control_mm, settings.least_slack)
        spacing = coefficients.new_tensor(scans.spacing_mm).view(3, 1, 1, 1)
        field = evaluate(coefficients, control.bases(self._device))
        field = flow_mm(field, spacing) if velocity else field
        notes = _notes(outcomes, points, least_slack(coefficients, control.control_mm))
        if "warning" in notes:
            print(f"{pair.case}: {notes['warning']}", file=sys.stderr)
        return Registration(to_millimetres((field / spacing)[None], pair.grid), notes)


@contextmanager
def _one_order_of_sums(device: str) -> Iterator[None]:
    """On CUDA, choose the algorithms whose sums have one order, so that one seed gives one result."""
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(device == "cuda" or before[0], warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])


def _start_coefficients(scans: Scans, control: ControlGrid, initial: Tensor | None) -> Tensor:
    """The coefficients of no displacement, or of the one to start from, (1, 3, D, H, W) in voxels."""
    if initial is None:
        return control.zeros(scans.moving.device)
    spacing = scans.moving.new_tensor(scans.spacing_mm).view(3, 1, 1, 1)
    return control.fitted(initial[0].to(scans.moving.device) * spacing, control.bases(scans.moving.device))


def _notes(outcomes: list[Outcome], points: list[int], slack: float) -> dict[str, float | str]:
    """How far each level went, as text with a part for each level."""
    notes: dict[str, float | str] = {
        "iterations": " ".join(str(o.iterations) for o in outcomes),
        "last_motion_mm": " ".join(f"{o.moved_mm:.3f}" for o in outcomes),
        "gain": " ".join(f"{o.gain:.4f}" for o in outcomes),
        "least_slack": slack,
    }
    refused = [str(k) for k, o in enumerate(outcomes, 1) if o.gain < 0]
    if refused:
        notes["levels_not_kept"] = " ".join(refused)
    if not all(points):
        notes["warning"] = "no point near the labels was seen in both scans; they move by smoothness alone"
    return notes


def _warm_up_pair() -> Pair:
    """A small pair with one labelled block."""
    grid = Grid((24, 24, 24))
    image = np.random.default_rng(0).random(grid.shape, np.float32)
    labels = np.zeros(grid.shape, np.uint16)
    labels[8:16, 8:16, 8:16] = 20
    return Pair("warm-up", Scan(image, None, grid), Scan(image, labels, grid))
