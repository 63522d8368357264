"""The CT of a phantom as a user's CT, for the simulation of pairs."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import grey_dilation

from benchmark.datasets.phantom import Phantom
from methods.base import Grid


def ct_with_touching_labels() -> tuple[np.ndarray, np.ndarray, Grid]:
    """HU, labels and grid; the labels are one voxel larger in plane, so that facets touch as in real labels."""
    pair = Phantom("phantom", spacing_mm=2.0, vertebrae=3).load("phantom-0005").pair
    assert pair.moving.labels is not None
    labels = np.where(pair.moving.labels > 0, pair.moving.labels, grey_dilation(pair.moving.labels, (1, 3, 3)))
    return (pair.moving.image * 3000 - 1000).astype(np.float32), labels, pair.grid
