"""`convexadam`: coupled convex optimisation on MIND features, refined by Adam (convexAdam).

Its displacement is in voxels along the axes of the input array and maps a fixed voxel p to p + u(p).
Code: https://github.com/multimodallearning/convexAdam
Where a scan saw nothing, it compares the nearest seen values; it has no mask that only leaves voxels out.

References:
    H. Siebert, C. Großbröhmer, L. Hansen, M. Heinrich, ConvexAdam: self-configuring dual-optimization-based 3D
    multitask medical image registration, IEEE TMI 44(2), 2025; winner of Learn2Reg 2021.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from pydantic import Field

from methods.base import Method, Pair, Registration, Settings
from methods.checks import PEERS, missing, refuse_flat, version_of
from methods.geometry import to_millimetres

PACKAGE = "convexAdam"


class ConvexAdamSettings(Settings):
    """Settings of `convexadam`; the defaults were chosen on phantoms of the validation split (tests/checks/tuning).

    Attributes:
        mind_radius: radius of the MIND descriptor in voxels, at least 1.
        mind_dilation: dilation of the MIND descriptor in voxels, at least 1.
        grid: distance of the points of the coarse grid in voxels, at least 1.
        reach: largest displacement of the coarse search, in multiples of `grid`, at least 1.
        smoothness: weight of the diffusion regularisation, above 0.
        iterations: of Adam, at least 1.
        fine_grid: distance of the points that Adam optimises in voxels, at least 1.
        smoothing: kernel size of the final averaging, odd; 0 for none.
    """

    mind_radius: int = Field(1, ge=1)
    mind_dilation: int = Field(2, ge=1)
    grid: int = Field(4, ge=1)
    reach: int = Field(5, ge=1)
    smoothness: float = Field(1.25, gt=0)
    iterations: int = Field(80, ge=1)
    fine_grid: int = Field(2, ge=1)
    smoothing: int = Field(5, ge=0)


class ConvexAdam(Method):
    """ConvexAdam with MIND-SSC."""

    devices = ("cpu", "cuda")
    Settings: ClassVar[type[ConvexAdamSettings]] = ConvexAdamSettings
    settings: ConvexAdamSettings
    installed_by: ClassVar[str] = PEERS
    device = "cpu"

    def unavailable(self, device: str) -> str | None:
        if device == "cuda" and not torch.cuda.is_available():
            return "torch finds no CUDA device"
        return missing(PACKAGE, self.installed_by)

    def fingerprint(self) -> str:
        return f"{PACKAGE} {version_of(PACKAGE)}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Import convexAdam and keep the device. The method uses no random numbers."""
        from convexAdam import convex_adam_MIND  # noqa: F401

        self.device = device

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: an image has one value everywhere.
        """
        refuse_flat(pair)
        s = self.settings
        # convexAdam pools by both grids and stretches the result over the volume. This is exact only if both divide the
        # volume's size.
        extra = [(0, -n % np.lcm(s.grid, s.fine_grid)) for n in pair.grid.shape]
        fixed, moving = (np.pad(scan.image, extra, mode="edge") for scan in (pair.fixed, pair.moving))
        z, y, x = pair.grid.shape
        along_axes = self.optimise(fixed, moving)[:z, :y, :x]
        displacement = torch.from_numpy(along_axes).permute(3, 0, 1, 2)[None].float()
        return Registration(to_millimetres(displacement, pair.grid), {PACKAGE: version_of(PACKAGE) or ""})

    def optimise(self, fixed: np.ndarray, moving: np.ndarray) -> np.ndarray:
        """The displacement (z, y, x, 3) in voxels, components z, y, x, of two images of one size."""
        from convexAdam.convex_adam_MIND import convex_adam_pt

        s = self.settings
        return convex_adam_pt(
            fixed, moving, s.mind_radius, s.mind_dilation, s.smoothness, s.grid, s.reach, s.iterations, s.smoothing,
            s.fine_grid, dtype=torch.float32, device=torch.device(self.device),
        )  # fmt: skip
