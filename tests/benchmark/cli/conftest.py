"""Files that several commands read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmark.datasets.io.images import write_image, write_labels
from methods.base import Grid

GRID = Grid((40, 40, 40), (1.0, 1.0, 1.0), (10.0, -20.0, 5.0))


@pytest.fixture
def scans(tmp_path: Path) -> dict[str, Path]:
    """A CT in HU with one cubic vertebra (label 20), its labels, and an MR in which the cube lies 2 mm aside."""
    rng = np.random.default_rng(0)
    labels = np.zeros(GRID.shape, np.uint16)
    labels[12:28, 12:28, 10:26] = 20
    noise = rng.random(GRID.shape, np.float32)
    files = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "mr", "labels")}
    write_image(files["ct"], (500.0 * (labels > 0) + 50 * noise - 100).astype(np.float32), GRID)
    write_image(files["mr"], (100 - 60.0 * (np.roll(labels, 2, 2) > 0) + 5 * noise).astype(np.float32), GRID)
    write_labels(files["labels"], labels, GRID)
    return files
