"""`greedy`: P. Yushkevich's fast diffeomorphic registration (picsl-greedy), the deformable step of ITK-SNAP's tools.

P. Yushkevich et al., "Fast automatic segmentation of hippocampal subfields and medial temporal lobe subregions in 3
Tesla and 7 Tesla T2-weighted MRI", Alzheimer's & Dementia 12(7), 2016. https://greedy.readthedocs.io. Its warp is ITK's
displacement field, LPS millimetres, a fixed point p goes to p + u(p).
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
    """rigid: whether a rigid transform of the whole image comes first. metric: as greedy's `-m`. step: `-e`.
    update_mm, total_mm: smoothing of the update and of the whole field. iterations: per resolution, coarsest first.

    The defaults were chosen on phantoms of the validation split (tests/checks/tuning).
    """

    rigid: bool = False
    metric: str = Field("NMI", pattern=r"^(NMI|MI|W?NCC \d+x\d+x\d+)$")
    step: float = Field(1.0, gt=0)
    update_mm: float = Field(6.0, gt=0)
    total_mm: float = Field(2.0, gt=0)
    iterations: tuple[int, ...] = Field((100, 50, 10), min_length=1)


class Greedy(Method):
    """greedy: diffeomorphic, explicit composition of smoothed updates."""

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
        """Import greedy. It jitters the rigid transform's points and adds noise with NCC: by the clock for a seed 0."""
        import picsl_greedy  # noqa: F401

        self.threads, self.seed = threads, seed + 1

    def register(self, pair: Pair) -> Registration:
        """Register one pair. Raises ValueError for an image of one value, RuntimeError where greedy fails."""
        from picsl_greedy import Greedy3D

        refuse_flat(pair)
        greedy, s = Greedy3D(), self.settings
        held: dict[str, Any] = {
            n: to_sitk(scan.image, pair.grid) for n, scan in (("fixed", pair.fixed), ("moving", pair.moving))
        }
        levels = f"-n {'x'.join(map(str, s.iterations))} -threads {self.threads} -seed {self.seed} -V 0"
        after = ""
        if s.rigid:
            greedy.execute(
                f"-i fixed moving -a -dof 6 -ia-identity -m {s.metric} -o rigid {levels}", **held, rigid=None
            )
            after = "rigid"
        greedy.execute(
            f"-i fixed moving {f'-it {after}' if after else ''} -m {s.metric} -e {s.step} "
            f"-s {s.update_mm}mm {s.total_mm}mm -o warp {levels}",
            **held,
            warp=None,
        )
        greedy.execute(f"-rf fixed -r warp {after} -rc composed -threads {self.threads} -V 0", composed=None)
        field, _ = from_sitk(greedy["composed"])
        return Registration(np.ascontiguousarray(field, np.float32), {"picsl-greedy": version_of(PACKAGE) or ""})
