"""`initial`: the pair as it was pre-aligned. The exemplar of a method."""

from __future__ import annotations

import numpy as np

from methods.base import Method, Pair, Registration


class Initial(Method):
    """No registration: a displacement of zero everywhere, the table's first row."""

    devices = ("cpu",)

    def register(self, pair: Pair) -> Registration:
        return Registration(np.zeros((*pair.grid.shape, 3), np.float32))
