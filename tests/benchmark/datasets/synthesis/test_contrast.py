"""Values of tissues in CT and MR, in bulk."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.synthesis.contrast import Tissue, TissueMap, ct_hu, mr_signal
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid

GRID = Grid((24, 24, 24))


def means(tissue: Tissue, bone_mm: float, age_years: float = 55.0) -> tuple[float, float, float]:
    """HU, T1 and T2 signal of one tissue in bulk; bone where its distance is negative."""
    soft = np.full(GRID.shape, tissue, np.uint8)
    tissues = TissueMap(soft, np.full(GRID.shape, bone_mm, np.float32), GRID, shell_mm=5.0, age_years=age_years)
    images = (
        ct_hu(tissues, PortableRng(0)),
        mr_signal(tissues, PortableRng(0)),
        mr_signal(tissues, PortableRng(0), "T2"),
    )
    ct, t1, t2 = (float(image.mean()) for image in images)
    return ct, t1, t2


def test_tissues_have_the_order_of_real_scans_in_each_contrast() -> None:
    fat, muscle, csf, nucleus = (means(t, 9) for t in (Tissue.FAT, Tissue.MUSCLE, Tissue.CSF, Tissue.NUCLEUS))
    marrow, cortex, air = means(Tissue.FAT, -9), means(Tissue.FAT, -2), means(Tissue.AIR, 9)
    assert air[0] < fat[0] < csf[0] < muscle[0] < marrow[0] < cortex[0]
    assert max(air[1], cortex[1]) < csf[1] < muscle[1] < marrow[1] < fat[1]
    assert max(air[2], cortex[2]) < muscle[2] < min(marrow[2], nucleus[2]) < fat[2] < csf[2]


def test_bone_loses_2_5_hu_per_year() -> None:
    young, old = means(Tissue.FAT, -9, 30.0), means(Tissue.FAT, -9, 70.0)
    assert young[0] - old[0] == pytest.approx(100, abs=1)
    assert young[1] < old[1], "fat replaces marrow"
