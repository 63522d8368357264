"""The course of a spine by height, along which the soft tissues around it are placed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from benchmark.datasets.synthesis.anatomy import L5, Spine
from benchmark.datasets.synthesis.random import PortableRng, linear_weights
from methods.base import Grid


@dataclass(frozen=True)
class Course:
    """The course of the spine by height, and positions relative to it; every attribute is float32.

    In mm: centres of body and canal, half axes of both, reach of the spinous process, each (z, 1, 1). level: continuous
    VerSe id, (z, 1, 1). dx, dy: position to the left and to the back of the body's centre, (z, 1, x) and (z, y, 1).
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
    dx: np.ndarray
    dy: np.ndarray

    @classmethod
    def of(cls, spine: Spine, grid: Grid) -> Course:
        """Interpolate linearly between the vertebrae, and extend straight by 60 mm at both ends."""
        x, y, z = (
            np.arange(n) * s + o for n, s, o in zip(grid.shape[::-1], grid.spacing_mm, grid.origin_mm, strict=True)
        )
        rows = []
        for v, out in [(spine.vertebrae[0], 60.0), *((v, 0.0) for v in spine.vertebrae), (spine.vertebrae[-1], -60.0)]:
            body = v.to_world(np.array([0, 0, out]))
            canal = v.to_world(np.array([0, (v.depth + v.canal_depth) / 2, out]))
            sizes = np.array([v.width, v.depth, v.canal_width, v.canal_depth]) / 2
            rows.append([body[2], *body[:2], *canal[:2], *sizes, v.reach, min(v.id, L5 + 1)])
        table = np.array(rows[::-1])
        columns = [np.interp(z, table[:, 0], c).astype(np.float32)[:, None, None] for c in table[:, 1:].T]
        dx = x.astype(np.float32) - columns[0]
        dy = y.astype(np.float32)[:, None] - columns[1]
        return cls(*[z.astype(np.float32)[:, None, None], *columns, dx, dy])

    @property
    def front(self) -> np.ndarray:
        """The front of the body, relative to its centre."""
        return -self.half_depth

    @property
    def back(self) -> np.ndarray:
        """The back of the canal, relative to the centre of the body."""
        return self.half_depth + 2 * self.canal_half_depth

    def by_level(self, levels: Sequence[float], values: Sequence[float]) -> np.ndarray:
        """Values that are linear between given levels, (z, 1, 1)."""
        return np.interp(self.level, levels, values).astype(np.float32)

    def wander(self, rng: PortableRng, sd_mm: float, period_mm: float = 45.0) -> np.ndarray:
        """Draw a smooth deviation by height, (z, 1, 1), of standard deviation `sd_mm`."""
        # The nodes are fixed in space, so that a coarser grid samples the same course.
        nodes = np.arange(-12, 13) * period_mm
        drawn = rng.normal(0, sd_mm * 1.22, len(nodes))
        weights = linear_weights(np.clip(self.z.ravel(), nodes[0], nodes[-1]), nodes)
        return (weights @ drawn).astype(np.float32)[:, None, None]

    def ellipse(self, x: ArrayLike, y: ArrayLike, half_x: ArrayLike,
                half_y: ArrayLike, mirrored: bool = False) -> np.ndarray:  # fmt: skip
        """Squared relative radius, (z, y, x): less than 1 inside the ellipse about (x, y).

        mirrored: of a pair of ellipses, at x and -x.
        """
        across = np.abs(self.dx) if mirrored else self.dx
        cx, cy, rx, ry = (np.asarray(a, np.float32) for a in (x, y, half_x, half_y))
        return ((across - cx) / rx) ** 2 + ((self.dy - cy) / ry) ** 2
