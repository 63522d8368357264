"""CT and T1-weighted MR of the same tissues.

Both images are made from a map of tissues, never one from the other, so they differ in kind: cortical bone is the
brightest tissue in CT and the darkest in MR; fat is dark in CT and bright in MR; fluid is dark in T1.

Values: CT numbers after Hounsfield's scale with the usual clinical ranges; T1-weighted spin echo ranks fat > fatty
marrow > disc, cord and muscle > CSF > cortex, air and flowing blood (signal relative to fat).
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from scipy.ndimage import gaussian_filter

from methods.base import Grid


class Tissue(IntEnum):
    """Soft tissues of the map; bone is kept apart, as a distance."""

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


@dataclass(frozen=True)
class TissueMap:
    """What a voxel is made of.

    soft: uint8 (z, y, x), a `Tissue`, also underneath bone.
    bone_mm: float32 (z, y, x), signed distance to the bone's surface in mm, negative inside bone; exact near the
        surface only, which is all that the partial volume and the cortical shell need.
    shell_mm: thickness of the cortical shell.
    cortex: float32 (z, y, x) in [0, 1], the share of cortex where it was measured; None: the shell alone.
    """

    soft: np.ndarray
    bone_mm: np.ndarray
    grid: Grid
    shell_mm: float = 0.9
    cortex: np.ndarray | None = None

    def bone_fraction(self) -> np.ndarray:
        """Share of bone in each voxel, float32 in [0, 1]."""
        return np.clip(0.5 - self.bone_mm / _mean_spacing(self.grid), 0, 1)

    def cortical_fraction(self) -> np.ndarray:
        """Share of cortex in a voxel's bone, float32 in [0, 1]: a shell thinner than a voxel fills it in part."""
        width = max(_mean_spacing(self.grid), 0.8)
        shell = min(1.0, self.shell_mm / width) * np.clip((self.bone_mm + self.shell_mm) / width + 0.5, 0, 1)
        return shell if self.cortex is None else np.maximum(shell, self.cortex)


# Mean and spread over patients: HU for CT, signal relative to fat for MR.
CT_HU: dict[Tissue, tuple[float, float]] = {
    Tissue.AIR: (-1000, 0),
    Tissue.LUNG: (-840, 25),
    Tissue.FAT: (-100, 8),
    Tissue.MUSCLE: (55, 6),
    Tissue.ANNULUS: (95, 10),
    Tissue.NUCLEUS: (80, 10),
    Tissue.CSF: (15, 5),
    Tissue.CORD: (38, 4),
    Tissue.VESSEL: (95, 45),
    Tissue.LIGAMENT: (60, 8),
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
}
TRABECULAR_HU, CORTICAL_HU = (170.0, 45.0), (780.0, 90.0)
MARROW_SIGNAL, CORTEX_SIGNAL = (0.66, 0.08), (0.06, 0.015)


def ct_hu(tissues: TissueMap, rng: np.random.Generator) -> np.ndarray:
    """A CT of the tissues: float32 (z, y, x) in HU, with texture, partial volume, kernel and noise."""
    soft = _draw(CT_HU, rng)[tissues.soft]
    soft += 12 * smooth_noise(rng, tissues.grid, 9.0) * (tissues.soft > Tissue.LUNG)
    trabecular = rng.normal(*TRABECULAR_HU) + 35 * smooth_noise(rng, tissues.grid, 3.0)
    trabecular += 40 * rng.standard_normal(tissues.grid.shape, np.float32)
    image = _with_bone(tissues, soft, trabecular, np.float32(rng.normal(*CORTICAL_HU)))
    kernel_voxels = rng.uniform(0.4, 0.75) / _mean_spacing(tissues.grid)
    noise_hu = rng.uniform(15, 40)
    smoothed = gaussian_filter(image, kernel_voxels, truncate=3.0)
    smoothed += noise_hu * rng.standard_normal(tissues.grid.shape, np.float32)
    return smoothed


def t1_signal(tissues: TissueMap, rng: np.random.Generator) -> np.ndarray:
    """T1-weighted signal of the tissues without the scanner's part: float32 (z, y, x), fat about 1."""
    soft = _draw(T1_SIGNAL, rng)[tissues.soft]
    soft *= 1 + 0.08 * smooth_noise(rng, tissues.grid, 7.0)
    marrow = rng.normal(*MARROW_SIGNAL) * (1 + 0.10 * smooth_noise(rng, tissues.grid, 6.0))
    return _with_bone(tissues, soft, marrow, np.float32(rng.normal(*CORTEX_SIGNAL)))


def acquire_mr(
    signal: np.ndarray, grid: Grid, rng: np.random.Generator, thickness_mm: float | None = None
) -> np.ndarray:
    """What a scanner makes of a signal on `grid`: sagittal slices interpolated back, coil bias, Rician noise.

    signal: float32 (z, y, x). thickness_mm: of the slices; None draws 3 to 4. The x axis of the grid is taken as
    left-right, y as front to back. Returns float32, 0 or more, fat about 1.
    """
    thickness_mm = rng.uniform(3.0, 4.0) if thickness_mm is None else thickness_mm
    slices = sagittal_slices(grid.shape[2], grid.spacing_mm[0], thickness_mm)
    image = gaussian_filter(signal, (0.5 / grid.spacing_mm[2], 0.5 / grid.spacing_mm[1], 0), truncate=3.0) @ slices.T
    image *= np.exp(0.18 * smooth_noise(rng, grid, 90.0))
    # A spine coil lies behind the patient: signal falls off towards the front.
    fall = rng.uniform(0.1, 0.5)
    image *= np.linspace(1 - fall, 1, grid.shape[1], dtype=np.float32)[:, None]
    # Noise of the slices as acquired, so that it is correlated across them like the rest of the image.
    sd = rng.uniform(0.015, 0.035)
    noise = rng.standard_normal((2, *grid.shape), np.float32) @ (slices / np.linalg.norm(slices, axis=1).mean()).T
    return np.sqrt((image + sd * noise[0]) ** 2 + (sd * noise[1]) ** 2)


def sagittal_slices(voxels: int, spacing_mm: float, thickness_mm: float, nearest: bool = False) -> np.ndarray:
    """The matrix (voxels, voxels) that averages an axis into thick slices and goes back, linearly or to the nearest."""
    x = (np.arange(voxels) - (voxels - 1) / 2) * spacing_mm
    centres = np.arange(np.ceil(x[0] / thickness_mm), np.floor(x[-1] / thickness_mm) + 1) * thickness_mm
    if len(centres) < 2 or thickness_mm <= spacing_mm:
        return np.eye(voxels, dtype=np.float32)
    overlap = np.clip((thickness_mm + spacing_mm) / 2 - np.abs(centres[:, None] - x), 0, spacing_mm)
    average = overlap / overlap.sum(1, keepdims=True)
    back = _linear_weights(np.clip(x, centres[0], centres[-1]), centres)
    if nearest:
        back = np.eye(len(centres))[back.argmax(axis=1)]
    return (back @ average).astype(np.float32)


def smooth_noise(rng: np.random.Generator, grid: Grid, period_mm: float) -> np.ndarray:
    """Noise of about unit variance that varies over `period_mm`: float32 (z, y, x).

    It is drawn on a lattice fixed in space, about the grid's centre, so that a coarser grid samples the same noise.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * s for n, s in zip(grid.shape, grid.spacing_mm[::-1], strict=True)]
    reach = int(np.ceil(160 / period_mm)) + 1
    nodes = np.arange(-reach, reach + 1) * period_mm
    field = rng.standard_normal((len(nodes),) * 3, np.float32) * 1.84
    for axis, x in enumerate(axes):
        weights = _linear_weights(np.clip(x, nodes[0], nodes[-1]), nodes).astype(np.float32)
        field = np.moveaxis(np.tensordot(weights, field, axes=(1, axis)), 0, axis)
    return np.ascontiguousarray(field)


def _linear_weights(x: np.ndarray, nodes: np.ndarray) -> np.ndarray:
    """Weights (len(x), len(nodes)) of linear interpolation between equally spaced nodes."""
    return np.clip(1 - np.abs(x[:, None] - nodes) / (nodes[1] - nodes[0]), 0, 1)


def _draw(table: dict[Tissue, tuple[float, float]], rng: np.random.Generator) -> np.ndarray:
    """One patient's value of every tissue, as a look-up table."""
    return np.asarray([rng.normal(*table[t]) for t in Tissue], np.float32)


def _with_bone(tissues: TissueMap, soft: np.ndarray, spongy: np.ndarray, cortex: np.float32) -> np.ndarray:
    bone, shell = tissues.bone_fraction(), tissues.cortical_fraction()
    return (soft + bone * (spongy + shell * (cortex - spongy) - soft)).astype(np.float32)


def _mean_spacing(grid: Grid) -> float:
    return float(np.mean(grid.spacing_mm))
