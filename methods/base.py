"""The plugin contract: what a method receives and returns, and which vertebrae of a case count.

A method is one small file; `methods/initial.py` is the template to copy.

Conventions, the same everywhere outside `metrics/`:

- arrays are (z, y, x), geometry is ITK's: LPS millimetres, `spacing_mm` and `origin_mm` as (x, y, z);
- both scans of a pair lie on one grid, intensities are float32 in [0, 1];
- `inside` is False where a scan did not see a voxel, and None where it saw all;
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

from methods.grid import IDENTITY_DIRECTION, Grid
from methods.progress import Paused, Preview, Progress
from methods.rigid_transform import check_rigid_transforms

__all__ = ["IDENTITY_DIRECTION", "MODALITIES", "SMALLEST_VERTEBRA_MM3", "Case", "Grid", "Method", "Pair", "Paused",
           "Preview", "Progress", "Registration", "Scan", "Settings", "UserPath", "trainable",
           "vertebra_ids"]  # fmt: skip

MODALITIES = ("ct", "mr", "cbct")
SMALLEST_VERTEBRA_MM3 = 500.0  # the paper's code excludes vertebrae under 500 voxels of 1 mm in either label map


@dataclass(frozen=True)
class Scan:
    """One patient scan in memory.

    Attributes:
        image: float32 (z, y, x), in [0, 1].
        labels: uint16 (z, y, x), VerSe ids, 0 = background; or None.
        grid: the grid of all arrays.
        inside: bool (z, y, x), True where the scan saw the voxel; None: everywhere. Elsewhere `image` holds the nearest
            seen value, which is no evidence: a method must not compare it with the other image.
        modality: ct, mr or cbct.

    Raises:
        ValueError: an array has another shape than the grid, or another dtype; the scan saw no voxel; the modality is
            unknown.
    """

    image: np.ndarray
    labels: np.ndarray | None
    grid: Grid
    inside: np.ndarray | None = None
    modality: str = "ct"

    def __post_init__(self) -> None:
        arrays = (("image", self.image, np.float32), ("labels", self.labels, np.uint16), ("inside", self.inside, bool))
        for name, array, dtype in arrays:
            if array is None:
                continue
            if array.shape != self.grid.shape:
                raise ValueError(f"{name}: expected the grid's shape {self.grid.shape}, got {array.shape}")
            if array.dtype != dtype:
                raise ValueError(f"{name}: expected {np.dtype(dtype)}, got {array.dtype}")
        if self.inside is not None and not self.inside.any():
            raise ValueError("inside: expected a scan that saw at least one voxel, got none")
        if self.modality not in MODALITIES:
            raise ValueError(f"modality: expected {', '.join(MODALITIES)}, got {self.modality!r}")


@dataclass(frozen=True)
class Pair:
    """The input of a method: the fixed MR and the moving CT on one grid.

    Attributes:
        case: an opaque token while a method is tested; the case's name if the method declares `knows_case`.
        fixed: the fixed scan; its labels are None while a method is tested or trained.
        moving: the moving scan, always with labels.

    Raises:
        ValueError: the grids differ, or the moving scan has no labels.
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
        """The grid of both scans."""
        return self.fixed.grid

    def blind(self, token: str) -> Pair:
        """The pair as a method may see it: without fixed labels, and named `token`."""
        return Pair(token, replace(self.fixed, labels=None), self.moving)


@dataclass(frozen=True)
class Case:
    """A pair and the reference data that only the evaluation may use.

    Attributes:
        pair: both scans, with fixed labels.
        true_displacement_mm: float32 (z, y, x, 3) as in `Registration`, or None if the truth is unknown.
        true_core: bool (z, y, x) on the fixed grid, the voxels where the truth is exactly rigid; None: all labels.
        excluded: vertebrae of this case that are not evaluated, each with the reason.
        moving_compared: uint16 (z, y, x), the part of the moving labels that is compared with the fixed labels
            (vertebral bodies); None: all of the moving labels.
        landmarks_mm: float (2, N, 3), LPS, N fixed points and their positions in the moving scan; or None.
        notes: what is doubtful about the input, one sentence each; a run prints them and its report shows them.
        cut: vertebrae that the border of either stored scan cuts.
    """

    pair: Pair
    true_displacement_mm: np.ndarray | None = None
    true_core: np.ndarray | None = None
    excluded: Mapping[int, str] = field(default_factory=dict)
    moving_compared: np.ndarray | None = None
    landmarks_mm: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    cut: frozenset[int] = frozenset()

    @property
    def compared_labels(self) -> np.ndarray | None:
        """The part of the moving labels that is compared with the fixed labels, uint16 (z, y, x)."""
        return self.pair.moving.labels if self.moving_compared is None else self.moving_compared

    @cached_property
    def voxels(self) -> dict[int, tuple[int, int]]:
        """Number of voxels of each vertebra, in the compared moving and in the fixed labels; vertebrae ascending.

        Raises:
            ValueError: the case has no fixed labels.
        """
        moving, fixed = self.compared_labels, self.pair.fixed.labels
        if moving is None or fixed is None:
            raise ValueError(f"case {self.pair.case}: expected fixed labels, got None; this case cannot be evaluated")
        size = 1 + max(int(labels.max()) for labels in (moving, fixed))
        of_moving, of_fixed = (np.bincount(labels.ravel(), minlength=size).tolist() for labels in (moving, fixed))
        return {v: (of_moving[v], of_fixed[v]) for v in range(1, size) if of_moving[v] or of_fixed[v]}

    @cached_property
    def not_counted(self) -> dict[int, str]:
        """The vertebrae of either label map that are not evaluated, each with the reason.

        A vertebra is not evaluated if it is in `excluded`, absent from either map, or under 500 mm3 in either map.
        """
        voxel_mm3 = float(np.prod(self.pair.grid.spacing_mm[::-1]))
        reasons = {v: self.excluded.get(v) or _too_small(*counts, voxel_mm3) for v, counts in self.voxels.items()}
        return {v: reason for v, reason in reasons.items() if reason is not None}

    @cached_property
    def counted(self) -> list[int]:
        """The vertebrae that are evaluated, ascending, both in the tables and in the validation of a training."""
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
    """The output of a method.

    Attributes:
        displacement_mm: float32 (z, y, x, 3) on the fixed grid, components x, y, z in LPS millimetres. It maps the
            fixed point p to the moving point p + u(p), as ITK's displacement field does.
        notes: numbers and text by name, stored with the result.
        rigid_transforms: the rigid transforms that the displacement was made from, fixed -> moving, 4 x 4 in LPS
            millimetres, by VerSe id, or by 0 for the whole image; None for other methods. They are written beside the
            displacement and not evaluated.
    """

    displacement_mm: np.ndarray
    notes: Mapping[str, float | str] = field(default_factory=dict)
    rigid_transforms: Mapping[int, np.ndarray] | None = None

    def check(self, grid: Grid) -> None:
        """Check that the displacement can be evaluated on `grid`, and that the rigid transforms are rigid.

        Raises:
            ValueError: type, dtype or shape is wrong, a value is not finite, or half of the vectors are longer than
                the volume's diagonal and therefore not in millimetres.
        """
        check_rigid_transforms(self.rigid_transforms or {})
        u = self.displacement_mm
        if not isinstance(u, np.ndarray):
            raise ValueError(f"displacement_mm: expected a numpy array, got {type(u).__name__}")
        if u.dtype != np.float32:
            raise ValueError(f"displacement_mm: expected float32, got {u.dtype}; end with .astype(np.float32)")
        if u.shape != (*grid.shape, 3):
            raise ValueError(f"displacement_mm: expected shape {(*grid.shape, 3)} (z, y, x, component), got {u.shape}")
        if not np.isfinite(u).all():
            count = int((~np.isfinite(u)).sum())
            raise ValueError(
                f"displacement_mm: expected finite millimetres, got NaN or infinity in {count} of {u.size} values"
            )
        extent_mm = float(np.linalg.norm(np.multiply(grid.shape[::-1], grid.spacing_mm)))
        typical_mm = float(np.median(np.linalg.norm(u[::2, ::2, ::2].reshape(-1, 3), axis=-1)))
        if typical_mm > extent_mm:
            raise ValueError(
                f"displacement_mm: expected millimetres, got a median length of {typical_mm:.4g} in a volume whose "
                f"diagonal is {extent_mm:.4g} mm; other units, or points instead of displacements?"
            )


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


# The type of a file or folder in a method's settings. A relative path is made absolute when the settings are read,
# because a method runs in another working directory than the command.
UserPath = Annotated[Path, AfterValidator(_absolute)]


class Settings(BaseModel):
    """Base class of a method's settings. pydantic refuses a wrong key or type in YAML. A file is a `UserPath`."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(ABC):
    """A registration method. One instance is one row of Table 1.

    The runner starts a separate process for the row and calls there, in this order:

    1. `unavailable(device)`: the reason why the row cannot run on this machine, or None;
    2. `prepare(device, threads, seed)`: untimed; imports, weights, warm-up;
    3. `register(pair)` for every case: the only timed call, from arrays in memory to arrays in memory.

    A method that learns also implements `fit`.

    Attributes:
        devices: the devices that the method supports, `cpu` or `cuda`.
        fresh_process: True starts a new process for every case, for a library that keeps global state.
        knows_case: True passes the case's name as `pair.case` in place of an opaque token.
        argument: the setting that `name:VALUE` on the command line fills, or None.
        Settings: the pydantic model of the method's settings.
        name: the row's name.
        settings: the row's settings, an instance of `Settings`.
        uses: the names of other rows that `register` calls; their code decides the result too.
    """

    devices: ClassVar[tuple[str, ...]] = ("cpu",)
    fresh_process: ClassVar[bool] = False
    knows_case: ClassVar[bool] = False
    argument: ClassVar[str | None] = None
    uses: tuple[str, ...] = ()
    Settings: ClassVar[type[Settings]] = Settings

    def __init__(self, name: str, **settings: Any) -> None:
        self.name = name
        self.settings = self.Settings(**settings)

    def unavailable(self, device: str) -> str | None:
        """The reason why the method cannot run on `device` of this machine, or None if it can."""
        return None

    def check_files(self, pair: Pair) -> None:
        """For a dry run: raise ValueError or OSError where `register` would fail for a file that it reads for a pair.

        Default: it reads none.
        """
        return None

    def fingerprint(self) -> str:
        """A text that changes when the result may change for a reason other than name, settings or code.

        Examples: a hash of the weights, the version of a library. A finished cell with another text is run again.
        """
        return ""

    def fit(
        self,
        train: Sequence[Pair],
        val: Sequence[Case],
        workdir: Path,
        seed: int,
        progress: Progress,
    ) -> None:
        """Train the method and write the result into `workdir`; a second call with the same folder resumes.

        Args:
            train: training pairs without fixed labels, each loaded when it is indexed.
            val: validation cases with fixed labels, each loaded when it is indexed.
            workdir: the folder of this training command. Its data.json, if there is one, describes the pairs.
            seed: seed of every random number.
            progress: receives losses and validation values; tells when to stop.

        Raises:
            Paused: `progress.out_of_time()` returned True. The state is saved.
            TypeError: the method has nothing to train.
        """
        raise TypeError(f"method {self.name} has nothing to train; `list methods` shows which have")

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Set up the process that will register: imports, weights, threads, warm-up. Not timed.

        Args:
            device: `cpu` or `cuda`, one of `devices`.
            threads: the number of CPU threads to use, at least 1.
            seed: seed of every random number, at least 0.
        """
        return None

    @abstractmethod
    def register(self, pair: Pair) -> Registration:
        """Register one pair; the only timed call.

        Args:
            pair: both scans; `pair.fixed.labels` is None. Its arrays must not be changed.

        Returns:
            The displacement from fixed to moving points on `pair.grid`, and notes.

        Raises:
            ValueError: the pair cannot be registered. The message is stored with the failed cell.
        """


def trainable(method: Method) -> bool:
    """Whether the class of `method` implements `fit`."""
    return type(method).fit is not Method.fit


def vertebra_ids(labels: np.ndarray) -> Iterable[int]:
    """The VerSe ids in a label map, ascending, without background.

    Args:
        labels: integers of any shape, 0 = background.
    """
    return (int(v) for v in np.unique(labels) if v != 0)
