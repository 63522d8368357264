"""Values of tissues in CT and in T1- or T2-weighted MR, before acquisition.

Both images are made from a map of tissues, never one from the other, so no function of intensity turns one into the
other: cortical bone is the brightest tissue in CT and the darkest in MR; fat is dark in CT and bright in MR; fluid is
dark in T1 and bright in T2.

Values: CT numbers after Hounsfield's scale with the usual clinical ranges. T1-weighted spin echo ranks fat > fatty
marrow > disc, cord and muscle > CSF > cortex, air and flowing blood; T2-weighted fast spin echo CSF > fat and a young
nucleus > marrow and cord > muscle > ligament and cortex (signal relative to the brightest).
Trabecular bone loses 2.5 HU a year from 226 HU at 30 on, SD about 40 (20,374 adults): Jang et al., Radiology
291(2):360-367, 2019, doi:10.1148/radiol.2019181648; the SD here includes the scanner. Marrow turns fatty and nuclei
dry out with age.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from benchmark.datasets.synthesis.metal import with_metal_ct, with_metal_mr
from benchmark.datasets.synthesis.random import PortableRng, smooth_noise
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from methods.base import Grid


class Tissue(IntEnum):
    """Soft tissues of the map; bone is stored separately, as a distance."""

    AIR = 0
    LUNG = 1
    FAT = 2
    MUSCLE = 3
    ANNULUS = 4
    NUCLEUS = 5
    CSF = 6
    CORD = 7
    VESSEL = 8
    LIGAMENT = 9
    VEIN = 10
    HEART = 11
    ORGAN = 12
    BOWEL = 13


@dataclass(frozen=True)
class Marrow:
    """How the marrow of each voxel differs from the patient's mean, float32 (z, y, x), 0 outside bone.

    density_hu: excess of HU. fat: excess of the share of fat, which is bright in MR.
    """

    density_hu: np.ndarray
    fat: np.ndarray


@dataclass(frozen=True)
class TissueMap:
    """The tissues of every voxel.

    soft: uint8 (z, y, x), a `Tissue`; inside bone, the tissue that would be there without it.
    bone_mm: float32 (z, y, x), signed distance to the surface of bone in mm, negative inside. It is exact near the
        surface only; partial volume and cortical shell need no more.
    grid: of both arrays.
    shell_mm: thickness of the cortical shell, one for all voxels or float32 (z, y, x).
    marrow: differences of the marrow within the patient; None: none.
    cortex: float32 (z, y, x) in [0, 1], measured share of cortex in a voxel's bone; None: the shell alone.
    age_years: of the patient; bone density and marrow depend on it.
    metal_mm: float32 (z, y, x), distance to the surface of metal, negative inside; None: no metal.
    """

    soft: np.ndarray
    bone_mm: np.ndarray
    grid: Grid
    shell_mm: float | np.ndarray = 0.9
    cortex: np.ndarray | None = None
    marrow: Marrow | None = None
    age_years: float = 55.0
    metal_mm: np.ndarray | None = None

    def bone_fraction(self) -> np.ndarray:
        """Share of bone in each voxel, float32 (z, y, x) in [0, 1]."""
        return np.clip(0.5 - self.bone_mm / _mean_spacing(self.grid), 0, 1)

    def cortical_fraction(self) -> np.ndarray:
        """Share of cortex in each voxel's bone, float32 (z, y, x) in [0, 1]; a thin shell fills a part of a voxel."""
        width = max(_mean_spacing(self.grid), 0.8)
        shell = np.minimum(1.0, self.shell_mm / width) * np.clip((self.bone_mm + self.shell_mm) / width + 0.5, 0, 1)
        return shell if self.cortex is None else np.maximum(shell, self.cortex)


# Mean and standard deviation over patients: HU for CT, signal relative to the brightest tissue for MR.
CT_HU: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (-1000, 0),
    Tissue.LUNG: (-840, 25),
    Tissue.FAT: (-100, 8),
    Tissue.MUSCLE: (55, 6),
    Tissue.ANNULUS: (95, 18),
    Tissue.NUCLEUS: (80, 18),
    Tissue.CSF: (15, 5),
    Tissue.CORD: (38, 4),
    Tissue.VESSEL: (48, 8),
    Tissue.LIGAMENT: (60, 8),
    Tissue.VEIN: (48, 8),
    Tissue.HEART: (48, 8),
    Tissue.ORGAN: (55, 15),
    Tissue.BOWEL: (15, 30),
}
T1_SIGNAL: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (0.01, 0.0),
    Tissue.LUNG: (0.04, 0.01),
    Tissue.FAT: (1.0, 0.05),
    Tissue.MUSCLE: (0.36, 0.03),
    Tissue.ANNULUS: (0.28, 0.03),
    Tissue.NUCLEUS: (0.38, 0.04),
    Tissue.CSF: (0.18, 0.03),
    Tissue.CORD: (0.42, 0.03),
    Tissue.VESSEL: (0.10, 0.04),
    Tissue.LIGAMENT: (0.22, 0.04),
    Tissue.VEIN: (0.14, 0.05),
    Tissue.HEART: (0.22, 0.08),
    Tissue.ORGAN: (0.48, 0.08),
    Tissue.BOWEL: (0.45, 0.15),
}
T2_SIGNAL: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (0.01, 0.0),
    Tissue.LUNG: (0.04, 0.01),
    Tissue.FAT: (0.75, 0.06),
    Tissue.MUSCLE: (0.20, 0.03),
    Tissue.ANNULUS: (0.16, 0.03),
    Tissue.NUCLEUS: (0.48, 0.08),
    Tissue.CSF: (1.0, 0.05),
    Tissue.CORD: (0.38, 0.04),
    Tissue.VESSEL: (0.07, 0.03),
    Tissue.LIGAMENT: (0.09, 0.02),
    Tissue.VEIN: (0.12, 0.05),
    Tissue.HEART: (0.20, 0.08),
    Tissue.ORGAN: (0.30, 0.08),
    Tissue.BOWEL: (0.45, 0.15),
}
# Share of CTs with a contrast agent in the arteries, and the excess of HU of other tissues relative to arterial blood.
ENHANCED_SHARE = 0.5
ENHANCEMENT = {Tissue.HEART: (0.3, 1.1), Tissue.VEIN: (0.1, 1.6), Tissue.ORGAN: (0.1, 0.5), Tissue.MUSCLE: (0.0, 0.06)}
# Mean at 55 years, change per year, and standard deviation over patients of one age.
TRABECULAR_HU = (163.5, -2.5, 45.0)
MARROW_SIGNAL = {"T1": (0.66, 0.002, 0.07), "T2": (0.45, 0.001, 0.06)}
NUCLEUS_PER_YEAR = {"T1": 0.0, "T2": -0.008}
CORTEX_SIGNAL = (0.06, 0.015)


def ct_hu(tissues: TissueMap, rng: PortableRng, ranges: Ranges = TRAINING) -> np.ndarray:
    """Draw the CT numbers of a patient's tissues, with texture and partial volume.

    Args:
        tissues: the map of tissues.
        rng: draws the value of each tissue and the texture.
        ranges: of what is drawn.

    Returns:
        HU, float32 (z, y, x).
    """
    values = _draw(CT_HU, rng)
    agent, excess = rng.chance(ENHANCED_SHARE), rng.uniform(*ranges.enhanced_hu) - CT_HU[Tissue.VESSEL][0]
    shares = {tissue: rng.uniform(*share) for tissue, share in ENHANCEMENT.items()}
    if agent:
        for tissue, share in {Tissue.VESSEL: 1.0, **shares}.items():
            values[tissue] += share * excess
    soft = values[tissues.soft]
    soft += 12 * smooth_noise(rng, tissues.grid, 9.0) * (tissues.soft > Tissue.LUNG)
    soft += np.float32(rng.uniform(10, 50)) * smooth_noise(rng, tissues.grid, 5.0) * (tissues.soft == Tissue.LUNG)
    mean, texture = max(_at_age(TRABECULAR_HU, tissues, rng), 20.0), rng.uniform(*ranges.trabeculae_hu)
    trabecular = mean + np.float32(texture) * (
        0.8 * smooth_noise(rng, tissues.grid, 3.0) + rng.noise(tissues.grid.shape)
    )
    if tissues.marrow is not None:
        trabecular += tissues.marrow.density_hu
    hu = _with_bone(tissues, soft, trabecular, np.float32(rng.uniform(*ranges.cortical_hu)))
    return hu if tissues.metal_mm is None else with_metal_ct(hu, tissues.metal_mm, tissues.grid, rng)


def mr_signal(tissues: TissueMap, rng: PortableRng, weighting: str = "T1", ranges: Ranges = TRAINING) -> np.ndarray:
    """Draw the MR signal of a patient's tissues, with texture and partial volume.

    Args:
        tissues: the map of tissues.
        rng: draws the value of each tissue and the texture.
        weighting: T1 or T2.
        ranges: of what is drawn.

    Returns:
        Signal, float32 (z, y, x), the brightest tissue about 1.
    """
    values = _draw(T1_SIGNAL if weighting == "T1" else T2_SIGNAL, rng, rng.uniform(*ranges.mr_spread))
    values[Tissue.NUCLEUS] += np.clip(NUCLEUS_PER_YEAR[weighting] * (tissues.age_years - 55), -0.25, 0.25)
    soft = values[tissues.soft]
    soft *= 1 + 0.08 * smooth_noise(rng, tissues.grid, 7.0)
    marrow = _at_age(MARROW_SIGNAL[weighting], tissues, rng) * (1 + 0.10 * smooth_noise(rng, tissues.grid, 6.0))
    if tissues.marrow is not None:
        marrow *= 1 + tissues.marrow.fat
    signal = _with_bone(tissues, soft, marrow, np.float32(max(rng.normal(*CORTEX_SIGNAL), 0.0)))
    return signal if tissues.metal_mm is None else with_metal_mr(signal, tissues.metal_mm)


def _draw(table: dict[Tissue, tuple[float, float]], rng: PortableRng, spread: float = 1.0) -> np.ndarray:
    """Draw one patient's value of every tissue: a look-up table, float32. spread: factor on standard deviations."""
    return np.asarray([rng.normal(table[t][0], spread * table[t][1]) for t in Tissue], np.float32)


def _at_age(value: tuple[float, float, float], tissues: TissueMap, rng: PortableRng) -> float:
    """Draw a value that changes linearly with age."""
    mean, per_year, sd = value
    return mean + per_year * (tissues.age_years - 55) + sd * rng.normal()


def _with_bone(tissues: TissueMap, soft: np.ndarray, spongy: np.ndarray, cortex: np.float32) -> np.ndarray:
    """Mix soft tissue, spongy bone and cortex by their shares of each voxel."""
    bone, shell = tissues.bone_fraction(), tissues.cortical_fraction()
    return (soft + bone * (spongy + shell * (cortex - spongy) - soft)).astype(np.float32)


def _mean_spacing(grid: Grid) -> float:
    return float(np.mean(grid.spacing_mm))
