"""`convexadam`: coupled convex optimisation on MIND features, refined by Adam (convexAdam).

H. Siebert, C. Großbröhmer, L. Hansen, M. Heinrich, "ConvexAdam: self-configuring dual-optimization-based 3D multitask
medical image registration", IEEE TMI 44(2), 2025; winner of Learn2Reg 2021. https://github.com/multimodallearning/convexAdam.
Its field is in voxels, along the axes of the array it is given: a fixed voxel p goes to p + u(p).
"""

from __future__ import annotations

import numpy as np
import torch
from pydantic import Field

from methods.base import Method, Pair, Registration, Settings
from methods.checks import PEERS, missing, refuse_flat, version_of
from methods.geometry import to_millimetres

PACKAGE = "convexAdam"


class ConvexAdamSettings(Settings):
    """mind_radius, mind_dilation: of the descriptor, voxels. grid, reach: distance of the coarse grid's points in
    voxels, and how many of them a displacement may be long. smoothness: weight of diffusion. iterations: of Adam.
    fine_grid: distance of Adam's points, voxels. smoothing: kernel of the last averaging, odd, 0 for none.

    The defaults were chosen on phantoms of the validation split (tests/checks/tuning).
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
    Settings = ConvexAdamSettings
    settings: ConvexAdamSettings
    device = "cpu"

    def unavailable(self, device: str) -> str | None:
        if device == "cuda" and not torch.cuda.is_available():
            return "no CUDA device here"
        return missing(PACKAGE, PEERS)

    def fingerprint(self) -> str:
        return f"{PACKAGE} {version_of(PACKAGE)}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Import it. It draws nothing at random."""
        from convexAdam import convex_adam_MIND  # noqa: F401

        self.device = device

    def register(self, pair: Pair) -> Registration:
        """Register one pair. Raises ValueError for an image of one value."""
        from convexAdam.convex_adam_MIND import convex_adam_pt

        refuse_flat(pair)
        s = self.settings
        # It pools by both grids and stretches what it found over the whole: right only where they divide the size.
        extra = [(0, -n % np.lcm(s.grid, s.fine_grid)) for n in pair.grid.shape]
        fixed, moving = (np.pad(scan.image, extra, mode="edge") for scan in (pair.fixed, pair.moving))
        found = convex_adam_pt(
            fixed, moving, s.mind_radius, s.mind_dilation, s.smoothness, s.grid, s.reach, s.iterations, s.smoothing,
            s.fine_grid, dtype=torch.float32, device=torch.device(self.device),
        )  # fmt: skip
        z, y, x = pair.grid.shape
        displacement = torch.from_numpy(found[:z, :y, :x]).permute(3, 0, 1, 2)[None].float()
        return Registration(to_millimetres(displacement, pair.grid), {PACKAGE: version_of(PACKAGE) or ""})
