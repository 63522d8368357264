"""A drawn spine sampled on a grid: its labels, its bone, and the tissues around it.

Everything is a function of position in mm, so that the same patient can be sampled on any grid.
"""

from __future__ import annotations

import numpy as np

from benchmark.datasets.synthesis.anatomy import Spine
from benchmark.datasets.synthesis.bone_texture import bone_texture
from benchmark.datasets.synthesis.contrast import TissueMap
from benchmark.datasets.synthesis.metal import metal_distance
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from benchmark.datasets.synthesis.soft_tissue import soft_tissue
from benchmark.datasets.synthesis.vertebra import OUTSIDE_MM, ribs_distance, signed_distance
from methods.base import Grid


def render(spine: Spine, grid: Grid, rng: PortableRng, ranges: Ranges = TRAINING) -> tuple[np.ndarray, TissueMap]:
    """Sample a spine on a grid.

    Args:
        spine: the drawn vertebrae.
        grid: with identity direction.
        rng: draws the soft tissues and the inner structure of bones.
        ranges: of what `rng` draws.

    Returns:
        VerSe ids of all vertebrae of the spine, unlabelled neighbours included, uint16 (z, y, x); and the tissues.
    """
    nearest_ids, bone = _nearest_bones(spine, grid)
    soft = soft_tissue(spine, grid, rng, ranges)
    shell, marrow = bone_texture(spine, nearest_ids, grid, rng, ranges)
    labels = np.where(bone < 0, nearest_ids, np.uint16(0))
    metal = metal_distance(spine, grid, rng)
    tissues = TissueMap(soft, bone, grid, shell_mm=shell, marrow=marrow, age_years=spine.age_years, metal_mm=metal)
    return labels, tissues


def render_bones(spine: Spine, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Sample the bones of a spine on a grid. Ribs are bone without a label.

    Args:
        spine: the drawn vertebrae.
        grid: with identity direction.

    Returns:
        VerSe ids as `render`, uint16 (z, y, x); and the signed distance to the surface of bone, float32 (z, y, x), mm,
        negative inside.
    """
    nearest_ids, bone = _nearest_bones(spine, grid)
    return np.where(bone < 0, nearest_ids, np.uint16(0)), bone


def _nearest_bones(spine: Spine, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The id of the nearest vertebra, 0 for a rib or far from all; and the signed distance of `render_bones`."""
    nearest = np.full(grid.shape, OUTSIDE_MM, np.float32)
    second, nearest_id = nearest.copy(), np.zeros(grid.shape, np.uint16)
    vertebrae = [(v.id, *signed_distance(v, grid)) for v in spine.vertebrae]
    ribs = [(0, *ribs_distance(v, grid)) for v in spine.vertebrae]
    for label, box, distance in vertebrae + ribs:
        closer = distance < nearest[box]
        second[box] = np.where(closer, nearest[box], np.minimum(second[box], distance))
        nearest_id[box][closer] = label
        nearest[box] = np.minimum(nearest[box], distance)
    # A joint space separates facets that would touch; half of it is removed from either side.
    return nearest_id, np.maximum(nearest, (nearest - second + np.float32(spine.joint_space_mm)) / 2)
