"""`deformable` and its variants: eq. 1 of the paper minimised for one pair at a time, without a network.

The displacement is a cubic B-spline, optimised from coarse to fine. Similarity is taken near the moving labels, where
both scans saw the voxel; fixed labels are not used. The penalties are the functions that also train the networks.
"""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import Grid, Method, Pair, Registration, Scan
from methods.checks import refuse_unlabelled
from methods.deformable.capture import best_shift
from methods.deformable.level import Level, flow_mm
from methods.deformable.neighbours import compare_neighbours, doubt
from methods.deformable.optimise import Outcome, are_more_alike, optimise
from methods.deformable.pyramid import Scans, load
from methods.deformable.settings import DeformableSettings
from methods.deformable.spline import ControlGrid, evaluate, least_slack, without_folds
from methods.deformable.variants import weights_of
from methods.geometry import to_millimetres, to_voxels
from methods.registry import BUILT_IN, METHODS, PENALTIES, create_method

_NOTHING_SEEN = "no point near the labels was seen in both scans; they move by smoothness alone"


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
        velocity = settings.transform == "velocity"
        generator = torch.Generator().manual_seed(self._seed)
        control = ControlGrid(scans.shape, scans.spacing_mm, settings.levels[0].control_mm)
        coefficients, shift_mm = _start_coefficients(scans, control, initial), torch.zeros(3, device=self._device)
        outcomes, points, first_by_mind = [], [], None
        for own in settings.levels:
            finer = ControlGrid(scans.shape, scans.spacing_mm, own.control_mm)
            if finer.control_mm != control.control_mm:
                coefficients = control.converted(coefficients, finer)
            control = finer
            level = Level(scans, own, control, coefficients, velocity, shift_mm)
            solve = partial(optimise, settings=settings, weights=weights_of(settings.penalties), generator=generator)
            if not outcomes and initial is None and not velocity:
                level, coefficients, outcome = _first_level(scans, level, control, solve, generator)
                shift_mm = level.rest_mm.view(3)
            else:
                coefficients, outcome = solve(level, control, coefficients)
            outcomes.append(outcome)
            points.append(level.count)
            if first_by_mind is None and own.similarity == "mind":
                first_by_mind = level
        coefficients = without_folds(coefficients, control.control_mm, settings.least_slack)
        spacing = coefficients.new_tensor(scans.spacing_mm).view(3, 1, 1, 1)
        field = evaluate(coefficients, control.bases(self._device))
        field = flow_mm(field, spacing) if velocity else field
        notes = _notes(outcomes, least_slack(coefficients, control.control_mm), shift_mm)
        doubts = [] if all(points) else [_NOTHING_SEEN]
        # The coarsest level with MIND: its time is the least, and it knows the widest surroundings of the bones.
        if first_by_mind is not None and (off := doubt(compare_neighbours(first_by_mind, scans, field))):
            doubts.append(off)
        if doubts:
            notes["warning"] = "; ".join(doubts)
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


def _first_level(
    scans: Scans, level: Level, control: ControlGrid, solve: Callable[..., tuple[Tensor, Outcome]],
    generator: torch.Generator,
) -> tuple[Level, Tensor, Outcome]:  # fmt: skip
    """The coarsest level from no displacement, and from the shift that `best_shift` finds; the better of both."""
    device = scans.moving.device
    shift_mm = best_shift(level, generator)
    coefficients, outcome = solve(level, control, control.zeros(device))
    if not shift_mm.any():
        return level, coefficients, outcome
    start = control.zeros(device) + shift_mm.view(3, 1, 1, 1)
    other = Level(scans, level.settings, control, start, False, shift_mm)
    shifted, of_shifted = solve(other, control, start)
    if are_more_alike((level, other), coefficients, shifted, generator):
        return other, shifted, of_shifted
    return level, coefficients, outcome


def _start_coefficients(scans: Scans, control: ControlGrid, initial: Tensor | None) -> Tensor:
    """The coefficients of no displacement, or of the one to start from, (1, 3, D, H, W) in voxels."""
    if initial is None:
        return control.zeros(scans.moving.device)
    spacing = scans.moving.new_tensor(scans.spacing_mm).view(3, 1, 1, 1)
    return control.fitted(initial[0].to(scans.moving.device) * spacing, control.bases(scans.moving.device))


def _notes(outcomes: list[Outcome], slack: float, shift_mm: Tensor) -> dict[str, float | str]:
    """The first shift along z, y and x, and how far each level went, as text with a part for each level."""
    notes: dict[str, float | str] = {
        "iterations": " ".join(str(o.iterations) for o in outcomes),
        "last_motion_mm": " ".join(f"{o.moved_mm:.3f}" for o in outcomes),
        "gain": " ".join(f"{o.gain:.4f}" for o in outcomes),
        "least_slack": slack,
        "first_shift_mm": " ".join(f"{v:.0f}" for v in shift_mm.tolist()),
    }
    refused = [str(k) for k, o in enumerate(outcomes, 1) if o.gain < 0]
    if refused:
        notes["levels_not_kept"] = " ".join(refused)
    return notes


def _warm_up_pair() -> Pair:
    """A small pair with one labelled block."""
    grid = Grid((24, 24, 24))
    image = np.random.default_rng(0).random(grid.shape, np.float32)
    labels = np.zeros(grid.shape, np.uint16)
    labels[8:16, 8:16, 8:16] = 20
    return Pair("warm-up", Scan(image, None, grid), Scan(image, labels, grid))
