"""A plugin file for the tests: a dataset of two-block spines, a metric, a penalty, and methods with every fault."""

from __future__ import annotations

import os
import signal
import time

import numpy as np

from benchmark.datasets.base import Dataset
from benchmark.errors import BadInput
from benchmark.evaluation import Evaluation
from methods.base import Case, Grid, Method, Pair, Registration, Scan
from methods.registry import DATASETS, METHODS, METRICS

GRID = Grid((48, 32, 32), (1.0, 1.0, 1.0), (-10.0, 5.0, 20.0))
SHIFT_MM = (2.0, 0.0, 0.0)  # x: the moving blocks lie 2 mm further left than the fixed ones


def blocks(shift_x: int) -> np.ndarray:
    """Labels 20 and 21 as blocks of 10 x 12 x 14 voxels (1680 mm3), moved by whole voxels along x."""
    labels = np.zeros(GRID.shape, np.uint16)
    for label, z in ((20, 30), (21, 10)):
        labels[z : z + 10, 10:22, 8 + shift_x : 22 + shift_x] = label
    return labels


@DATASETS.register("tiny")
class Tiny(Dataset):
    """Two-block spines, shifted by 2 mm; the case `broken` cannot be read."""

    def cases(self, split: str) -> list[str]:
        return {"test": ["one", "two"], "val": ["broken", "one"], "train": ["broken"]}[split]

    def load(self, case: str) -> Case:
        if case == "broken":
            raise BadInput("broken: expected a patient, found none")
        fixed, moving = blocks(0), blocks(2)
        rng = np.random.default_rng(len(case))
        noise = rng.random(GRID.shape, np.float32) * 0.1
        ct, mr = (moving > 0) * 0.6 + noise + 0.1, (fixed > 0) * 0.3 + 0.4 + noise
        truth = np.zeros((*GRID.shape, 3), np.float32)
        truth[...] = SHIFT_MM
        scans = [Scan(a.astype(np.float32), b, GRID) for a, b in ((mr, fixed), (ct, moving))]
        return Case(Pair(case, *scans), truth)


@METRICS.register("mean_motion_mm", per="case")
def mean_motion_mm(evaluation: Evaluation) -> float:
    """Mean length of the displacement, mm."""
    return float(np.linalg.norm(evaluation.registration.displacement_mm, axis=-1).mean())


def shifted(pair: Pair, shift: tuple[float, float, float] = SHIFT_MM) -> Registration:
    field = np.zeros((*pair.grid.shape, 3), np.float32)
    field[...] = shift
    return Registration(field, {"remark": "shifted"})


@METHODS.register("true-shift")
class TrueShift(Method):
    """The right answer."""

    def register(self, pair: Pair) -> Registration:
        return shifted(pair)


@METHODS.register("fresh-shift")
class FreshShift(TrueShift):
    """The right answer, from a new process each time, which it notes."""

    fresh_process = True

    def register(self, pair: Pair) -> Registration:
        return Registration(shifted(pair).displacement_mm, {"pid": float(os.getpid())})


@METHODS.register("sleeper")
class Sleeper(Method):
    """Takes 0.2 s to register and 0.5 s to prepare."""

    def prepare(self, device: str, threads: int, seed: int) -> None:
        time.sleep(0.5)

    def register(self, pair: Pair) -> Registration:
        time.sleep(0.2)
        return shifted(pair)


@METHODS.register("snoop")
class Snoop(Method):
    """Fails if it is given anything that only the evaluation may know."""

    def register(self, pair: Pair) -> Registration:
        if pair.fixed.labels is not None or pair.case in ("one", "two"):
            raise AssertionError("saw fixed labels or the case's name")
        return shifted(pair)


@METHODS.register("faulty", kind="raise")
class Faulty(Method):
    """Fails on every case in the way that the setting `kind` names."""

    class Settings(Method.Settings):
        kind: str

    settings: Settings

    def unavailable(self, device: str) -> str | None:
        return "not on this planet" if self.settings.kind == "unavailable" else None

    def prepare(self, device: str, threads: int, seed: int) -> None:
        if self.settings.kind == "prepare":
            raise OSError("no weights")

    def register(self, pair: Pair) -> Registration:
        u = shifted(pair).displacement_mm
        match self.settings.kind:
            case "raise":
                raise RuntimeError("it did\nnot work")
            case "exit":
                os._exit(3)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
            case "hang":
                time.sleep(60)
            case "shape":
                return Registration(u[1:])
            case "nan":
                return Registration(np.full_like(u, np.nan))
            case "float64":
                return Registration(u.astype(np.float64))
            case "none":
                return None
        raise AssertionError(f"no such fault: {self.settings.kind}")
