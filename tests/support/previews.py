"""A preview of a validation case, as a training gives it."""

from __future__ import annotations

import numpy as np

from methods.base import Preview


def preview() -> Preview:
    """One labelled block, and the same block moved by two rows."""
    labels = np.zeros((20, 30), np.uint16)
    labels[5:12, 8:20] = 20
    return Preview(labels / 20.0, labels / 40.0, labels, np.roll(labels, 2), 1.5)
