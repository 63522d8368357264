"""The inner structure of bones: how thick the cortex is, and how dense and how fat the marrow is.

Every vertebra has its own density and fat, drawn without regard to its level, so that grey values never name a level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmark.datasets.synthesis.anatomy import Spine
from benchmark.datasets.synthesis.contrast import Marrow
from benchmark.datasets.synthesis.random import PortableRng, smooth_noise
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from benchmark.datasets.synthesis.vertebra import Vertebra, shape_coordinates, signed_distance_box
from methods.base import Grid

# Probability of a change of the marrow at an endplate (fat or oedema), and of a haemangioma in a vertebra.
ENDPLATE_CHANGE, HAEMANGIOMA = 0.12, 0.05
ARCH_HU = (-40.0, 180.0)  # excess of the marrow in arches


@dataclass(frozen=True)
class _Bones:
    """What the bones of a patient have in common; names as in `Ranges`, and the excess of HU in arches."""

    body_shell_mm: float
    endplate_shell_mm: float
    arch_shell_mm: float
    endplate_hu: float
    marrow_sd_hu: float
    arch_hu: float


def bone_texture(
    spine: Spine, bone_ids: np.ndarray, grid: Grid, rng: PortableRng, ranges: Ranges = TRAINING
) -> tuple[np.ndarray, Marrow]:
    """Draw the cortex and the marrow of all bones.

    Args:
        spine: the vertebrae.
        bone_ids: (z, y, x), the nearest vertebra, 0 elsewhere and at ribs.
        grid: of `bone_ids`, with identity direction.
        rng: draws everything.
        ranges: of what is drawn.

    Returns:
        The thickness of the cortex in mm, float32 (z, y, x), and the marrow.
    """
    drawn = (
        ranges.body_shell_mm,
        ranges.endplate_shell_mm,
        ranges.arch_shell_mm,
        ranges.endplate_hu,
        ranges.marrow_sd_hu,
        ARCH_HU,
    )
    bones = _Bones(*(rng.uniform(*r) for r in drawn))
    shell = np.full(grid.shape, np.float32(bones.arch_shell_mm))
    density, fat = np.zeros(grid.shape, np.float32), np.zeros(grid.shape, np.float32)
    for v in spine.vertebrae:
        box = signed_distance_box(v, grid)
        mine = bone_ids[box] == v.id
        x, y, z = (q[mine] for q in shape_coordinates(v, grid, box))
        arch = np.clip((y - v.depth / 2) / 4 + 0.5, 0, 1)
        shell[box][mine] = _shell(v, y, z, arch, bones, rng)
        density[box][mine], fat[box][mine] = _marrow(v, x, y, z, arch, bones, rng)
    shell *= 1 + np.float32(0.3) * smooth_noise(rng, grid, 7.0)
    np.clip(shell, 0.15, None, out=shell)
    return shell, Marrow(density, fat)


def _shell(v: Vertebra, y: np.ndarray, z: np.ndarray, arch: np.ndarray, bones: _Bones, rng: PortableRng) -> np.ndarray:
    """Thickness of the cortex in mm at points of a vertebra. arch: 1 in the arch, 0 in the body."""
    thickness = bones.body_shell_mm * (1 + 0.2 * rng.normal())
    for end in (1, -1):
        near = np.exp(-((_below_endplate(v, y, z, end) / 3) ** 2))
        thickness = thickness + near * (bones.endplate_shell_mm * (1 + 0.25 * rng.normal()) - bones.body_shell_mm)
    return thickness + arch * (bones.arch_shell_mm - thickness)


def _below_endplate(v: Vertebra, y: np.ndarray, z: np.ndarray, end: int) -> np.ndarray:
    """Distance in mm from the upper (1) or lower (-1) end of the body, positive inside."""
    return v.height / 2 + v.wedge * y * v.height / v.depth - end * z


def _marrow(
    v: Vertebra, x: np.ndarray, y: np.ndarray, z: np.ndarray, arch: np.ndarray, bones: _Bones, rng: PortableRng
) -> tuple[np.ndarray, np.ndarray]:
    """Excess of HU, and of the share of fat, at points of a vertebra. arch: 1 in the arch, 0 in the body."""
    density = bones.marrow_sd_hu * rng.normal() + bones.arch_hu * arch
    fat = 0.07 * rng.normal() + 0.1 * rng.normal() * arch
    for end in (1, -1):
        depth = _below_endplate(v, y, z, end)
        near = (1 - arch) * np.exp(-((depth / rng.uniform(2.0, 5.0)) ** 2))
        density = density + bones.endplate_hu * rng.uniform(0.5, 1.3) * near
        changed, sign = rng.chance(ENDPLATE_CHANGE), rng.uniform(-0.3, 0.3)
        if changed:
            fat = fat + sign * (1 - arch) * np.exp(-((depth / 6) ** 2))
    # The basivertebral vein enters the back of the body at half height.
    vein = np.exp(-((z / 2.2) ** 2) - (x / (3.0 + 0.12 * np.abs(v.depth / 2 - y))) ** 2)
    vein = vein * np.clip((y + 0.15 * v.depth) / (0.4 * v.depth), 0, 1) * (1 - arch)
    density, fat = density - rng.uniform(20, 120) * vein, fat - rng.uniform(0.0, 0.3) * vein
    lesion, place, radius = rng.chance(HAEMANGIOMA), rng.uniform(-0.25, 0.25, 3), rng.uniform(4, 9)
    if lesion:
        squared = sum((q - p * s) ** 2 for q, p, s in zip((x, y, z), place, (v.width, v.depth, v.height), strict=True))
        inside = np.exp(-((squared / radius**2) ** 2))
        density, fat = density - inside * (60 - 60 * (np.sin(1.6 * x) * np.sin(1.6 * y) > 0.3)), fat + 0.3 * inside
    return density, fat
