"""A phantom whose MR saw a slab of a few centimetres only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from benchmark.datasets.phantom import Phantom
from benchmark.datasets.resampling import fill_unseen
from benchmark.evaluation import evaluate
from methods.base import Case, Registration
from methods.registry import create_method

HALF_MM = {1: 22, 2: 18}  # axis (y, x) -> half of the slab's width


def slab_case(patient: str = "phantom-0117", spacing_mm: float = 1.0) -> Case:
    """Three vertebrae; the fixed scan ends 22 mm in front of and behind the spine's middle, and 18 mm beside it."""
    case = Phantom("phantom", vertebrae=3, spacing_mm=spacing_mm).load(patient)
    fixed = case.pair.fixed
    assert fixed.labels is not None
    occupied = np.argwhere(fixed.labels)
    middle = (occupied.min(axis=0) + occupied.max(axis=0)) // 2
    inside = np.zeros(fixed.grid.shape, bool)
    half = {axis: int(mm / spacing_mm) for axis, mm in HALF_MM.items()}
    inside[:, *(slice(middle[axis] - n, middle[axis] + n) for axis, n in half.items())] = True
    labels = np.where(inside, fixed.labels, 0).astype(np.uint16)
    seen = replace(fixed, image=fill_unseen(fixed.image, inside), labels=labels, inside=inside)
    return replace(case, pair=replace(case.pair, fixed=seen))


def dsc(case: Case, name: str, settings: dict[str, Any] | None = None) -> float:
    """Mean DSC of a row on a case."""
    return mean_dsc(case, register(case, name, settings))


def register(case: Case, name: str, settings: dict[str, Any] | None = None) -> Registration:
    """A row's registration of a case."""
    method = create_method(name, settings)
    method.prepare("cpu", 1, 0)
    return method.register(case.pair.blind("token"))


def mean_dsc(case: Case, registration: Registration) -> float:
    """Mean DSC of a registration."""
    _, vertebrae, _ = evaluate(case, registration, ("dsc",))
    return float(np.mean([row["dsc"] for row in vertebrae]))


def without_masks(case: Case) -> Case:
    """The case without the masks of what its scans saw."""
    fixed, moving = (replace(scan, inside=None) for scan in (case.pair.fixed, case.pair.moving))
    return replace(case, pair=replace(case.pair, fixed=fixed, moving=moving))


def job_slab() -> dict[str, float]:
    """A job of elastix_jobs.py: DSC of elastix in the slab, with and without the masks of what was seen."""
    case, short = slab_case(), {"changes": {"MaximumNumberOfIterations": 40}}
    return {
        "masked": dsc(case, "staring-fast", short),
        "unmasked": dsc(without_masks(case), "staring-fast", short),
    }


def job_coarse_slab() -> dict[str, Any]:
    """The notes of elastix with voxels of 2 mm."""
    return dict(register(slab_case("phantom-0118", 2.0), "staring-fast").notes)
