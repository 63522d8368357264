"""A plugin file for the tests: a dataset of two-block spines, a metric, and methods with every fault."""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmark.datasets.base import Dataset
from benchmark.errors import BadInput
from methods.base import Case, Grid, Method, Pair, Registration, Scan
from methods.registry import DATASETS, METHODS, METRICS

if TYPE_CHECKING:
    from benchmark.evaluation import Evaluation

GRID = Grid((48, 32, 32), (1.0, 1.0, 1.0), (-10.0, 5.0, 20.0))
SHIFT_MM = (2.0, 0.0, 0.0)  # x: the moving blocks lie 2 mm further left than the fixed ones


def blocks(shift_x: int) -> np.ndarray:
    """Labels 20 and 21 as blocks of 10 x 12 x 14 voxels (1680 mm3), shifted by whole voxels along x."""
    labels = np.zeros(GRID.shape, np.uint16)
    for label, z in ((20, 30), (21, 10)):
        labels[z : z + 10, 10:22, 8 + shift_x : 22 + shift_x] = label
    return labels


@DATASETS.register("tiny")
class Tiny(Dataset):
    """Two-block spines, shifted by 2 mm. Loading `broken` raises BadInput, loading `odd` another exception.

    count: number of cases in split `test`, named case-0, case-1 ...; 0 for the two cases `one` and `two`.
    """

    class Settings(Dataset.Settings):
        count: int = 0

    settings: Settings

    def cases(self, split: str) -> list[str]:
        if self.settings.count:
            return [f"case-{i}" for i in range(self.settings.count)]
        return {"test": ["one", "two"], "val": ["broken", "odd", "one"], "train": ["broken"]}[split]

    def load(self, case: str) -> Case:
        if case == "broken":
            raise BadInput("broken: expected a patient, found none")
        if case == "odd":
            raise KeyError("a header")
        fixed, moving = blocks(0), blocks(2)
        rng = np.random.default_rng(int.from_bytes(case.encode(), "little"))
        noise = rng.random(GRID.shape, np.float32) * 0.1
        ct, mr = (moving > 0) * 0.6 + noise + 0.1, (fixed > 0) * 0.3 + 0.4 + noise
        truth = np.zeros((*GRID.shape, 3), np.float32)
        truth[...] = SHIFT_MM
        parts = ((mr, fixed, "mr"), (ct, moving, "ct"))
        scans = [Scan(a.astype(np.float32), b, GRID, modality=kind) for a, b, kind in parts]
        return Case(Pair(case, *scans), truth)


@METRICS.register("mean_motion_mm", per="case", unit="mm", title="Mean motion")
def mean_motion_mm(evaluation: Evaluation) -> float:
    """Mean length of the displacement, mm."""
    return float(np.linalg.norm(evaluation.registration.displacement_mm, axis=-1).mean())


def shifted(pair: Pair, shift: tuple[float, float, float] = SHIFT_MM) -> Registration:
    """The same displacement at every voxel."""
    field = np.zeros((*pair.grid.shape, 3), np.float32)
    field[...] = shift
    return Registration(field, {"remark": "shifted"})


@METHODS.register("true-shift")
class TrueShift(Method):
    """The true displacement."""

    def register(self, pair: Pair) -> Registration:
        return shifted(pair)


@METHODS.register("fresh-shift")
class FreshShift(TrueShift):
    """The true displacement, from a new process for each case; notes its process number."""

    fresh_process = True

    def register(self, pair: Pair) -> Registration:
        return Registration(shifted(pair).displacement_mm, {"pid": float(os.getpid())})


@METHODS.register("doubtful")
class Doubtful(TrueShift):
    """The true displacement, with a warning."""

    def register(self, pair: Pair) -> Registration:
        return Registration(shifted(pair).displacement_mm, {"warning": "the units look odd"})


@METHODS.register("sleeper")
class Sleeper(Method):
    """Takes 0.2 s to register and 0.5 s to prepare."""

    def prepare(self, device: str, threads: int, seed: int) -> None:
        time.sleep(0.5)

    def register(self, pair: Pair) -> Registration:
        time.sleep(0.2)
        return shifted(pair)


@METHODS.register("napper")
class Napper(Method):
    """Takes a tenth of a second, so that a test can interrupt it."""

    def register(self, pair: Pair) -> Registration:
        time.sleep(0.1)
        return shifted(pair)


@METHODS.register("burner")
class Burner(Method):
    """Uses four threads, whatever number it was given."""

    def register(self, pair: Pair) -> Registration:
        work = partial(hashlib.pbkdf2_hmac, "sha256", b"", b"", 300_000)  # releases the interpreter lock
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        processors = float(len(os.sched_getaffinity(0)))
        notes = {"processors": processors, "OMP_NUM_THREADS": os.environ["OMP_NUM_THREADS"]}
        return Registration(shifted(pair).displacement_mm, notes)


@METHODS.register("snoop")
class Snoop(Method):
    """Fails if it receives fixed labels or the case's name."""

    def register(self, pair: Pair) -> Registration:
        if pair.fixed.labels is not None or pair.case in ("one", "two"):
            raise AssertionError("received fixed labels or the case's name")
        return shifted(pair)


METHODS.add("snoop-as-oracle", Snoop, oracle=True)


@METHODS.register("faulty", kind="raise")
class Faulty(Method):
    """Fails on every case in the way that the setting `kind` names."""

    class Settings(Method.Settings):
        kind: str
        file: str = ""

    settings: Settings

    def unavailable(self, device: str) -> str | None:
        return "not on this planet" if self.settings.kind == "unavailable" else None

    def prepare(self, device: str, threads: int, seed: int) -> None:
        if self.settings.kind == "prepare":
            raise OSError("no weights")
        if self.settings.kind == "endless prepare":
            time.sleep(600)

    def register(self, pair: Pair) -> Registration:
        u = shifted(pair).displacement_mm
        match self.settings.kind:
            case "raise":
                raise RuntimeError("it did\nnot work")
            case "exit":
                os._exit(3)
            case "segfault":
                ctypes.string_at(0)
            case "abort":
                os.abort()
            case "killed":
                os.kill(os.getpid(), signal.SIGKILL)
            case "sysexit":
                sys.exit("enough")
            case "memory":
                arrays = [np.ones(2**23) for _ in range(100)]  # 6.4 GB, 64 MB at a time
                return Registration(u, {"arrays": float(len(arrays))})
            case "too much":
                np.ones(2**50)
            case "hang":
                time.sleep(60)
            case "hang in C":
                ctypes.PyDLL(None).sleep(60)  # holds the interpreter lock, so that no Python thread runs
            case "child":
                subprocess.run(["sleep", "60"], check=True)
            case "points":
                return Registration((pair.grid.points_mm() * 1000).astype(np.float32))
            case "once":
                if not os.path.exists(self.settings.file + pair.case):
                    with open(self.settings.file + pair.case, "w", encoding="utf-8"):
                        os._exit(1)
                return shifted(pair)
            case "unpicklable":
                return Registration(u, {"lambda": lambda: None})
            case "notes":
                return Registration(u, {"loss": np.float32(0.5)})
            case "no notes":
                return Registration(u, None)
            case "shape":
                return Registration(u[1:])
            case "nan":
                return Registration(np.full_like(u, np.nan))
            case "float64":
                return Registration(u.astype(np.float64))
            case "none":
                return None
        raise AssertionError(f"no such fault: {self.settings.kind}")
