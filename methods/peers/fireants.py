"""`fireants`: greedy diffeomorphic registration with adaptive steps in torch (FireANTs), for CPU and CUDA.

The package pins a version of SimpleITK that rigidbench cannot use, so it runs in an environment of its own (`python:`);
without this setting the row looks for it in the present one. The start of that process is not timed, the exchange of
arrays is. Its field is saved as ITK's displacement field in LPS millimetres. Settings were not tuned: they are the
package's own, with mutual information.
Code: https://github.com/rohitrango/FireANTs

References:
    R. Jena, P. Chaudhari, J. Gee, FireANTs: adaptive Riemannian optimization for multi-scale diffeomorphic matching,
    2024. https://arxiv.org/abs/2404.01249
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import Field, model_validator

from methods.base import Method, Pair, Registration, Settings, UserPath
from methods.checks import refuse_flat
from methods.peers import fireants_script
from methods.peers.other_python import OtherPython, missing_in, versions_in

PACKAGES = ("fireants", "safetensors")
SCRIPT = Path(fireants_script.__file__)  # imported, so that a change of it makes finished cells stale
SMALLEST = 32  # voxels: FireANTs computes on no smaller level
OWN_ENVIRONMENT = "python -m venv fireants && fireants/bin/pip install fireants safetensors"


class FireAntsSettings(Settings):
    """Settings of `fireants`.

    Attributes:
        python: the interpreter of the environment in which FireANTs is installed; None: that of rigidbench.
        metric: `mi` (mutual information) or `cc` (local cross-correlation).
        cc_width: edge of the neighbourhood of `cc` in voxels, odd.
        step: length of a gradient step, above 0.
        update_sigma: smoothing of the update, a Gaussian's SD in voxels, at least 0.
        total_sigma: smoothing of the whole displacement, a Gaussian's SD in voxels, at least 0.
        scales: factors by which the images are shrunk, coarsest first.
        iterations: for each scale.
    """

    python: UserPath | None = None
    metric: Literal["mi", "cc"] = "mi"
    cc_width: int = Field(7, ge=3)
    step: float = Field(0.5, gt=0)
    update_sigma: float = Field(1.0, ge=0)
    total_sigma: float = Field(0.5, ge=0)
    scales: tuple[int, ...] = Field((4, 2, 1), min_length=1)
    iterations: tuple[int, ...] = Field((100, 50, 25), min_length=1)

    @model_validator(mode="after")
    def _consistent(self) -> FireAntsSettings:
        if len(self.scales) != len(self.iterations):
            raise ValueError(f"iterations: expected {len(self.scales)}, one for each of scales, got {self.iterations}")
        if list(self.scales) != sorted(set(self.scales), reverse=True) or self.scales[-1] < 1:
            raise ValueError(f"scales: expected decreasing factors from 1 on, got {self.scales}")
        return self


class FireAnts(Method):
    """FireANTs, greedy."""

    devices = ("cpu", "cuda")
    argument = "python"
    Settings = FireAntsSettings
    settings: FireAntsSettings

    @property
    def python(self) -> Path:
        """The interpreter that runs FireANTs."""
        return self.settings.python or Path(sys.executable)

    def unavailable(self, device: str) -> str | None:
        reason = missing_in(self.python, PACKAGES)
        return f"{reason}; {OWN_ENVIRONMENT}, then set python: fireants/bin/python" if reason else None

    def fingerprint(self) -> str:
        """The versions in the other environment; empty where it cannot be run."""
        if missing_in(self.python, PACKAGES):
            return ""
        return str(versions_in(self.python, (*PACKAGES, "torch", "numpy", "SimpleITK")))

    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Start the other interpreter, and register once, which imports everything there."""
        self._resources = {"device": device, "threads": threads, "seed": seed}
        self._process = OtherPython(self.python, SCRIPT)
        image = np.zeros((SMALLEST,) * 3, np.float32)
        grid = {"spacing_mm": (1.0,) * 3, "origin_mm": (0.0,) * 3, "direction": np.eye(3).ravel().tolist()}
        image[10:20] = 1
        once = {"scales": [1], "iterations": [1]}
        self._process.call({"fixed": image, "moving": image}, self._common | grid | once)

    @property
    def _common(self) -> dict[str, object]:
        return self.settings.model_dump(exclude={"python"}) | self._resources

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: an image has one value everywhere, or fewer voxels than FireANTs takes.
            RuntimeError: FireANTs failed.
        """
        refuse_flat(pair)
        arrays = {}
        for name, scan in (("fixed", pair.fixed), ("moving", pair.moving)):
            arrays[name] = scan.image
            if scan.inside is not None:
                arrays[f"{name}_seen"] = scan.inside.astype(np.float32)
        grid = {name: getattr(pair.grid, name) for name in ("spacing_mm", "origin_mm", "direction")}
        result = self._process.call(arrays, self._common | grid)
        found = versions_in(self.python, PACKAGES)
        return Registration(result["displacement_mm"], {"fireants": found.get("fireants", "")})
