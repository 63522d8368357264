"""`greedy`: fast diffeomorphic registration by the tool greedy (picsl-greedy), which belongs to ITK-SNAP.

Its warp is ITK's displacement field in LPS millimetres, which maps a fixed point p to p + u(p).
Documentation: https://greedy.readthedocs.io

References:
    P. Yushkevich et al., Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3
    Tesla and 7 Tesla T2-weighted MRI, Alzheimer's & Dementia 12(7), 2016.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from methods.base import Method, Pair, Registration, Settings
from methods.checks import PEERS, missing, refuse_flat, version_of
from methods.geometry import from_sitk, to_sitk

PACKAGE = "picsl-greedy"


class GreedySettings(Settings):
    """Settings of `greedy`; the defaults were chosen on phantoms of the validation split (tests/checks/tuning).

    Attributes:
        rigid: whether a rigid registration of the whole image comes first.
        metric: value of greedy's option `-m`: `NMI`, `MI`, or `NCC` or `WNCC` with a radius such as `NCC 4x4x4`.
        step: value of greedy's option `-e`, the length of a step, above 0.
        update_mm: smoothing of the update, a Gaussian's SD, above 0.
        total_mm: smoothing of the whole displacement, a Gaussian's SD, above 0.
        iterations: for each resolution, coarsest first.
    """

    rigid: bool = False
    metric: str = Field("NMI", pattern=r"^(NMI|MI|W?NCC \d+x\d+x\d+)$")
    step: float = Field(1.0, gt=0)
    update_mm: float = Field(6.0, gt=0)
    total_mm: float = Field(2.0, gt=0)
    iterations: tuple[int, ...] = Field((100, 50, 10), min_length=1)


class Greedy(Method):
    """greedy: diffeomorphic registration by composition of smoothed updates."""

    devices = ("cpu",)
    Settings = GreedySettings
    settings: GreedySettings
    threads = 1
    seed = 1

    def unavailable(self, device: str) -> str | None:
        return missing(PACKAGE, PEERS)

    def fingerprint(self) -> str:
        return f"{PACKAGE} {version_of(PACKAGE)}"

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Import greedy and set its seed, which is above 0: greedy replaces the seed 0 by the clock."""
        import picsl_greedy  # noqa: F401

        self.threads, self.seed = threads, seed + 1

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: an image has one value everywhere.
            RuntimeError: greedy failed.
        """
        from picsl_greedy import Greedy3D

        refuse_flat(pair)
        greedy, s = Greedy3D(), self.settings
        images: dict[str, Any] = {
            n: to_sitk(scan.image, pair.grid) for n, scan in (("fixed", pair.fixed), ("moving", pair.moving))
        }
        # -gm: where the metric is computed; -mm: the moving voxels that count.
        masks = ""
        for option, name, scan in (("-gm", "fixed_mask", pair.fixed), ("-mm", "moving_mask", pair.moving)):
            if scan.inside is not None:
                images[name] = to_sitk(scan.inside.astype(np.float32), pair.grid)
                masks += f" {option} {name}"
        levels = f"-n {'x'.join(map(str, s.iterations))} -threads {self.threads} -seed {self.seed} -V 0"
        rigid = ""
        if s.rigid:
            greedy.execute(
                f"-i fixed moving{masks} -a -dof 6 -ia-identity -m {s.metric} -o rigid {levels}", **images, rigid=None
            )
            rigid = "rigid"
        greedy.execute(
            f"-i fixed moving{masks} {f'-it {rigid}' if rigid else ''} -m {s.metric} -e {s.step} "
            f"-s {s.update_mm}mm {s.total_mm}mm -o warp {levels}",
            **images,
            warp=None,
        )
        greedy.execute(f"-rf fixed -r warp {rigid} -rc composed -threads {self.threads} -V 0", composed=None)
        field, _ = from_sitk(greedy["composed"])
        return Registration(np.ascontiguousarray(field, np.float32), {"picsl-greedy": version_of(PACKAGE) or ""})
