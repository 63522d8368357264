"""The displacement of a method on the grid of the fixed scan, composed with the pre-alignment."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.cli.registered_files import composed_displacement
from benchmark.datasets import label_resampling
from benchmark.datasets.resampling import IDENTITY, Rigid
from methods.base import Grid

QUARTER_TURN = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])


def test_the_pre_alignment_follows_the_displacement() -> None:
    """p = (10, 0, 0): p + u = (15, 0, 0), a quarter turn gives (0, 15, 0), and 3 mm along x (3, 15, 0)."""
    grid = Grid((2, 2, 2), (10.0, 10.0, 10.0))
    u = np.zeros((2, 2, 2, 3), np.float32)
    u[..., 0] = 5.0
    found = composed_displacement(u, grid, Rigid(QUARTER_TURN, np.array([3.0, 0, 0])), grid)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0, 0, 1], (-7, 15, 0), atol=1e-5)


def test_beyond_the_methods_grid_the_border_value_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(label_resampling, "SLAB_VOXELS", 64)  # several slabs
    u = np.broadcast_to(np.arange(4, dtype=np.float32)[:, None, None, None], (4, 4, 4, 3)).copy()
    found = composed_displacement(u, Grid((4, 4, 4)), IDENTITY, Grid((10, 6, 6), origin_mm=(-1.0, -1.0, -3.0)))
    np.testing.assert_allclose(found[:, 0, 0, 0], [0, 0, 0, 0, 1, 2, 3, 3, 3, 3], atol=1e-5)
