"""One vertebra as an implicit surface: a function of position in mm, to be sampled on any grid.

It is the union of a body (an elliptic cylinder with a waist, concave endplates and a narrower front) and tapered rods
(pedicles, laminae, spinous, transverse and articular processes) without the canal, deformed by a few smooth waves so
that no vertebra is symmetric. Values are like a signed distance. Local frame: origin at the centre of the body, x to
the left, y to the back, z up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial

import numpy as np
from numpy.typing import ArrayLike

from benchmark.datasets.synthesis.rods import Box, Coordinates, Rod, box_around, rod_distance, smooth_max
from methods.base import Grid

T10, T11, T12, SACRUM = 17, 18, 19, 26
OUTSIDE_MM = 20.0
BLEND_MM = 2.0
LAMINA_MM = 4.0  # thickness of the laminae around the canal
# Room around the parts: the deviation from the symmetric shape and the surface itself.
ROOM_MM = 5.0


@dataclass(frozen=True)
class Spur:
    """An osteophyte on a rim of the body.

    degrees: its direction, 0 is the front. end: 1 is the top, -1 the bottom. rise: how far it rises towards the
    neighbour, relative to its length; two that rise bridge a disc.
    """

    degrees: float
    end: int
    length_mm: float
    rise: float = 0.3


@dataclass(frozen=True)
class Wave:
    """A smooth deviation from the symmetric shape: q -> q + amplitude * sin(wave . q + phase), mm and radians."""

    wave: tuple[float, float, float]
    phase: float
    amplitude: tuple[float, float, float]


@dataclass(frozen=True)
class Vertebra:
    """Dimensions in mm of one vertebra, and its pose: local point q -> centre_mm + rotation @ q (LPS).

    disc: height of the disc below. span: tip to tip of the transverse processes. reach: length of the spinous process
    behind the canal. wedge: relative change of height from front (-) to back (+). taper: relative change of width from
    the middle to the back (+) and to the front (-). waist: relative narrowing at half height. concavity: depth of the
    endplates. droop_deg: of the spinous process below the horizontal. canal_taper: of the canal's width to the back; 0
    is an ellipse. process_width: factor on the radii of processes. tips: displacements (3, 3) of the tips of the left
    and the right transverse process and of the spinous process. spurs: osteophytes. waves: deviations of its shape.
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
    taper: float = 0.0
    waist: float = 0.12
    concavity: float = 1.6
    droop_deg: float = 50.0
    canal_taper: float = 0.0
    process_width: float = 1.0
    tips: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    waves: tuple[Wave, ...] = ()

    def to_world(self, points: ArrayLike) -> np.ndarray:
        """Local points (..., 3) to LPS mm."""
        return np.asarray(points) @ self.rotation.T + self.centre_mm

    def extent_mm(self) -> np.ndarray:
        """The box around the vertebra: its least and greatest LPS mm, float64 (2, 3)."""
        corners = np.concatenate([self.to_world(_body_corners(self)), *(_rod_corners(self, c) for c in _rods(self))])
        return np.stack([corners.min(0), corners.max(0)])


def signed_distance(v: Vertebra, grid: Grid) -> tuple[Box, np.ndarray]:
    """Signed distance to the surface of a vertebra, in the part of a grid around it.

    Args:
        v: the vertebra.
        grid: with identity direction.

    Returns:
        Slices (z, y, x) of that part; and distances in mm, float32, negative inside, exact near the surface only,
        OUTSIDE_MM far from it.
    """
    box = signed_distance_box(v, grid)
    out = np.full([s.stop - s.start for s in box], OUTSIDE_MM, np.float32)
    q = shape_coordinates(v, grid, box)
    canal = _canal_distance(q, v)
    parts: list[tuple[np.ndarray, Callable[[Coordinates, np.ndarray], np.ndarray]]] = [
        (v.to_world(_body_corners(v)), lambda here, _: _body_distance(here, v)),
        (v.to_world(_lamina_corners(v)), lambda here, canal: _lamina_distance(here, canal, v)),
    ]
    parts += [(_rod_corners(v, rod), partial(_distance_to, rod)) for rod in _rods(v)]
    for corners, distance in parts:
        part = box_around(corners, grid, ROOM_MM)
        inside = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        value = distance((q[0][inside], q[1][inside], q[2][inside]), canal[inside])
        value = np.maximum(value, -canal[inside])
        out[inside] = -smooth_max(-out[inside], -value, BLEND_MM)
    return box, out


def signed_distance_box(v: Vertebra, grid: Grid) -> Box:
    """The part of a grid (slices z, y, x) in which `signed_distance` computes."""
    return box_around(v.extent_mm(), grid, ROOM_MM)


def ribs_distance(v: Vertebra, grid: Grid) -> tuple[Box, np.ndarray]:
    """Signed distance to the pair of ribs of a thoracic vertebra, as `signed_distance`; an empty part without ribs."""
    rods = list(_ribs(v)) if v.id <= T12 else []
    if not rods:
        return (slice(0, 0),) * 3, np.zeros((0, 0, 0), np.float32)
    box = box_around(np.concatenate([_rod_corners(v, rod) for rod in rods]), grid, ROOM_MM)
    out = np.full([s.stop - s.start for s in box], OUTSIDE_MM, np.float32)
    for rod in rods:
        part = box_around(_rod_corners(v, rod), grid, ROOM_MM)
        inside = tuple(slice(p.start - b.start, p.stop - b.start) for p, b in zip(part, box, strict=True))
        value = rod_distance(shape_coordinates(v, grid, part), rod)
        out[inside] = -smooth_max(-out[inside], -value, BLEND_MM)
    return box, out


def local_coordinates(v: Vertebra, grid: Grid, box: Box) -> Coordinates:
    """Local x, y and z in mm of the voxel centres in `box`, each float32 (z, y, x); `grid` has identity direction."""
    axes = _axes_mm(grid, box)
    offset = -v.rotation.T @ v.centre_mm
    x, y, z = axes[0], axes[1][:, None], axes[2][:, None, None]
    r, t = v.rotation.T.astype(np.float32), offset.astype(np.float32)
    a, b, c = (r[i, 0] * x + (r[i, 1] * y + (r[i, 2] * z + t[i])) for i in range(3))
    return a, b, c


def shape_coordinates(v: Vertebra, grid: Grid, box: Box) -> Coordinates:
    """The coordinates in which the vertebra is symmetric: `local_coordinates` displaced by its waves."""
    q = local_coordinates(v, grid, box)
    axes = _axes_mm(grid, box)
    for wave in v.waves:
        # sin(k . q + phase) is the imaginary part of a product of one factor for each axis.
        k = v.rotation @ np.asarray(wave.wave)
        x, y, z = (
            np.exp(1j * (n * a.astype(np.float64) + (wave.phase - k @ v.centre_mm if i == 0 else 0.0))).astype(
                np.complex64
            )
            for i, (n, a) in enumerate(zip(k, axes, strict=True))
        )
        value = ((z[:, None] * y)[:, :, None] * x).imag
        for coordinate, amplitude in zip(q, wave.amplitude, strict=True):
            coordinate += np.float32(amplitude) * value
    return q


def _axes_mm(grid: Grid, box: Box) -> list[np.ndarray]:
    """LPS x, y and z of the voxel centres in `box`, each float32 (n,)."""
    return [
        (np.arange(s.start, s.stop) * d + o).astype(np.float32)
        for s, d, o in zip(box[::-1], grid.spacing_mm, grid.origin_mm, strict=True)
    ]


def body_radius(x: np.ndarray, y: np.ndarray, half_width: float, half_depth: float, taper: float = 0.0) -> np.ndarray:
    """Relative radius in the plane of a vertebral body, 1 on its outline: a rounded ellipse with a concave back.

    taper: relative change of the width from the middle to the back.
    """
    t = y / np.float32(half_depth)
    u = np.abs(x / np.float32(half_width))
    if taper:
        u /= 1 + np.float32(taper) * np.clip(t, -1, 1)
    t = np.where(y > 0, t * (1.05 + 0.16 * np.clip(1 - (u / 0.55) ** 2, 0, 1)), -t)
    return np.sqrt(u * u * np.sqrt(u) + t * t * np.sqrt(t)) ** np.float32(0.8)


def _body_corners(v: Vertebra) -> np.ndarray:
    """Local corners (8, 3) of a box around the body."""
    half = np.array([v.width * (1 + abs(v.taper) / 2), v.depth, v.height + 2]) / 2
    return np.array([(x, y, z) for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)]) * half


def _body_distance(q: Coordinates, v: Vertebra) -> np.ndarray:
    """Approximate signed distance to the body: a wall with a waist, and concave endplates."""
    x, y, z = q
    radius = body_radius(x, y, v.width / 2, v.depth / 2, v.taper)
    middle = np.clip(1 - (2 * z / v.height) ** 2, 0, 1)
    back = np.clip(y / np.float32(v.depth / 2), -1, 1)
    # The wall to the canal has hardly any waist.
    narrowing = np.float32(v.waist) * (1 - np.float32(0.6) * np.clip(back, 0, 1)) * middle
    wall = (radius / (1 - narrowing) - 1) * (min(v.width, v.depth) / 2)
    # Endplates are concave, deepest behind the middle, and end in a rim.
    dent = np.float32(v.concavity) * (1 + np.float32(0.3) * back) * np.clip(1 - radius**2, 0, 1)
    half = v.height / 2 * (1 + v.wedge * y / (v.depth / 2)) - dent + 0.375 * v.concavity
    return smooth_max(wall, np.abs(z) - half, BLEND_MM)


def _canal_distance(q: Coordinates, v: Vertebra) -> np.ndarray:
    """Approximate signed distance to the canal, mm: an ellipse that narrows to the back by `canal_taper`."""
    half_width, half_depth = v.canal_width / 2, v.canal_depth / 2
    t = (q[1] - np.float32(v.depth / 2 + half_depth - 0.5)) / np.float32(half_depth)
    u = q[0] / np.float32(half_width)
    if v.canal_taper:
        u = u / (1 - np.float32(v.canal_taper) * np.clip(t, -1, 1))
    return (np.sqrt(u * u + t * t) - 1) * np.float32(min(half_width, half_depth))


def _lamina_corners(v: Vertebra) -> np.ndarray:
    """Local corners (2, 3) of a box around the laminae."""
    back = v.depth / 2 + v.canal_depth + LAMINA_MM
    return np.array([(-v.canal_width / 2 - LAMINA_MM, v.depth / 2, -0.8 * v.height),
                     (v.canal_width / 2 + LAMINA_MM, back, 0.4 * v.height)])  # fmt: skip


def _lamina_distance(q: Coordinates, canal: np.ndarray, v: Vertebra) -> np.ndarray:
    """Approximate signed distance to a ring around the canal, open in front; at the back, laminae slope down."""
    half, h = v.canal_depth / 2, v.height
    t = (q[1] - np.float32(v.depth / 2 + half)) / np.float32(half)
    front, back = np.clip(-t, 0, 1), np.clip(t, 0, 1)
    middle = np.float32(0.25 * h) * front - np.float32(0.05 * h) - np.float32(0.25 * h) * back
    high = np.abs(q[2] - middle) - np.float32(0.3 * h) * (1 - np.float32(0.25) * back)
    ring = np.abs(canal - np.float32(LAMINA_MM / 2)) - np.float32(LAMINA_MM / 2)
    return np.maximum(np.maximum(ring, high), -(t + np.float32(0.75)) * np.float32(half))


def _distance_to(rod: Rod, q: Coordinates, canal: np.ndarray) -> np.ndarray:
    return rod_distance(q, rod)


def _rods(v: Vertebra) -> Iterator[Rod]:
    """All parts except the body: spurs, arch and processes, and the wings of the sacrum."""
    if v.id == SACRUM:
        for s in (1.0, -1.0):
            yield Rod((s * 14, 4, 0), (s * 40, 16, -2), (12.0, 12.0), (1, 1, 1.2))
        yield Rod((0, 0, -14), (0, 12, -34), (15.0, 11.0), (1.4, 1, 1))
    yield from (_spur(v, spur) for spur in v.spurs)
    yield from _arch(v)
    for rod in (_thoracic_processes if v.id <= T11 else _lumbar_processes)(v):
        yield rod.thinner(v.process_width)


def _spur(v: Vertebra, spur: Spur) -> Rod:
    """A rod that points outward from the rim of the body."""
    a = np.deg2rad(spur.degrees)
    side, front = float(np.sin(a)), float(-np.cos(a))
    x, y, z = 0.44 * v.width * side, 0.44 * v.depth * front, spur.end * (v.height / 2 - 1.5)
    out = 0.06 * min(v.width, v.depth) + spur.length_mm
    return Rod((x, y, z), (x + out * side, y + out * front, z + spur.end * spur.rise * spur.length_mm), (2.8, 1.3))


def _ribs(v: Vertebra) -> Iterator[Rod]:
    """Head beside the disc above (T11 and T12: beside the body), neck to the transverse process, angle, shaft."""
    back, h = v.depth / 2 + v.canal_depth, v.height
    head = v.width / 2 + 3.5, 0.30 * v.depth, 0.5 * h + 2.0 if v.id <= T10 else 0.25 * h
    for s in (1.0, -1.0):
        points = [
            (s * head[0], head[1], head[2]),
            (s * max(v.span / 2, head[0] + 6), back - 1.0, 0.3 * h),
            (s * (v.width / 2 + 38), back + 6.0, -8.0),
            (s * (v.width / 2 + 68), back - 12.0, -24.0),
        ]
        for start, end, radius in zip(points, points[1:], ((4.0, 3.6), (3.8, 4.2), (4.2, 4.2)), strict=False):
            yield Rod(start, end, radius, (1, 1, 1.3))


def _arch(v: Vertebra) -> Iterator[Rod]:
    """Pedicles, laminae and articular pillars."""
    wall, back, side, h = v.depth / 2, v.depth / 2 + v.canal_depth, v.canal_width / 2, v.height
    x, y, pillar = side + v.pedicle_width / 2 - 0.5, wall + 0.62 * v.canal_depth, side + 3.0
    radius, tall = v.pedicle_width / 2, (1.0, 1.0, max(1.0, v.pedicle_height / v.pedicle_width))
    for s in (1.0, -1.0):
        yield Rod((s * x, 0.4 * wall, 0.2 * h), (s * x, y, 0.16 * h), (radius, radius + 0.3), tall)
        yield Rod((s * pillar, y, 0.05 * h), (s * 2.0, back + 4.0, -0.27 * h), (3.4, 3.0), (1, 1, 2.5))
        yield Rod((s * pillar, y + 1, 0.15 * h), (s * (pillar - 0.5), y + 3, -0.45 * h), (4.0, 3.8))


def _thoracic_processes(v: Vertebra) -> Iterator[Rod]:
    """Facets face back, transverse processes point back and out, spinous processes slope down and overlap."""
    back, side, h = v.depth / 2 + v.canal_depth, v.canal_width / 2, v.height
    y, joint = v.depth / 2 + 0.62 * v.canal_depth, -0.5 * h - v.disc
    flat = (1.5, 1.0, 1.0)
    for s in (1.0, -1.0):
        yield Rod((s * (side + 1), y, 0.2 * h), (s * (side + 1), y - 0.5, 0.5 * h + 7), (3.6, 2.6), flat)
        yield Rod((s * (side - 0.5), back, -0.3 * h), (s * side, y + 7.0, joint + 0.5), (3.4, 2.6), flat)
        tip = _moved((s * (v.span / 2 - 4.4), back + 6.0, 0.25 * h), v.tips[0 if s > 0 else 1])
        yield Rod((s * (side + 3), y + 1, 0.1 * h), tip, (3.8, 4.4), (1, 1, 1.2))
    droop = np.deg2rad(v.droop_deg)
    tip = (0.0, back + 3 + float(np.cos(droop)) * (v.reach - 3), -0.25 * h - float(np.sin(droop)) * (v.reach - 3))
    yield Rod((0, back + 3, -0.25 * h), _moved(tip, v.tips[2]), (3.2, 2.2), (1, 1, 1.8))


def _lumbar_processes(v: Vertebra) -> Iterator[Rod]:
    """Facets face each other sideways, the spinous process is an upright plate, transverse processes are thin."""
    back, side, h = v.depth / 2 + v.canal_depth, v.canal_width / 2, v.height
    y, pillar, joint = v.depth / 2 + 0.62 * v.canal_depth, v.canal_width / 2 + 3.0, -0.5 * h - v.disc
    for s in (1.0, -1.0):
        top = (s * (side + 7.0), y + 2, 0.5 * h + 6.5)
        yield Rod((s * (pillar + 3), y - 1, 0.1 * h), top, (4.5, 3.6), (1, 1.4, 1))
        low = (s * (side - 1.5), back + 1.0, joint - 3.5)
        yield Rod((s * (side - 1), back, -0.3 * h), low, (4.2, 3.6), (1, 1.2, 1))
        tip = _moved((s * (v.span / 2 - 2.4), y + 1, 0.22 * h), v.tips[0 if s > 0 else 1])
        yield Rod((s * (pillar + 1), y - 1, 0.12 * h), tip, (3.6, 2.4), (1, 1, 1.8))
    down = -0.25 * h - float(np.sin(np.deg2rad(v.droop_deg))) * (v.reach - 8)
    yield Rod((0, back + 5, -0.25 * h), _moved((0, back + v.reach - 3, down), v.tips[2]), (2.4, 3.0), (1, 1, 3.2))


def _moved(point: tuple[float, float, float], by: np.ndarray) -> tuple[float, float, float]:
    return point[0] + float(by[0]), point[1] + float(by[1]), point[2] + float(by[2])


def _rod_corners(v: Vertebra, rod: Rod) -> np.ndarray:
    """LPS corners (4, 3) of a box around a rod."""
    ends, reach = v.to_world(np.array([rod.start, rod.end])), rod.reach_mm()
    return np.concatenate([ends - reach, ends + reach])
