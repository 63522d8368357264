"""The plugin contract: what a registration method is given and what it gives back.

A method is one small file::

    from methods.base import Method, Pair, Registration
    from methods.registry import METHODS

    @METHODS.register("my-method")
    class MyMethod(Method):
        def register(self, pair: Pair) -> Registration:
            ...

Conventions, the same everywhere outside `metrics/`:

- arrays are (z, y, x), geometry is ITK's: LPS millimetres, `spacing_mm` and `origin_mm` as (x, y, z);
- both scans of a pair lie on one grid, intensities are float32 in [0, 1];
- labels are VerSe ids, 0 is background (C1-C7 = 1-7, T1-T12 = 8-19, L1-L6 = 20-25);
- a displacement maps a fixed point p to the moving point p + u(p).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
from pydantic import AfterValidator, BaseModel, ConfigDict

SMALLEST_VERTEBRA_MM3 = 500.0  # the paper's code leaves out what has under 500 voxels of 1 mm in either label map
IDENTITY_DIRECTION = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Grid:
    """Where voxels lie, as ITK describes it (LPS).

    shape: number of voxels (z, y, x).
    spacing_mm, origin_mm: (x, y, z), millimetres.
    direction: the 3 x 3 direction cosine matrix, row by row.

    Raises ValueError for a shape, spacing or direction that no image can have.
    """

    shape: tuple[int, int, int]
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    origin_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)
    direction: tuple[float, ...] = IDENTITY_DIRECTION

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or any(int(n) != n or n < 1 for n in self.shape):
            raise ValueError(f"shape: expected three positive integers (z, y, x), got {self.shape}")
        if len(self.spacing_mm) != 3 or not all(np.isfinite(s) and s > 0 for s in self.spacing_mm):
            raise ValueError(f"spacing_mm: expected three positive lengths (x, y, z), got {self.spacing_mm}")
        if len(self.origin_mm) != 3 or not np.isfinite(self.origin_mm).all():
            raise ValueError(f"origin_mm: expected three finite coordinates (x, y, z), got {self.origin_mm}")
        matrix = np.asarray(self.direction, dtype=float)
        if matrix.size != 9 or not np.allclose(matrix.reshape(3, 3) @ matrix.reshape(3, 3).T, np.eye(3), atol=1e-3):
            raise ValueError(f"direction: expected an orthonormal 3 x 3 matrix, row by row, got {self.direction}")

    @property
    def matrix(self) -> np.ndarray:
        """The direction cosines as a (3, 3) float64 array."""
        return np.asarray(self.direction, dtype=float).reshape(3, 3)

    def to_points_mm(self, index_xyz: np.ndarray) -> np.ndarray:
        """Continuous voxel indices (..., 3) in x, y, z order to LPS millimetres."""
        return (np.asarray(index_xyz) * self.spacing_mm) @ self.matrix.T + self.origin_mm

    def to_indices_xyz(self, points_mm: np.ndarray) -> np.ndarray:
        """LPS millimetres (..., 3) to continuous voxel indices in x, y, z order."""
        return ((np.asarray(points_mm) - self.origin_mm) @ self.matrix) / self.spacing_mm

    def points_mm(self) -> np.ndarray:
        """LPS position of every voxel centre, float64 (z, y, x, 3)."""
        z, y, x = np.meshgrid(*(np.arange(n) for n in self.shape), indexing="ij")
        return self.to_points_mm(np.stack([x, y, z], axis=-1))


@dataclass(frozen=True)
class Scan:
    """One patient scan in memory.

    image: float32 (z, y, x), in [0, 1]. labels: uint16 (z, y, x), VerSe ids, 0 = background, or None.
    """

    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid

    def __post_init__(self) -> None:
        for name, array, dtype in (("image", self.image, np.float32), ("labels", self.labels, np.uint16)):
            if array is None:
                continue
            if array.shape != self.grid.shape:
                raise ValueError(f"{name}: expected the grid's shape {self.grid.shape}, got {array.shape}")
            if array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")


@dataclass(frozen=True)
class Pair:
    """What a method is given: the fixed MR and the moving CT on one grid.

    case: an opaque token while a method is being tested (the name, for one that declares `knows_case`).
    fixed.labels: None while a method is being tested or trained. moving.labels: always there.
    """

    case: str
    fixed: Scan
    moving: Scan

    def __post_init__(self) -> None:
        if self.fixed.grid != self.moving.grid:
            raise ValueError(f"pair {self.case}: expected one grid, got {self.fixed.grid} and {self.moving.grid}")
        if self.moving.labels is None:
            raise ValueError(f"pair {self.case}: the moving scan has no labels; every method may rely on them")

    @property
    def grid(self) -> Grid:
        return self.fixed.grid

    def blind(self, token: str) -> Pair:
        """The same pair without fixed labels, under another name: what a method may see."""
        return Pair(token, replace(self.fixed, labels=None), self.moving)


@dataclass(frozen=True)
class Case:
    """A pair with what only the evaluation may know.

    true_displacement_mm: float32 (z, y, x, 3) as in `Registration`, or None where no truth is known.
    true_core: bool (z, y, x) in the fixed domain: where the truth is exactly rigid, or None for all of the labels.
    excluded: vertebrae of this case that are not evaluated, and why.
    moving_compared: uint16 (z, y, x), the part of the moving labels that the fixed ones show too (vertebral bodies), or
        None for all of them.
    landmarks_mm: (2, N, 3) LPS, fixed points and where they are in the moving scan, or None.
    """

    pair: Pair
    true_displacement_mm: np.ndarray | None = None
    true_core: np.ndarray | None = None
    excluded: Mapping[int, str] = field(default_factory=dict)
    moving_compared: np.ndarray | None = None
    landmarks_mm: np.ndarray | None = None

    @property
    def compared_labels(self) -> np.ndarray | None:
        """The moving labels as far as they are compared with the fixed ones."""
        return self.pair.moving.labels if self.moving_compared is None else self.moving_compared

    @cached_property
    def voxels(self) -> dict[int, tuple[int, int]]:
        """Every vertebra of either label map, ascending -> its voxels in the compared moving and in the fixed labels.

        Raises ValueError where the case has no fixed labels.
        """
        moving, fixed = self.compared_labels, self.pair.fixed.labels
        if moving is None or fixed is None:
            raise ValueError(f"case {self.pair.case}: expected fixed labels, got None; this case cannot be evaluated")
        size = 1 + max(int(labels.max()) for labels in (moving, fixed))
        of_moving, of_fixed = (np.bincount(labels.ravel(), minlength=size).tolist() for labels in (moving, fixed))
        return {v: (of_moving[v], of_fixed[v]) for v in range(1, size) if of_moving[v] or of_fixed[v]}

    @cached_property
    def not_counted(self) -> dict[int, str]:
        """The vertebrae of either label map that are not evaluated, and why.

        These are: one of `excluded`, one that either map lacks, and one under 500 mm3 in either map.
        """
        voxel_mm3 = float(np.prod(self.pair.grid.spacing_mm[::-1]))
        reasons = {v: self.excluded.get(v) or _too_small(*counts, voxel_mm3) for v, counts in self.voxels.items()}
        return {v: reason for v, reason in reasons.items() if reason is not None}

    @cached_property
    def counted(self) -> list[int]:
        """The vertebrae that are evaluated, ascending: in the tables and in the validation of a training alike."""
        return [v for v in self.voxels if v not in self.not_counted]


def _too_small(n_moving: int, n_fixed: int, voxel_mm3: float) -> str | None:
    if not n_moving or not n_fixed:
        return f"only in the {'moving' if n_moving else 'fixed'} labels"
    for n, which in ((n_moving, "moving"), (n_fixed, "fixed")):
        if n * voxel_mm3 < SMALLEST_VERTEBRA_MM3:
            return f"under {SMALLEST_VERTEBRA_MM3:g} mm3 in the {which} labels"
    return None


@dataclass(frozen=True)
class Registration:
    """What a method gives back.

    displacement_mm: float32 (z, y, x, 3), components x, y, z in LPS millimetres: the fixed point p goes to the
        moving point p + u(p), on the fixed grid. This is ITK's displacement field.
    notes: anything worth a line in the log, kept with the result.
    """

    displacement_mm: np.ndarray
    notes: Mapping[str, float | str] = field(default_factory=dict)

    def check(self, grid: Grid) -> None:
        """Raise ValueError unless the displacement can be evaluated on `grid` and can be in millimetres."""
        u = self.displacement_mm
        if not isinstance(u, np.ndarray):
            raise ValueError(f"displacement_mm: expected a numpy array, got {type(u).__name__}")
        if u.dtype != np.float32:
            raise ValueError(f"displacement_mm: expected float32, got {u.dtype}; end with .astype(np.float32)")
        if u.shape != (*grid.shape, 3):
            raise ValueError(f"displacement_mm: expected shape {(*grid.shape, 3)} (z, y, x, component), got {u.shape}")
        if not np.isfinite(u).all():
            others = int((~np.isfinite(u)).sum())
            raise ValueError(
                f"displacement_mm: expected finite millimetres, got NaN or infinity in {others} of {u.size}"
            )
        extent_mm = float(np.linalg.norm(np.multiply(grid.shape[::-1], grid.spacing_mm)))
        typical_mm = float(np.median(np.linalg.norm(u[::2, ::2, ::2].reshape(-1, 3), axis=-1)))
        if typical_mm > extent_mm:
            raise ValueError(
                f"displacement_mm: expected millimetres, got a median length of {typical_mm:.4g} in a volume whose "
                f"diagonal is {extent_mm:.4g} mm; other units, or points instead of displacements?"
            )


class Paused(Exception):
    """Training stopped because its time was up. What was learnt is kept, and the same call goes on from there."""


@dataclass(frozen=True)
class Preview:
    """What a validation case looks like now: one slice (rows, columns) of fixed and warped image, and their labels.

    aspect: height of a voxel over its width.
    """

    fixed: np.ndarray
    warped: np.ndarray
    fixed_labels: np.ndarray
    warped_labels: np.ndarray
    aspect: float = 1.0


class Progress:
    """Whoever looks on while a method learns. This one is silent; overwrite what is to be shown.

    run: the network in training, as `trunk` or `pc`. A `fit` need call nothing but the line.
    """

    def __call__(self, line: str) -> None:
        """One line of news."""

    def step(self, run: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        """After each step: how many are done of how many, and the losses of this one."""

    def validated(self, run: str, done: int, figures: Mapping[str, float], preview: Preview | None) -> None:
        """After each validation: its figures by name and what one case looks like."""

    def out_of_time(self) -> bool:
        """Whether to keep what there is and raise Paused."""
        return False


def _from_here(path: Path) -> Path:
    return path.expanduser().absolute()


# A path in a method's settings. A relative one is from where the command is run; a method works elsewhere.
UserPath = Annotated[Path, AfterValidator(_from_here)]


class Settings(BaseModel):
    """Settings of a method: a pydantic model, so that a wrong key or type in YAML is refused by name.

    For a file or a folder use `UserPath`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(ABC):
    """A registration method. One instance is one row of the table.

    The runner calls, in a process of its own and in this order:

    1. `unavailable(device)`: the reason why it cannot run here, or None;
    2. `prepare(device, threads, seed)`: untimed; imports, weights, warm-up;
    3. `register(pair)` for every case: the only timed call, from arrays in memory to arrays in memory.

    A method that learns also has `fit`. Class attributes: `devices`, where it can run; `fresh_process`, True for a
    new process for every case (a library that keeps global state); `knows_case`, True for a method that is given the
    case's name in place of a token (fields made elsewhere are found by it); `argument`, the setting that the command
    line's `name:VALUE` fills; `Settings`, the pydantic model of its settings.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    fresh_process: ClassVar[bool] = False
    knows_case: ClassVar[bool] = False
    argument: ClassVar[str | None] = None
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.settings = self.Settings(**settings)

    def unavailable(self, device: str) -> str | None:
        """The reason why the method cannot run on `device` here, or None."""
        return None

    def fingerprint(self) -> str:
        """What, besides name and settings, decides the result: a hash of the weights, say. Default: nothing."""
        return ""

    def fit(
        self,
        train: Sequence[Pair],
        val: Sequence[Case],
        workdir: Path,
        seed: int,
        progress: Progress,
    ) -> None:
        """Learn from `train` (lazy, without fixed labels), judged on `val` (lazy, with them); write into `workdir`.

        The same call goes on from what is in `workdir`, which is this command's alone. Raises Paused when
        `progress.out_of_time()`. `workdir`/data.json, where it is there, says what the pairs are.
        """
        raise TypeError(f"method {self.name} has nothing to train; `list methods` shows which have")

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Untimed set-up in the process that will register. device: `cpu` or `cuda`. threads: CPU threads to use."""
        return None

    @abstractmethod
    def register(self, pair: Pair) -> Registration:
        """Register one pair; the only timed call. `pair.fixed.labels` is None."""


def trainable(method: Method) -> bool:
    """Whether `method` has a `fit` of its own."""
    return type(method).fit is not Method.fit


def vertebra_ids(labels: np.ndarray) -> Iterable[int]:
    """The VerSe ids present in a label map, ascending, background left out."""
    return (int(v) for v in np.unique(labels) if v != 0)
