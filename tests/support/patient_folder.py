"""A patient folder with known contents: the MR is the CT, shifted by whole voxels."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.datasets.folders import write_patient
from methods.base import Grid

GRID = Grid((40, 24, 20), (1.0, 1.0, 1.0), (-10.0, 5.0, 100.0))
SHIFT_MM = np.array([2.0, -1.0, 3.0])  # whole voxels of GRID, so that shifted arrays are exact


def arrays() -> dict[str, np.ndarray]:
    """A CT of three labelled blocks and the MR of the same blocks: MR point p is CT point p + SHIFT_MM."""
    ct = np.random.default_rng(0).normal(0, 50, GRID.shape).astype(np.float32)
    ct_labels = np.zeros(GRID.shape, np.uint16)
    for i, vertebra in enumerate((20, 21, 22)):
        ct_labels[26 - 10 * i : 34 - 10 * i, 8:16, 6:14] = vertebra
    ct[ct_labels > 0] += 600
    x, y, z = (-int(n) for n in SHIFT_MM)
    shift = {"axis": (0, 1, 2), "shift": (z, y, x)}
    return {
        "ct_hu": ct,
        "ct_labels": ct_labels,
        "mr": 500 - np.roll(ct, **shift) / 2,
        "mr_labels": np.roll(ct_labels, **shift),
        "displacement_mm": np.broadcast_to(SHIFT_MM, (*GRID.shape, 3)).astype(np.float32),
    }


def write(folder: Path, **changed: np.ndarray | None) -> Path:
    """Write the patient, with some of `arrays` replaced."""
    write_patient(folder, **{**arrays(), **changed}, grid=GRID)
    return folder
