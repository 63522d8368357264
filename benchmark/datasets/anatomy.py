"""A procedural thoracolumbar spine: levels, curvature, and the tissues around it.

Mean dimensions per level are rounded after the two standard measurements of human vertebrae:
Panjabi et al., Thoracic human vertebrae, Spine 16(8):888-901, 1991, doi:10.1097/00007632-199108000-00006;
Panjabi et al., Human lumbar vertebrae, Spine 17(3):299-306, 1992, doi:10.1097/00007632-199203000-00010.
Disc heights and the angles between neighbours are rounded after the usual radiological ranges (kyphosis T1-T12 about
40 degrees, lordosis L1-L5 about 40 degrees standing, less when lying).

Everything is a function of position in mm, so that the same patient can be sampled on any grid. numpy and scipy only.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from benchmark.datasets.contrast import Tissue, TissueMap, smooth_noise
from benchmark.datasets.vertebra import (
    OUTSIDE_MM,
    SACRUM,
    Vertebra,
    body_radius,
    box_around,
    local_coordinates,
    signed_distance,
)
from methods.base import Grid

T1, T7, T12, L1, L5 = 8, 14, 19, 20, 24
JOINT_SPACE_MM = 1.2
# Of patients with 5, 6, .. 10 labelled vertebrae: 1280 in 167 patients, as in the paper, are 7.7 each.
_COUNT_SHARES = (0.13, 0.17, 0.18, 0.19, 0.17, 0.16)
_DIMENSIONS = (
    *("width", "depth", "height", "disc", "canal_width", "canal_depth"),
    *("pedicle_width", "pedicle_height", "span", "reach"),
)

# One row a level, T1 to L5, then a stand-in for S1, in mm: body width, depth, height; disc below; canal width, depth;
# pedicle width, height; transverse span; spinous reach; and the angle to the next level in degrees (lordosis > 0).
_LEVELS = np.array(
    [
        (28.0, 18.5, 14.5, 4.0, 21.5, 16.0, 8.5, 9.5, 75, 33, -2.0),
        (28.0, 19.5, 15.5, 3.5, 19.5, 15.5, 8.0, 11.5, 69, 35, -2.5),
        (27.0, 21.5, 15.5, 3.5, 18.5, 15.5, 7.0, 12.0, 61, 36, -3.0),
        (26.5, 23.0, 16.0, 3.5, 17.0, 15.5, 6.3, 12.0, 59, 37, -4.0),
        (26.5, 24.5, 16.5, 3.5, 17.0, 15.5, 6.0, 12.0, 61, 38, -4.5),
        (27.5, 26.0, 17.5, 4.0, 17.0, 15.5, 6.0, 12.0, 61, 38, -4.5),
        (29.0, 27.5, 18.0, 4.0, 17.5, 15.5, 6.2, 12.0, 60, 38, -4.0),
        (30.5, 28.5, 18.5, 4.5, 17.5, 15.5, 6.7, 12.5, 60, 37, -4.0),
        (31.5, 29.5, 19.5, 5.0, 18.0, 15.5, 7.7, 13.8, 59, 35, -3.5),
        (33.0, 30.5, 20.0, 5.5, 18.0, 15.5, 9.0, 15.0, 58, 32, -3.0),
        (36.0, 32.0, 21.5, 6.0, 19.5, 16.0, 9.8, 17.0, 52, 30, -2.5),
        (39.5, 33.0, 23.0, 7.0, 22.0, 18.0, 8.8, 16.5, 47, 30, -1.0),
        (41.5, 34.0, 24.5, 8.0, 23.5, 19.0, 9.0, 16.0, 71, 33, 3.0),
        (43.0, 34.5, 25.0, 9.0, 24.0, 18.5, 9.2, 15.5, 76, 34, 5.0),
        (45.0, 35.0, 25.0, 10.0, 24.5, 17.5, 10.5, 15.0, 84, 34, 8.0),
        (47.5, 35.5, 25.0, 10.5, 25.5, 18.5, 14.0, 15.5, 80, 31, 11.0),
        (49.0, 35.0, 24.5, 10.0, 27.0, 19.5, 18.0, 18.5, 88, 25, 16.0),
        (50.0, 34.0, 28.0, 0.0, 30.0, 15.0, 24.0, 20.0, 100, 16, 0.0),
    ]
)


@dataclass(frozen=True)
class Spine:
    """Vertebrae from the top down. labelled: the ids that carry a label; the others are their cut-off neighbours."""

    vertebrae: tuple[Vertebra, ...]
    labelled: tuple[int, ...]

    def extent_mm(self) -> np.ndarray:
        """LPS corners (2, 3) of a box around the labelled vertebrae."""
        boxes = [v.extent_mm() for v in self.vertebrae if v.id in self.labelled]
        return np.stack([np.min(boxes, axis=0)[0], np.max(boxes, axis=0)[1]])


def draw_spine(rng: np.random.Generator, count: int | None = None) -> Spine:
    """A patient: `count` labelled vertebrae between T1 and L5, by default 5 to 10, and one more above and below."""
    drawn = int(rng.choice(np.arange(5, 11), p=_COUNT_SHARES))
    count = drawn if count is None else count
    lowest = np.arange(T7 + 2, L5 + 1)
    # Lumbar scans are the most common; a long one starts high enough to fit.
    weights = np.where(lowest >= L5 - 1, 3.0, 1.0) * (lowest - count >= T1)
    bottom = int(rng.choice(lowest, p=weights / weights.sum()))
    ids = [i if i <= L5 else SACRUM for i in range(bottom - count, bottom + 2)]
    size = rng.normal(1.0, 0.05) * (1 + rng.normal(0, 0.02, 3))
    vertebrae = [_draw_vertebra(i, size, rng) for i in ids]
    angles = np.array([_level(i)[10] for i in ids]) * rng.normal(0.8, 0.2) + rng.normal(0, 1.0, len(ids))
    scoliosis = rng.normal(0, 1.2) * np.sin(np.linspace(0, np.pi, len(ids)) + rng.uniform(0, np.pi))
    return Spine(_stack(vertebrae, np.deg2rad(angles), np.deg2rad(scoliosis)), tuple(ids[1:-1]))


def _level(level: int) -> np.ndarray:
    return _LEVELS[min(level, L5 + 1) - T1]


def _draw_vertebra(level: int, size: np.ndarray, rng: np.random.Generator) -> Vertebra:
    x, y, z = size
    # The canal does not grow with the patient.
    scale = np.array([x, y, z, z, 1, 1, x, z, x, y]) * (1 + rng.normal(0, 0.025, 10))
    sizes = dict(zip(_DIMENSIONS, (_level(level)[:10] * scale).tolist(), strict=True))
    return Vertebra(level, **sizes, wedge=rng.normal(0.0, 0.02), centre_mm=np.zeros(3), rotation=np.eye(3))


def _stack(vertebrae: list[Vertebra], sagittal: np.ndarray, lateral: np.ndarray) -> tuple[Vertebra, ...]:
    """Place vertebrae below each other, each turned against the one above; the middle one stays upright."""
    centre, rotation = np.zeros(3), np.eye(3)
    poses = [(centre, rotation)]
    for above, below, a, b in zip(vertebrae, vertebrae[1:], sagittal, lateral, strict=False):
        half = rotation @ _rotation(a / 2, b / 2)
        # Posterior walls line up, so that the canal stays a tube.
        step = half[:, 1] * (above.depth - below.depth) / 2 - half[:, 2] * above.disc
        next_rotation = rotation @ _rotation(a, b)
        centre = centre - rotation[:, 2] * above.height / 2 + step - next_rotation[:, 2] * below.height / 2
        rotation = next_rotation
        poses.append((centre, rotation))
    origin, upright = poses[len(poses) // 2]
    return tuple(
        replace(v, centre_mm=upright.T @ (c - origin), rotation=upright.T @ r)
        for v, (c, r) in zip(vertebrae, poses, strict=True)
    )


def _rotation(about_x: float, about_y: float) -> np.ndarray:
    cx, sx, cy, sy = np.cos(about_x), np.sin(about_x), np.cos(about_y), np.sin(about_y)
    return np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]]) @ np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])


def render(spine: Spine, grid: Grid, rng: np.random.Generator) -> tuple[np.ndarray, TissueMap]:
    """The spine sampled on `grid` (identity direction): uint16 VerSe ids of all its vertebrae, and its tissues.

    The neighbours of the labelled vertebrae are in the label map too; the caller decides what is shown.
    """
    best = np.full(grid.shape, OUTSIDE_MM, np.float32)
    second, owner = best.copy(), np.zeros(grid.shape, np.uint16)
    for v in spine.vertebrae:
        box, d = signed_distance(v, grid)
        closer = d < best[box]
        second[box] = np.where(closer, best[box], np.minimum(second[box], d))
        owner[box][closer] = v.id
        best[box] = np.minimum(best[box], d)
    # Facets that would touch are parted by a joint space, half of it taken from either side.
    bone = np.maximum(best, (best - second + JOINT_SPACE_MM) / 2)
    labels = np.where(bone < 0, owner, 0).astype(np.uint16)
    return labels, TissueMap(_soft_tissue(spine, grid, rng), bone, grid)


@dataclass(frozen=True)
class _Course:
    """The spine's course by height: every attribute float32 (z, 1, 1), mm; x and y of body and canal, half axes."""

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
        rows = []
        for v, out in [(spine.vertebrae[0], 60.0), *((v, 0.0) for v in spine.vertebrae), (spine.vertebrae[-1], -60.0)]:
            body = v.to_world(np.array([0, 0, out]))
            canal = v.to_world(np.array([0, (v.depth + v.canal_depth) / 2, out]))
            sizes = np.array([v.width, v.depth, v.canal_width, v.canal_depth]) / 2
            rows.append([body[2], *body[:2], *canal[:2], *sizes, v.reach, min(v.id, L5 + 1)])
        table = np.array(rows[::-1])
        columns = [np.interp(z, table[:, 0], c).astype(np.float32)[:, None, None] for c in table[:, 1:].T]
        return cls(z.astype(np.float32)[:, None, None], *columns)


def _soft_tissue(spine: Spine, grid: Grid, rng: np.random.Generator) -> np.ndarray:
    """uint8 (z, y, x) of `Tissue`: fat, then everything that lies in it."""
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
    cx, cy, rx, ry = (np.asarray(a, np.float32) for a in (x, y, half_x, half_y))
    return ((dx - cx) / rx) ** 2 + ((dy - cy) / ry) ** 2


def _muscles(
    soft: np.ndarray, c: _Course, dx: np.ndarray, dy: np.ndarray, grid: Grid, rng: np.random.Generator
) -> None:
    """Paired bellies with fat between them and streaks of fat inside: edges that a registration can hold on to."""
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


def _vessels_and_lungs(soft: np.ndarray, c: _Course, dx: np.ndarray, dy: np.ndarray, rng: np.random.Generator) -> None:
    front = -c.half_depth
    aorta, vein = np.float32(rng.uniform(8, 11)), np.float32(rng.uniform(9, 12))
    # Both part below the aorta's fork at L4.
    fork = 7 * np.clip(c.level - 22.5, 0, 3)
    soft[_ellipse(dx, dy, 7 + fork, front - aorta - 2, aorta - 0.4 * fork, aorta - 0.4 * fork) < 1] = Tissue.VESSEL
    soft[_ellipse(dx, dy, -15 - fork, front - 0.75 * vein - 2, vein - 0.3 * fork, 0.75 * vein) < 1] = Tissue.VESSEL
    dome = np.sqrt(np.clip((T12 + 0.5 - c.level) / 2.5, 0, 1)) + 1e-3
    for side in (1, -1):
        lung = _ellipse(side * dx, dy, c.half_width + 42, front + 14, 38 * dome, 44 * dome) < 1
        soft[lung & (soft != Tissue.VESSEL)] = Tissue.LUNG


def _back(soft: np.ndarray, c: _Course, dx: np.ndarray, dy: np.ndarray, rng: np.random.Generator) -> None:
    """Interspinous ligament, lumbar fascia, fat under the skin, skin, air."""
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
    """Epidural fat, the dural sac, the cord down to its cone at L1, the roots of the cauda equina below."""
    dx, dy = x - c.canal_x, y - c.canal_y
    rx, ry = c.canal_half_width, c.canal_half_depth
    soft[_ellipse(dx, dy, 0, 0, rx, ry) < 1] = Tissue.FAT
    soft[_ellipse(dx, dy, 0, -0.06 * ry, 0.80 * rx, 0.84 * ry) < 1] = Tissue.CSF
    cone = np.clip(1.2 * (L1 + 0.5 - c.level), 0.01, 1)
    soft[_ellipse(dx, dy, 0, 0, 5.5 * cone, 4.2 * cone) < 1] = Tissue.CORD
    tail = np.clip(c.level - L1, 0.01, 1)
    for place in (-0.45, -0.15, 0.15, 0.45):
        soft[_ellipse(dx, dy, place * rx, 0.4 * ry, 1.4 * tail, 1.2 * tail) < 1] = Tissue.CORD
