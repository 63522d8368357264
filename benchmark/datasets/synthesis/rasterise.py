"""A drawn spine sampled on a grid: its labels, its bone, and the soft tissues around it.

Everything is a function of position in mm, so that the same patient can be sampled on any grid.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from benchmark.datasets.synthesis.anatomy import L1, L5, Spine
from benchmark.datasets.synthesis.contrast import Tissue, TissueMap
from benchmark.datasets.synthesis.random import PortableRng, smooth_noise
from benchmark.datasets.synthesis.vertebra import (
    OUTSIDE_MM,
    T12,
    body_radius,
    box_around,
    local_coordinates,
    ribs_distance,
    signed_distance,
)
from methods.base import Grid

JOINT_SPACE_MM = 1.2


def render(spine: Spine, grid: Grid, rng: PortableRng) -> tuple[np.ndarray, TissueMap]:
    """Sample a spine on a grid.

    Args:
        spine: the drawn vertebrae.
        grid: with identity direction.
        rng: draws the soft tissues.

    Returns:
        VerSe ids of all vertebrae of the spine, unlabelled neighbours included, uint16 (z, y, x); and the tissues.
    """
    labels, bone = render_bones(spine, grid)
    return labels, TissueMap(_soft_tissue(spine, grid, rng), bone, grid, age_years=spine.age_years)


def render_bones(spine: Spine, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Sample the bones of a spine on a grid. Ribs are bone without a label.

    Args:
        spine: the drawn vertebrae.
        grid: with identity direction.

    Returns:
        VerSe ids as `render`, uint16 (z, y, x); and the signed distance to the surface of bone, float32 (z, y, x), mm,
        negative inside.
    """
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
    bone = np.maximum(nearest, (nearest - second + JOINT_SPACE_MM) / 2)
    return np.where(bone < 0, nearest_id, 0).astype(np.uint16), bone


@dataclass(frozen=True)
class _Course:
    """The course of the spine by height; every attribute is float32 (z, 1, 1).

    In mm: centres of body and canal, half axes of both, reach of the spinous process. level: continuous VerSe id.
    """

    z: np.ndarray
    body_x: np.ndarray
    body_y: np.ndarray
    canal_x: np.ndarray
    canal_y: np.ndarray
    half_width: np.ndarray
    half_depth: np.ndarray
    canal_half_width: np.ndarray
    canal_half_depth: np.ndarray
    reach: np.ndarray
    level: np.ndarray

    @classmethod
    def of(cls, spine: Spine, z: np.ndarray) -> _Course:
        """Interpolate linearly between the vertebrae, and extend straight by 60 mm at both ends."""
        rows = []
        for v, out in [(spine.vertebrae[0], 60.0), *((v, 0.0) for v in spine.vertebrae), (spine.vertebrae[-1], -60.0)]:
            body = v.to_world(np.array([0, 0, out]))
            canal = v.to_world(np.array([0, (v.depth + v.canal_depth) / 2, out]))
            sizes = np.array([v.width, v.depth, v.canal_width, v.canal_depth]) / 2
            rows.append([body[2], *body[:2], *canal[:2], *sizes, v.reach, min(v.id, L5 + 1)])
        table = np.array(rows[::-1])
        columns = [np.interp(z, table[:, 0], c).astype(np.float32)[:, None, None] for c in table[:, 1:].T]
        return cls(z.astype(np.float32)[:, None, None], *columns)


def _soft_tissue(spine: Spine, grid: Grid, rng: PortableRng) -> np.ndarray:
    """The soft tissues, uint8 (z, y, x) of `Tissue`: fat first, then all tissues inside it."""
    shape = grid.shape
    x, y, z = (np.arange(n) * s + o for n, s, o in zip(shape[::-1], grid.spacing_mm, grid.origin_mm, strict=True))
    course = _Course.of(spine, z)
    dx, dy = x.astype(np.float32) - course.body_x, y.astype(np.float32)[:, None] - course.body_y
    soft = np.full(shape, Tissue.FAT, np.uint8)
    _muscles(soft, course, dx, dy, grid, rng)
    _vessels_and_lungs(soft, course, dx, dy, rng)
    _back(soft, course, dx, dy, rng)
    _discs(soft, spine, grid)
    _canal(soft, course, x.astype(np.float32), y.astype(np.float32)[:, None])
    return soft


def _ellipse(
    dx: np.ndarray, dy: np.ndarray, x: ArrayLike, y: ArrayLike, half_x: ArrayLike, half_y: ArrayLike
) -> np.ndarray:
    """Squared relative radius: less than 1 inside the ellipse about (x, y)."""
    cx, cy, rx, ry = (np.asarray(a, np.float32) for a in (x, y, half_x, half_y))
    return ((dx - cx) / rx) ** 2 + ((dy - cy) / ry) ** 2


def _muscles(soft: np.ndarray, c: _Course, dx: np.ndarray, dy: np.ndarray, grid: Grid, rng: PortableRng) -> None:
    """Draw paired muscle bellies with fat between them and streaks of fat inside, as edges for a registration."""
    back = c.half_depth + 2 * c.canal_half_depth
    size = np.float32(rng.normal(1.0, 0.08))
    psoas = size * np.clip(0.25 * (c.level - T12 + 0.5), 0.05, 1.15)
    lateral = size * np.clip(0.3 * (c.level - T12 + 2), 0.05, 1.0)
    bellies: list[
        tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]
    ] = [  # x, y, half axes: psoas, quadratus lumborum, multifidus, longissimus, iliocostalis
        (c.half_width + 10 * psoas, 4, 14 * psoas, 18 * psoas),
        (c.half_width + 25, c.half_depth + 4, 10 * lateral, 13 * lateral),
        (9, back + 14, 9.5 * size, 0.6 * c.reach + 3),
        (25, back + 14, 13.5 * size, 17 * size),
        (44, back + 8, 13 * size, 15 * size),
    ]
    first, second = np.full(soft.shape, 9, np.float32), np.full(soft.shape, 9, np.float32)
    for belly in bellies:
        value = _ellipse(np.abs(dx), dy, *belly)
        second = np.minimum(second, np.maximum(first, value))
        first = np.minimum(first, value)
    streak = smooth_noise(rng, grid, 5.0) + 0.7 * smooth_noise(rng, grid, 13.0)
    soft[(first < 1) & (second - first > 0.12) & (streak < 2.3)] = Tissue.MUSCLE


def _vessels_and_lungs(soft: np.ndarray, c: _Course, dx: np.ndarray, dy: np.ndarray, rng: PortableRng) -> None:
    """Draw aorta, vena cava and lungs."""
    front = -c.half_depth
    aorta, vein = np.float32(rng.uniform(8, 11)), np.float32(rng.uniform(9, 12))
    # Both divide below the bifurcation of the aorta at L4.
    fork = 7 * np.clip(c.level - 22.5, 0, 3)
    soft[_ellipse(dx, dy, 7 + fork, front - aorta - 2, aorta - 0.4 * fork, aorta - 0.4 * fork) < 1] = Tissue.VESSEL
    soft[_ellipse(dx, dy, -15 - fork, front - 0.75 * vein - 2, vein - 0.3 * fork, 0.75 * vein) < 1] = Tissue.VESSEL
    dome = np.sqrt(np.clip((T12 + 0.5 - c.level) / 2.5, 0, 1)) + 1e-3
    for side in (1, -1):
        lung = _ellipse(side * dx, dy, c.half_width + 42, front + 14, 38 * dome, 44 * dome) < 1
        soft[lung & (soft != Tissue.VESSEL)] = Tissue.LUNG


def _back(soft: np.ndarray, c: _Course, dx: np.ndarray, dy: np.ndarray, rng: PortableRng) -> None:
    """Draw interspinous ligament, lumbar fascia, fat under the skin, skin and air."""
    arch = c.half_depth + 2 * c.canal_half_depth
    fascia, skin = arch + np.maximum(c.reach, 28) + 4, np.float32(rng.uniform(12, 30))
    # The back is rounded.
    behind = dy - fascia + 0.004 * dx**2
    soft[(np.abs(dx) < 2) & (dy > arch) & (behind < 0)] = Tissue.LIGAMENT
    soft[(behind > 0) & (soft == Tissue.MUSCLE)] = Tissue.FAT
    soft[(behind > -0.8) & (behind < 0.8)] = Tissue.LIGAMENT
    soft[behind > skin] = Tissue.LIGAMENT
    soft[behind > skin + 2] = Tissue.AIR


def _discs(soft: np.ndarray, spine: Spine, grid: Grid) -> None:
    """Draw annulus and nucleus of every disc."""
    for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        top, low = above.to_world([0, 0, -above.height / 2]), below.to_world([0, 0, below.height / 2])
        middle = replace(above, centre_mm=(top + low) / 2)
        half_width, half_depth = 0.51 * max(above.width, below.width), 0.51 * max(above.depth, below.depth)
        reach = np.array([half_width, half_depth, above.disc / 2 + 4])
        box = box_around(np.stack([middle.centre_mm - 1.3 * reach, middle.centre_mm + 1.3 * reach]), grid, 0.0)
        px, py, pz = local_coordinates(middle, grid, box)
        radius = np.where(np.abs(pz) < reach[2], body_radius(px, py, half_width, half_depth), 9)
        soft[box][radius < 1] = Tissue.ANNULUS
        soft[box][radius < 0.62] = Tissue.NUCLEUS


def _canal(soft: np.ndarray, c: _Course, x: np.ndarray, y: np.ndarray) -> None:
    """Draw epidural fat, dural sac, cord down to the conus at L1, and the roots of the cauda equina below."""
    dx, dy = x - c.canal_x, y - c.canal_y
    rx, ry = c.canal_half_width, c.canal_half_depth
    soft[_ellipse(dx, dy, 0, 0, rx, ry) < 1] = Tissue.FAT
    soft[_ellipse(dx, dy, 0, -0.06 * ry, 0.80 * rx, 0.84 * ry) < 1] = Tissue.CSF
    cone = np.clip(1.2 * (L1 + 0.5 - c.level), 0.01, 1)
    soft[_ellipse(dx, dy, 0, 0, 5.5 * cone, 4.2 * cone) < 1] = Tissue.CORD
    tail = np.clip(c.level - L1, 0.01, 1)
    for place in (-0.45, -0.15, 0.15, 0.45):
        soft[_ellipse(dx, dy, place * rx, 0.4 * ry, 1.4 * tail, 1.2 * tail) < 1] = Tissue.CORD
