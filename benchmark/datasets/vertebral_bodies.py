"""Vertebral bodies within whole-vertebra labels, for MR labels that have no more than bodies.

With a subregion mask (VerSe, SPINEPS: 49 and 50 are the body) the body is what the mask says. Without one it is cut:
the part of the label in front of the plane that touches the back wall of the body, at right angles to the direction
from body to arch. The wall is where the thick part of the label ends (`find_bodies`: a ball that fits the body does not
fit a pedicle), and the plane follows the course of the spine, as the canal does that runs behind it. On a lumbar CT
with both (tests/benchmark/datasets/test_vertebral_bodies.py) cut and mask agree with a DSC of 0.99.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.ndimage import distance_transform_edt

from benchmark.errors import BadInput
from methods.base import Grid, vertebra_ids

BODY_SUBREGIONS = (49, 50)  # Vertebra_Corpus_border and Vertebra_Corpus of TPTBox
ATLAS = 1  # C1 has no body


@dataclass(frozen=True)
class Body:
    """A vertebral body found in a label map. mask: bool, in `box` (z, y, x slices). centre_mm: LPS (3,)."""

    id: int
    box: tuple[slice, slice, slice]
    mask: np.ndarray
    centre_mm: np.ndarray


def find_bodies(labels: np.ndarray, grid: Grid) -> list[Body]:
    """The body of every vertebra, from the top down: the part of its label that a thick ball fits into."""
    bodies = []
    for vertebra in vertebra_ids(labels):
        box = box_around(labels == vertebra, 2)
        depth = distance_transform_edt(labels[box] == vertebra, sampling=grid.spacing_mm[::-1])
        ball = 0.6 * depth.max()
        mask = distance_transform_edt(depth < ball, sampling=grid.spacing_mm[::-1]) < ball
        index = np.mean(np.nonzero(mask), axis=1) + [s.start for s in box]
        bodies.append(Body(vertebra, box, mask, grid.to_points_mm(index[::-1])))
    return sorted(bodies, key=lambda b: -float(b.centre_mm[2]))


def box_around(mask: np.ndarray, margin: int) -> tuple[slice, slice, slice]:
    """The box (z, y, x) of all True voxels of `mask`, not empty, with `margin` voxels more on each side."""
    z, y, x = (np.nonzero(mask.any(axis=tuple({0, 1, 2} - {i})))[0] for i in range(3))
    a, b, c = (slice(max(0, int(i[0]) - margin), int(i[-1]) + margin + 1) for i in (z, y, x))
    return a, b, c


def bodies_by_subregion(path: Path, subregions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """labels, uint16 (z, y, x), where the subregion mask on the same grid has a body.

    path: of the subregion mask, for the error. Raises BadInput where none of the vertebrae has a body in it.
    """
    bodies = np.where(np.isin(subregions, BODY_SUBREGIONS), labels, 0).astype(np.uint16)
    if not bodies.any():
        raise BadInput(
            f"{path}: expected vertebral bodies (subregions 49 and 50) within the vertebra labels, found none; "
            "remove the file to have the bodies cut from the labels"
        )
    return bodies


def bodies_by_cut(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """labels, uint16 (z, y, x), in front of the back wall of each body. C1 is left out.

    grid: of the labels; any orientation and spacing.
    """
    bodies = np.zeros(labels.shape, np.uint16)
    found = find_bodies(np.where(labels == ATLAS, 0, labels), grid)
    for body, along in zip(found, _course([b.centre_mm for b in found]), strict=True):
        inside = labels[body.box] == body.id
        front = np.zeros(inside.shape, bool)
        front[inside] = _in_front(inside, body, along, grid)
        bodies[body.box][front] = body.id
    return bodies


def _in_front(inside: np.ndarray, body: Body, along: np.ndarray, grid: Grid) -> np.ndarray:
    """For each voxel of the label whether it lies before the back wall: bool (N,)."""
    points, core = (_points(mask, body, grid) for mask in (inside, body.mask & inside))
    back = points.mean(axis=0) - body.centre_mm
    back -= (back @ along) * along
    back /= np.linalg.norm(back)
    return points @ back <= (core @ back).max()


def _points(mask: np.ndarray, body: Body, grid: Grid) -> np.ndarray:
    return grid.to_points_mm((np.argwhere(mask) + [s.start for s in body.box])[:, ::-1])


def _course(centres: list[np.ndarray]) -> np.ndarray:
    """Unit vectors (N, 3) along the spine at each body, bent at the ends as the spine bends next to them."""
    if len(centres) < 2:
        return np.tile([0.0, 0.0, 1.0], (len(centres), 1))
    order: Literal[1, 2] = 2 if len(centres) > 2 else 1
    steps = np.gradient(np.array(centres), axis=0, edge_order=order)
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)
