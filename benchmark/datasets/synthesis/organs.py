"""Lungs, vessels and organs around a spine, painted into a map of tissues.

Positions follow the usual sectional anatomy: the lungs touch the sides of the thoracic bodies and reach behind them,
down to T12; the aorta descends at the left front of the bodies and divides at L4; the heart lies in front of T5 to T9,
the liver to the right of T9 to L2, the kidneys beside T12 to L3, and bowel in front of the lumbar spine.
"""

from __future__ import annotations

import numpy as np

from benchmark.datasets.synthesis.contrast import Tissue
from benchmark.datasets.synthesis.course import Course
from benchmark.datasets.synthesis.random import PortableRng

# Distance behind the back of the canal at which the lung ends, by distance from the side of the body: the inner side of
# the ribs. In mm.
_CHEST_WALL = ((0, 16, 38, 68, 95), (-14, -9, 0, -18, -45))


def paint_organs(soft: np.ndarray, c: Course, noise: np.ndarray, rng: PortableRng) -> None:
    """Paint everything in front of the muscles of the back.

    Args:
        soft: uint8 (z, y, x), a `Tissue`, changed in place.
        c: the course of the spine.
        noise: smooth noise of unit variance, (z, y, x), for irregular surfaces.
        rng: draws sizes and positions.
    """
    _abdomen(soft, c, noise, rng)
    _lungs(soft, c, noise, rng)
    _mediastinum(soft, c, noise, rng)
    _great_vessels(soft, c, rng)


def paint(soft: np.ndarray, tissue: Tissue, where: np.ndarray) -> None:
    """Set a tissue where the mask is true."""
    np.copyto(soft, np.uint8(tissue), where=where)


def _lungs(soft: np.ndarray, c: Course, noise: np.ndarray, rng: PortableRng) -> None:
    """Lungs with vessels, and the wall of the chest behind them."""
    bottom, lowest_front = rng.uniform(18.6, 20.0), rng.uniform(1.0, 3.0)
    beside = np.abs(c.dx) - c.half_width
    wall = c.back + np.interp(beside, *_CHEST_WALL).astype(np.float32)
    paint(soft, Tissue.MUSCLE, (c.dy > wall) & (c.level < 20.3))
    # The recess behind reaches lower than the dome in front; domes are rounded.
    dome = bottom - lowest_front * np.clip((c.back - c.dy) / 80, 0, 1) - 0.8 * np.clip(1 - beside / 30, 0, 1) ** 2
    behind = c.dy < wall - rng.uniform(1.0, 4.0)
    in_front = np.clip((c.front + 8 - c.dy) / 12, 0, 1)
    lung = np.zeros(soft.shape, bool)
    for side, narrowest in ((1, 6.0), (-1, -8.0)):
        # The border of the lung follows the side of the body, and in front of it that of the mediastinum.
        beside_body = c.half_width + rng.uniform(0.5, 5.0) + np.abs(c.wander(rng, 2.5))
        mediastinum = rng.uniform(narrowest, narrowest + 25) + c.wander(rng, 4.0)
        border = beside_body + in_front * (mediastinum - beside_body) + np.float32(1.5) * noise
        lung |= (side * c.dx > border) & behind & (c.level < dome + c.wander(rng, 0.2))
    paint(soft, Tissue.LUNG, lung)
    paint(soft, Tissue.VEIN, lung & (noise > rng.uniform(1.5, 2.3)))


def _mediastinum(soft: np.ndarray, c: Course, noise: np.ndarray, rng: PortableRng) -> None:
    """Heart, oesophagus and trachea."""
    heart, low = rng.uniform(0.85, 1.2), rng.uniform(17.0, 18.5)
    size = heart * c.by_level((11.5, 13, 15, low - 0.8, low), (0.05, 0.6, 1, 0.9, 0.05))
    distance = rng.uniform(18, 36)
    edge = c.ellipse(rng.uniform(0, 18), c.front - distance - 36 * size, 46 * size, 36 * size)
    edge += np.float32(0.12) * noise
    present = (c.level > 11.5) & (c.level < low)
    paint(soft, Tissue.MUSCLE, (edge < 1) & present)
    paint(soft, Tissue.HEART, (edge < rng.uniform(0.65, 0.95)) & present)
    x, y = rng.uniform(-2, 8) + c.wander(rng, 2), c.front - rng.uniform(8, 16) + c.wander(rng, 2)
    thoracic = c.level < 18.5
    paint(soft, Tissue.MUSCLE, (c.ellipse(x, y, 8, 6) < 1) & thoracic)
    if rng.chance(0.4):
        paint(soft, Tissue.AIR, (c.ellipse(x, y, 4, 2.5) < 1) & thoracic & (noise > 0.5))
    airway = (c.ellipse(x - 3, y - 16, 9, 8) < 1) & (c.level < rng.uniform(11.5, 12.5))
    paint(soft, Tissue.AIR, airway)


def _great_vessels(soft: np.ndarray, c: Course, rng: PortableRng) -> None:
    """Aorta, vena cava and azygos vein."""
    radius = np.float32(rng.uniform(8, 13)) * c.by_level((11, 19, 23), (1.15, 1.0, 0.8))
    lateral = rng.uniform(0.7, 1.2)
    x = lateral * c.by_level((11.2, 14, 17, 19, 22.5), (22, 19, 13, 7, 4)) + c.wander(rng, 2.0)
    y = c.front - c.by_level((11.2, 14, 17, 19), (-4, 1, 6, 10)) * radius / 9 + c.wander(rng, 1.5)
    fork = 7 * np.clip(c.level - 22.5, 0, 3)
    below_arch = c.level > rng.uniform(10.8, 11.8)
    for side in (1, -1):
        # Both branches coincide above the bifurcation at L4.
        inside = c.ellipse(x + side * fork, y, radius - 0.4 * fork, radius - 0.4 * fork) < 1
        paint(soft, Tissue.VESSEL, inside & below_arch)
    vein = np.float32(rng.uniform(9, 13))
    flat = vein * rng.uniform(0.55, 0.95)
    cava = c.ellipse(-15 - fork + c.wander(rng, 2), c.front - flat - 2, vein - 0.3 * fork, flat) < 1
    paint(soft, Tissue.VEIN, cava & (c.level > rng.uniform(17.5, 19.0)))
    azygos = rng.uniform(2.5, 5)
    paint(soft, Tissue.VEIN, (c.ellipse(-5 + c.wander(rng, 2), c.front - azygos, azygos, azygos) < 1) & (c.level < 19))
    great = c.ellipse(-24 + c.wander(rng, 2), c.front - rng.uniform(30, 45), 10, 10) < 1
    paint(soft, Tissue.VEIN, great & (c.level < 13.5))


def _abdomen(soft: np.ndarray, c: Course, noise: np.ndarray, rng: PortableRng) -> None:
    """Bowel with gas, liver, spleen and kidneys."""
    abdominal = c.level > rng.uniform(18.5, 20.5)
    bowel = abdominal & (c.dy < c.front - rng.uniform(18, 35)) & (noise > rng.uniform(-0.8, 0.6))
    paint(soft, Tissue.BOWEL, bowel)
    paint(soft, Tissue.AIR, bowel & (noise > rng.uniform(1.0, 2.2)) & (c.dy < c.front - 40))
    upper = (c.level > rng.uniform(16.5, 17.8)) & (c.level < rng.uniform(20.5, 22.0))
    liver = c.ellipse(-c.half_width - rng.uniform(55, 70), c.front - 15, 56, 66) + np.float32(0.1) * noise < 1
    paint(soft, Tissue.ORGAN, liver & upper)
    spleen = c.ellipse(c.half_width + rng.uniform(60, 75), rng.uniform(0, 15), 30, 42) + np.float32(0.1) * noise < 1
    paint(soft, Tissue.ORGAN, spleen & (c.level > 17.0) & (c.level < rng.uniform(19.2, 20.5)))
    for side in (1, -1):
        middle = rng.uniform(20.2, 21.4)
        size = np.sqrt(np.clip(1 - ((c.level - middle) / 1.6) ** 2, 1e-4, None))
        kidney = c.ellipse(side * (c.half_width + rng.uniform(28, 40)), rng.uniform(-4, 14), 25 * size, 28 * size)
        paint(soft, Tissue.FAT, kidney < 1.5)
        paint(soft, Tissue.ORGAN, kidney < 1)
        paint(soft, Tissue.FAT, kidney < 0.15)
