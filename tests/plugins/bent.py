"""A plugin file with two methods of known displacement, given in LPS millimetres on any grid."""

from __future__ import annotations

import numpy as np
from scipy.spatial.transform import Rotation

from methods.base import Method, Pair, Registration
from methods.registry import METHODS

TURN = np.eye(4)
TURN[:3, :3] = Rotation.from_euler("xyz", [5, -4, 6], degrees=True).as_matrix()
TURN[:3, 3] = 2.5, -3.3, 1.7


@METHODS.register("bent")
class Bent(Method):
    """A smooth displacement of up to 6 mm that is nowhere rigid."""

    def register(self, pair: Pair) -> Registration:
        p = pair.grid.points_mm()
        u = [4 + 2 * np.sin(p[..., 2] / 25), 3 * np.cos(p[..., 0] / 20), 3 * np.sin((p[..., 1] + p[..., 2]) / 30)]
        return Registration(np.stack(u, axis=-1).astype(np.float32))


@METHODS.register("turn")
class Turn(Method):
    """One rigid transform of the whole image."""

    def register(self, pair: Pair) -> Registration:
        p = pair.grid.points_mm()
        u = p @ TURN[:3, :3].T + TURN[:3, 3] - p
        return Registration(u.astype(np.float32), {}, {0: TURN})
