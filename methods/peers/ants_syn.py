"""`ants-syn`: symmetric normalisation by ANTs (antspyx), with mutual information or local cross-correlation.

ANTs' warp is ITK's displacement field in LPS millimetres, which maps a fixed point p to p + u(p).
Documentation: https://antspy.readthedocs.io

References:
    B. Avants, C. Epstein, M. Grossman, J. Gee, Symmetric diffeomorphic image registration with cross-correlation,
    Medical Image Analysis 12(1), 2008.
"""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import Field

from methods.base import Grid, Method, Pair, Registration, Settings
from methods.checks import PEERS, missing, refuse_flat, version_of
from methods.geometry import from_sitk

PACKAGE = "antspyx"
_THREADS = "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"


class AntsSynSettings(Settings):
    """Settings of `ants-syn`.

    The defaults were chosen on a phantom of the validation split (tests/checks/tuning). The defaults of the package
    (rigid, step 0.2, flow_sigma 3, total_sigma 0, iterations 40, 20, 0) miss most of the motion there.

    Attributes:
        rigid: whether a rigid registration of the whole image comes first.
        metric: `mattes` (mutual information) or `CC` (local cross-correlation).
        sampling: bins of the histogram for `mattes`, radius of the neighbourhood in voxels for `CC`; at least 1.
        step: length of a gradient step, above 0.
        flow_sigma: smoothing of the update, a variance in squared voxels, at least 0.
        total_sigma: smoothing of the whole displacement, a variance in squared voxels, at least 0.
        iterations: for each resolution, coarsest first.
    """

    rigid: bool = False
    metric: Literal["mattes", "CC"] = "mattes"
    sampling: int = Field(32, ge=1)
    step: float = Field(0.5, gt=0)
    flow_sigma: float = Field(36.0, ge=0)
    total_sigma: float = Field(4.0, ge=0)
    iterations: tuple[int, ...] = Field((100, 70, 0), min_length=1)


class AntsSyn(Method):
    """ANTs: symmetric normalisation."""

    devices = ("cpu",)
    Settings = AntsSynSettings
    settings: AntsSynSettings
    _seeded: Mapping[str, int] = {}
    _warnings: Mapping[str, str] = {}

    def unavailable(self, device: str) -> str | None:
        return missing(PACKAGE, PEERS)

    def fingerprint(self) -> str:
        return f"{PACKAGE} {version_of(PACKAGE)}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Import ANTs, which reads its number of threads from the environment at import."""
        os.environ[_THREADS] = str(threads)
        import ants

        self._seeded, self._warnings = _seed_ants(ants, seed + 1)  # 0 means the clock
        os.environ[_THREADS] = str(threads)  # antspyx's own setting of a seed also sets one thread

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: an image has one value everywhere.
            RuntimeError: ANTs failed.
        """
        import ants

        refuse_flat(pair)
        fixed, moving = (_image(scan.image, pair.grid) for scan in (pair.fixed, pair.moving))
        s = self.settings
        masks = [None if scan.inside is None else _image(scan.inside.astype(np.float32), pair.grid)
                 for scan in (pair.fixed, pair.moving)]  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="rigidbench-") as folder:
            start: Any = "Identity"
            if s.rigid:
                prefix = str(Path(folder) / "rigid")
                rigid = ants.registration(
                    fixed, moving, "Rigid", "Identity", outprefix=prefix, mask=masks[0], moving_mask=masks[1],
                    **self._seeded,
                )  # fmt: skip
                start = rigid["fwdtransforms"]
            result = ants.registration(
                fixed, moving, "SyNOnly", start, outprefix=str(Path(folder) / "syn"), **self._seeded,
                syn_metric=s.metric, syn_sampling=s.sampling, grad_step=s.step, flow_sigma=s.flow_sigma,
                total_sigma=s.total_sigma, reg_iterations=s.iterations, mask=masks[0], moving_mask=masks[1],
            )  # fmt: skip
            composed = ants.apply_transforms(
                fixed, moving, result["fwdtransforms"], compose=str(Path(folder) / "composed")
            )
            return Registration(_field(composed), {"antspyx": version_of(PACKAGE) or "", **self._warnings})


def _seed_ants(ants: Any, seed: int) -> tuple[dict[str, int], dict[str, str]]:
    """Set the seed of ANTs' random samples in the way of the installed version.

    Up to 0.5 `ants.registration` takes `random_seed`. 0.6 ignores this argument without an error and takes the seed
    from `ants.config`.

    Args:
        ants: the imported package.
        seed: above 0.

    Returns:
        Arguments of `ants.registration`, and notes: a `warning` where no way of setting a seed is known.
    """
    if "random_seed" in inspect.signature(ants.registration).parameters:
        return {"random_seed": seed}, {}
    if set_seed := getattr(getattr(ants, "config", None), "set_ants_deterministic", None):
        set_seed(True, seed)
        return {}, {}
    return {}, {
        "warning": f"antspyx {version_of(PACKAGE)} takes no random seed, so that its results are not repeatable"
    }


def _image(array: np.ndarray, grid: Grid) -> Any:
    """An ANTs image of an array (z, y, x)."""
    import ants

    in_xyz = np.ascontiguousarray(array.T)
    return ants.from_numpy(in_xyz, list(grid.origin_mm), list(grid.spacing_mm), grid.matrix)


def _field(path: str) -> np.ndarray:
    """The displacement field in a file, float32 (z, y, x, 3)."""
    import SimpleITK as sitk

    return np.ascontiguousarray(from_sitk(sitk.ReadImage(path))[0], np.float32)
