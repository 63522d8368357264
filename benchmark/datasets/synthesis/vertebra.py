"""One vertebra as an implicit surface: a function of position in mm, to be sampled on any grid.

It is the union of an elliptic cylinder with a waist (body) and tapered capsules (pedicles, laminae, spinous, transverse
and articular processes) without the canal, with values like a signed distance. Local frame: origin at the centre of the
body, x to the left, y to the back, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from methods.base import Grid

T10, T11, T12, SACRUM = 17, 18, 19, 26
OUTSIDE_MM = 20.0
BLEND_MM = 2.0

Box = tuple[slice, slice, slice]
Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Spur:
    """An osteophyte on a rim of the body. degrees: its direction, 0 is the front. end: 1 is the top, -1 the bottom."""

    degrees: float
    end: int
    length_mm: float


@dataclass(frozen=True)
class Vertebra:
    """Dimensions in mm of one vertebra, and its pose: local point q -> centre_mm + rotation @ q (LPS).

    disc: height of the disc below. span: tip to tip of the transverse processes. reach: from the back of the canal to
    the tip of the spinous process. wedge: relative change of height from front (-) to back (+). spurs: osteophytes.
    """

    id: int
    width: float
    depth: float
    height: float
    disc: float
    canal_width: float
    canal_depth: float
    pedicle_width: float
    pedicle_height: float
    span: float
    reach: float
    wedge: float
    spurs: tuple[Spur, ...]
    centre_mm: np.ndarray
    rotation: np.ndarray

    def to_world(self, points: ArrayLike) -> np.ndarray:
        """Local points (..., 3) to LPS mm."""
        return np.asarray(points) @ self.rotation.T + self.centre_mm

    def extent_mm(self) -> np.ndarray:
        """The box around the vertebra: its least and greatest LPS mm, float64 (2, 3)."""
        corners = np.concatenate(
            [self.to_world(_body_corners(self)), *(_rod_corners(self, c) for c in _capsules(self))]
        )
        return np.stack([corners.min(0), corners.max(0)])


@dataclass(frozen=True)
class _Capsule:
    """A tapered rod between two local points; `stretch` (x, y, z) >= 1 makes its section elliptic."""

    start: tuple[float, float, float]
    end: tuple[float, float, float]
    radius: tuple[float, float]
    stretch: tuple[float, float, float] = (1.0, 1.0, 1.0)


def signed_distance(v: Vertebra, grid: Grid) -> tuple[Box, np.ndarray]:
    """Signed distance to the surface of a vertebra, in the part of a grid around it.

    Args:
        v: the vertebra.
        grid: with identity direction.

    Returns:
        Slices (z, y, x) of that part; and distances in mm, float32, negative inside, exact near the surface only,
        OUTSIDE_MM far from it.
    """
    box = box_around(v.extent_mm(), grid, 3.0)
    out = np.full([s.stop - s.start for s in box], OUTSIDE_MM, np.float32)
    _join(out, box, v, grid, v.to_world(_body_corners(v)), partial(_body_distance, v=v))
    for rod in _capsules(v):
        _join(out, box, v, grid, _rod_corners(v, rod), partial(_rod_distance, rod=rod))
    return box, out


def ribs_distance(v: Vertebra, grid: Grid) -> tuple[Box, np.ndarray]:
    """Signed distance to the pair of ribs of a thoracic vertebra, as `signed_distance`; an empty part without ribs."""
    rods = list(_ribs(v)) if v.id <= T12 else []
    if not rods:
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.float32)
    corners = np.concatenate([_rod_corners(v, rod) for rod in rods])
    box = box_around(corners, grid, 3.0)
    out = np.full([s.stop - s.start for s in box], OUTSIDE_MM, np.float32)
    for rod in rods:
        _join(out, box, v, grid, _rod_corners(v, rod), partial(_rod_distance, rod=rod))
    return box, out


def local_coordinates(v: Vertebra, grid: Grid, box: Box) -> Coordinates:
    """Local x, y and z in mm of the voxel centres in `box`, each float32 (z, y, x); `grid` has identity direction."""
    axes = [
        (np.arange(s.start, s.stop) * d + o).astype(np.float32)
        for s, d, o in zip(box[::-1], grid.spacing_mm, grid.origin_mm, strict=True)
    ]
    offset = -v.rotation.T @ v.centre_mm
    x, y, z = axes[0], axes[1][:, None], axes[2][:, None, None]
    r, t = v.rotation.T.astype(np.float32), offset.astype(np.float32)
    a, b, c = (r[i, 0] * x + (r[i, 1] * y + (r[i, 2] * z + t[i])) for i in range(3))
    return a, b, c


def box_around(points_mm: np.ndarray, grid: Grid, margin_mm: float) -> Box:
    """Slices (z, y, x) of the part of `grid` (identity direction) around LPS points (n, 3); empty if none is inside."""
    points = np.asarray(points_mm)
    low = np.floor(grid.to_indices_xyz(points.min(0) - margin_mm)).astype(int)[::-1]
    high = np.ceil(grid.to_indices_xyz(points.max(0) + margin_mm)).astype(int)[::-1] + 1
    start = np.clip(low, 0, grid.shape)
    stop = np.maximum(start, np.clip(high, 0, grid.shape))
    return slice(start[0], stop[0]), slice(start[1], stop[1]), slice(start[2], stop[2])


def body_radius(x: np.ndarray, y: np.ndarray, half_width: float, half_depth: float) -> np.ndarray:
    """Relative radius in the plane of a vertebral body, 1 on its outline: a rounded ellipse with a concave back."""
    u = np.abs(x / np.float32(half_width))
    t = np.abs(y / np.float32(half_depth))
    t = np.where(y > 0, t * (1.05 + 0.16 * np.clip(1 - (u / 0.55) ** 2, 0, 1)), t)
    return np.sqrt(u * u * np.sqrt(u) + t * t * np.sqrt(t)) ** np.float32(0.8)


def _body_corners(v: Vertebra) -> np.ndarray:
    """Local corners (8, 3) of a box around the body."""
    half = np.array([v.width, v.depth, v.height + 2]) / 2
    return np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half


def _body_distance(q: Coordinates, v: Vertebra) -> np.ndarray:
    """Approximate signed distance to the body: a wall with a waist, and concave endplates."""
    x, y, z = q
    radius = body_radius(x, y, v.width / 2, v.depth / 2)
    middle = np.clip(1 - (2 * z / v.height) ** 2, 0, 1)
    wall = (radius / (1 - 0.12 * middle) - 1) * (min(v.width, v.depth) / 2)
    # Endplates are concave and end in a rim.
    half = v.height / 2 * (1 + v.wedge * y / (v.depth / 2)) - 1.6 * np.clip(1 - radius**2, 0, 1) + 0.6
    return _smooth_max(wall, np.abs(z) - half, BLEND_MM)


def _capsules(v: Vertebra) -> Iterator[_Capsule]:
    """All parts except the body: spurs, arch and processes, and the wings of the sacrum."""
    if v.id == SACRUM:
        for s in (1.0, -1.0):
            yield _Capsule((s * 14, 4, 0), (s * 40, 16, -2), (12.0, 12.0), (1, 1, 1.2))
        yield _Capsule((0, 0, -14), (0, 12, -34), (15.0, 11.0), (1.4, 1, 1))
    yield from (_spur(v, spur) for spur in v.spurs)
    yield from _arch(v)
    yield from (_thoracic_processes if v.id <= T11 else _lumbar_processes)(v)


def _spur(v: Vertebra, spur: Spur) -> _Capsule:
    """A rod that points outward from the rim of the body."""
    a = np.deg2rad(spur.degrees)
    side, front = float(np.sin(a)), float(-np.cos(a))
    x, y, z = 0.44 * v.width * side, 0.44 * v.depth * front, spur.end * (v.height / 2 - 1.5)
    out = 0.06 * min(v.width, v.depth) + spur.length_mm
    return _Capsule((x, y, z), (x + out * side, y + out * front, z + spur.end * 0.3 * spur.length_mm), (2.8, 1.3))


def _ribs(v: Vertebra) -> Iterator[_Capsule]:
    """Head beside the disc above (T11 and T12: beside the body), neck to the transverse process, angle, shaft."""
    back, h = v.depth / 2 + v.canal_depth, v.height
    head = v.width / 2 + 2.0, 0.30 * v.depth, (0.45 if v.id <= T10 else 0.15) * h
    for s in (1.0, -1.0):
        points = [
            (s * head[0], head[1], head[2]),
            (s * max(v.span / 2, head[0] + 6), back - 1.0, 0.2 * h),
            (s * (v.width / 2 + 38), back + 6.0, -8.0),
            (s * (v.width / 2 + 68), back - 12.0, -24.0),
        ]
        for start, end, radius in zip(points, points[1:], ((4.0, 3.6), (3.8, 4.2), (4.2, 4.2)), strict=False):
            yield _Capsule(start, end, radius, (1, 1, 1.3))


def _arch(v: Vertebra) -> Iterator[_Capsule]:
    """Pedicles, laminae and articular pillars."""
    wall, back, side, h = v.depth / 2, v.depth / 2 + v.canal_depth, v.canal_width / 2, v.height
    x, y, pillar = side + v.pedicle_width / 2 - 0.5, wall + 0.62 * v.canal_depth, side + 3.0
    radius, tall = v.pedicle_width / 2, (1.0, 1.0, max(1.0, v.pedicle_height / v.pedicle_width))
    for s in (1.0, -1.0):
        yield _Capsule((s * x, 0.4 * wall, 0.2 * h), (s * x, y, 0.16 * h), (radius, radius + 0.3), tall)
        yield _Capsule((s * pillar, y, 0.05 * h), (s * 2.0, back + 4.0, -0.27 * h), (3.4, 3.0), (1, 1, 2.5))
        yield _Capsule((s * pillar, y + 1, 0.15 * h), (s * (pillar - 0.5), y + 3, -0.45 * h), (4.0, 3.8))


def _thoracic_processes(v: Vertebra) -> Iterator[_Capsule]:
    """Facets face back, transverse processes point back and out, spinous processes slope down and overlap."""
    back, side, h = v.depth / 2 + v.canal_depth, v.canal_width / 2, v.height
    y, joint = v.depth / 2 + 0.62 * v.canal_depth, -0.5 * h - v.disc
    flat = (1.5, 1.0, 1.0)
    for s in (1.0, -1.0):
        yield _Capsule((s * (side + 1), y, 0.2 * h), (s * (side + 1), y - 0.5, 0.5 * h + 7), (3.6, 2.6), flat)
        yield _Capsule((s * (side - 0.5), back, -0.3 * h), (s * side, y + 7.0, joint + 0.5), (3.4, 2.6), flat)
        tip = (s * (v.span / 2 - 4.4), back + 6.0, 0.25 * h)
        yield _Capsule((s * (side + 3), y + 1, 0.1 * h), tip, (3.8, 4.4), (1, 1, 1.2))
    down = -0.25 * h - 0.75 * v.reach
    yield _Capsule((0, back + 3, -0.25 * h), (0, back + 0.62 * v.reach, down), (3.2, 2.2), (1, 1, 1.8))


def _lumbar_processes(v: Vertebra) -> Iterator[_Capsule]:
    """Facets face each other sideways, the spinous process is an upright plate, transverse processes are thin."""
    back, side, h = v.depth / 2 + v.canal_depth, v.canal_width / 2, v.height
    y, pillar, joint = v.depth / 2 + 0.62 * v.canal_depth, v.canal_width / 2 + 3.0, -0.5 * h - v.disc
    for s in (1.0, -1.0):
        top = (s * (side + 7.0), y + 2, 0.5 * h + 6.5)
        yield _Capsule((s * (pillar + 3), y - 1, 0.1 * h), top, (4.5, 3.6), (1, 1.4, 1))
        low = (s * (side - 1.5), back + 1.0, joint - 3.5)
        yield _Capsule((s * (side - 1), back, -0.3 * h), low, (4.2, 3.6), (1, 1.2, 1))
        tip = (s * (v.span / 2 - 2.4), y + 1, 0.22 * h)
        yield _Capsule((s * (pillar + 1), y - 1, 0.12 * h), tip, (3.6, 2.4), (1, 1, 1.8))
    yield _Capsule((0, back + 5, -0.35 * h), (0, back + v.reach - 3, -0.55 * h), (2.4, 3.0), (1, 1, 3.2))


def _rod_corners(v: Vertebra, rod: _Capsule) -> np.ndarray:
    """LPS corners (4, 3) of a box around a rod."""
    ends, reach = v.to_world(np.array([rod.start, rod.end])), max(rod.radius) * max(rod.stretch)
    return np.concatenate([ends - reach, ends + reach])


def _rod_distance(q: Coordinates, rod: _Capsule) -> np.ndarray:
    """Approximate signed distance to a rod, mm."""
    stretch = np.asarray(rod.stretch)
    start, axis = np.asarray(rod.start) / stretch, (np.asarray(rod.end) - np.asarray(rod.start)) / stretch
    p = [(c / np.float32(s) if s != 1 else c) - np.float32(o) for c, s, o in zip(q, stretch, start, strict=True)]
    a = axis.astype(np.float32)
    along = np.clip((p[0] * a[0] + p[1] * a[1] + p[2] * a[2]) / np.float32(axis @ axis), 0, 1)
    squared = sum(((c - along * k) ** 2 for c, k in zip(p, a, strict=True)), np.float32(0))
    return np.sqrt(squared) - (np.float32(rod.radius[0]) + np.float32(rod.radius[1] - rod.radius[0]) * along)


def _join(
    out: np.ndarray,
    box: Box,
    v: Vertebra,
    grid: Grid,
    corners_mm: np.ndarray,
    distance: Callable[[Coordinates], np.ndarray],
) -> None:
    """Unite one part with `out`, without the canal."""
    part = box_around(corners_mm, grid, 3.0)
    inside = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
    q = local_coordinates(v, grid, part)
    value = distance(q)
    half_width, half_depth = v.canal_width / 2, v.canal_depth / 2
    middle = v.depth / 2 + half_depth - 0.5
    canal = np.sqrt((q[0] / half_width) ** 2 + ((q[1] - middle) / half_depth) ** 2) - 1
    value = np.maximum(value, -canal * min(half_width, half_depth))
    out[inside] = -_smooth_max(-out[inside], -value, BLEND_MM)


def _smooth_max(a: np.ndarray, b: np.ndarray, width_mm: float) -> np.ndarray:
    """The maximum of both, rounded where they differ by less than `width_mm`."""
    near = np.clip(np.float32(width_mm) - np.abs(a - b), 0, None)
    return np.maximum(a, b) + near * near * np.float32(0.25 / width_mm)
