"""The soft tissues around a spine: muscles, organs, skin, discs, and the content of the canal."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from benchmark.datasets.synthesis.anatomy import L1, Spine
from benchmark.datasets.synthesis.contrast import Tissue
from benchmark.datasets.synthesis.course import Course
from benchmark.datasets.synthesis.organs import paint, paint_organs
from benchmark.datasets.synthesis.random import PortableRng, smooth_noise
from benchmark.datasets.synthesis.ranges import TRAINING, Ranges
from benchmark.datasets.synthesis.rods import box_around
from benchmark.datasets.synthesis.vertebra import T12, body_radius, shape_coordinates
from methods.base import Grid


def soft_tissue(spine: Spine, grid: Grid, rng: PortableRng, ranges: Ranges = TRAINING) -> np.ndarray:
    """Paint the soft tissues: fat first, then all tissues inside it.

    Args:
        spine: the vertebrae.
        grid: with identity direction.
        rng: draws sizes, positions and textures.
        ranges: of these.

    Returns:
        uint8 (z, y, x), a `Tissue`.
    """
    course = Course.of(spine, grid)
    soft = np.full(grid.shape, Tissue.FAT, np.uint8)
    noise = smooth_noise(rng, grid, 11.0)
    paint_organs(soft, course, noise, rng)
    _muscles(soft, course, grid, rng, ranges)
    _back(soft, course, rng, ranges)
    _discs(soft, spine, grid, rng)
    _canal(soft, course, rng)
    return soft


def _muscles(soft: np.ndarray, c: Course, grid: Grid, rng: PortableRng, ranges: Ranges) -> None:
    """Paint paired muscle bellies with fat between them and streaks of fat inside, as edges for a registration."""
    size = np.float32(rng.uniform(*ranges.muscle_size))
    psoas = size * np.clip(0.25 * (c.level - T12 + 0.5), 0.02, 1.15)
    lateral = size * np.clip(0.3 * (c.level - T12 + 1), 0.02, 1.0)
    rim = np.float32(1 + rng.uniform(0.05, 0.3))
    # x, y, half axes: psoas, quadratus lumborum, iliocostalis, longissimus, multifidus.
    bellies = (
        (c.half_width + 10 * psoas, 4, 14 * psoas, 18 * psoas),
        (c.half_width + 25, c.half_depth + 4, 10 * lateral, 13 * lateral),
        (44, c.back + 8, 13 * size, 15 * size),
        (25, c.back + 14, 13.5 * size, 17 * size),
        (9, c.back + 14, 9.5 * size, 0.6 * c.reach + 3),
    )
    for x, y, half_x, half_y in bellies:
        # Left and right differ a little.
        shift = c.wander(rng, 1.2) * np.sign(c.dx)
        inside = c.ellipse(x + shift, y + c.wander(rng, 1.2), half_x, half_y, mirrored=True)
        paint(soft, Tissue.FAT, (inside < rim) & (soft != Tissue.LUNG))
        paint(soft, Tissue.MUSCLE, inside < 1)
    streak = smooth_noise(rng, grid, 4.0)
    share = rng.uniform(*ranges.muscle_fat)
    threshold = float(np.quantile(streak[::4, ::4, ::4], 1 - share))
    paint(soft, Tissue.FAT, (soft == Tissue.MUSCLE) & (streak > threshold))


def _back(soft: np.ndarray, c: Course, rng: PortableRng, ranges: Ranges) -> None:
    """Paint interspinous ligament, lumbar fascia, fat under the skin, skin and air."""
    fascia = c.back + np.maximum(c.by_level((8, 16, 19), (0.8, 0.65, 1.0)) * c.reach, 22) + rng.uniform(1, 6)
    skin = np.float32(rng.uniform(*ranges.subcutaneous_mm)) + c.wander(rng, 2.0)
    # The back is rounded, more in the thorax, with a furrow along the spinous processes.
    behind = c.dy - fascia + (rng.uniform(0.0, 0.004) * c.dx**2 - rng.uniform(0, 4) * np.exp(-((c.dx / 12) ** 2)))
    paint(soft, Tissue.LIGAMENT, (np.abs(c.dx) < 2) & (c.dy > c.back) & (behind < 0))
    paint(soft, Tissue.FAT, (behind > 0) & (soft == Tissue.MUSCLE))
    paint(soft, Tissue.LIGAMENT, np.abs(behind) < 0.8)
    paint(soft, Tissue.LIGAMENT, behind > skin)
    paint(soft, Tissue.AIR, behind > skin + 2)


def _discs(soft: np.ndarray, spine: Spine, grid: Grid, rng: PortableRng) -> None:
    """Paint annulus and nucleus of every disc; a degenerated disc has no nucleus, or gas in it."""
    for above, below in zip(spine.vertebrae, spine.vertebrae[1:], strict=False):
        degeneration = rng.uniform() * np.clip((spine.age_years - 20) / 50, 0.2, 1)
        bulge, gas = rng.uniform(0.47, 0.53), rng.chance(0.25)
        top, low = above.to_world([0, 0, -above.height / 2]), below.to_world([0, 0, below.height / 2])
        middle = replace(above, centre_mm=(top + low) / 2)
        half_width, half_depth = bulge * max(above.width, below.width), bulge * max(above.depth, below.depth)
        reach = np.array([half_width, half_depth, above.disc / 2 + 4])
        box = box_around(np.stack([middle.centre_mm - 1.3 * reach, middle.centre_mm + 1.3 * reach]), grid, 0.0)
        px, py, pz = shape_coordinates(middle, grid, box)
        radius = np.where(np.abs(pz) < reach[2], body_radius(px, py, half_width, half_depth, above.taper), 9)
        paint(soft[box], Tissue.ANNULUS, radius < 1)
        paint(soft[box], Tissue.NUCLEUS, radius < 0.62 * np.clip(1.8 - 1.6 * degeneration, 0, 1))
        if gas and degeneration > 0.6:
            paint(soft[box], Tissue.AIR, (radius < 0.6) & (np.abs(pz) < 0.8))


def _canal(soft: np.ndarray, c: Course, rng: PortableRng) -> None:
    """Paint epidural fat, dural sac, cord down to the conus at L1, and the roots of the cauda equina below."""
    x, y = c.canal_x - c.body_x, c.canal_y - c.body_y
    rx, ry = c.canal_half_width, c.canal_half_depth
    sac = rng.uniform(0.7, 0.9)
    paint(soft, Tissue.FAT, c.ellipse(x, y, rx, ry) < 1)
    paint(soft, Tissue.CSF, c.ellipse(x, y - 0.06 * ry, sac * rx, (sac + 0.04) * ry) < 1)
    cone = np.clip(1.2 * (L1 + rng.uniform(0, 1) - c.level), 0.01, 1)
    paint(soft, Tissue.CORD, c.ellipse(x, y, 5.5 * cone, 4.2 * cone) < 1)
    tail = np.clip(c.level - L1, 0.01, 1)
    for place in (-0.45, -0.15, 0.15, 0.45):
        paint(soft, Tissue.CORD, c.ellipse(x + place * rx, y + 0.4 * ry, 1.4 * tail, 1.2 * tail) < 1)
