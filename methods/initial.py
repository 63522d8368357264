"""`initial`: the pair as it was pre-aligned. This file is also the template of a method: copy it and fill it in.

In a copy outside this package, add `from methods.registry import METHODS` and the decorator
`@METHODS.register("my-method")` to the method's class, then run it::

    python run_benchmark.py run --plugin my_method.py --methods initial,my-method --out runs/my-method
"""

from __future__ import annotations

import numpy as np

from methods.base import Method, Pair, Registration, Settings
from methods.checks import missing


# One field for each setting, with a default and a range, such as `iterations: int = pydantic.Field(100, ge=1)`. YAML
# sets them, and a wrong name, type or value is refused before anything runs.
class InitialSettings(Settings):
    """No setting: a zero displacement has no parameters."""


# The first line of the docstring describes the method in `list methods`.
class Initial(Method):
    """No registration: a displacement of zero everywhere, the first row of Table 1."""

    # Every device that `register` supports. A method that also runs on a GPU declares ("cpu", "cuda").
    devices = ("cpu",)
    Settings = InitialSettings
    settings: InitialSettings  # an instance, filled from YAML

    # Called first. A reason in place of None marks the row as unavailable and the run continues, so that a missing
    # library, weights file or GPU does not stop the other rows.
    def unavailable(self, device: str) -> str | None:
        return missing("numpy")

    # Called once in the process that registers, and not timed. Import slow libraries, load weights, move a network to
    # `device`, limit libraries to `threads` and seed random numbers here, so that the time of `register` excludes it.
    def prepare(self, device: str, threads: int, seed: int) -> None:
        """Nothing to set up."""

    # The only timed call. Images are float32 (z, y, x) in [0, 1] on one grid, `pair.grid`; `pair.moving.labels` holds
    # VerSe ids; `pair.fixed.labels` is None, because a method must not see them. Do not change these arrays.
    def register(self, pair: Pair) -> Registration:
        # float32 (z, y, x, 3): components x, y, z in LPS millimetres, from each fixed point to its moving point.
        # methods/geometry.py converts displacements in voxels and SimpleITK images.
        displacement_mm = np.zeros((*pair.grid.shape, 3), np.float32)
        # Notes are numbers and text that the run stores with the cell, for example why an optimiser stopped.
        return Registration(displacement_mm, notes={"iterations": 0})

    # Two more functions exist for methods that need them: `fit` trains, and `fingerprint` makes finished cells stale
    # when a file or a library that the result depends on changes. See `Method` in methods/base.py.
