"""Vertebral bodies in labels of whole vertebrae, for MR labels that are bodies alone.

A subregion mask (VerSe, SPINEPS: 49 and 50 are the body) gives the body directly. Without a mask the label is cut at a
plane that touches the back wall of the body; the body is the part in front of it. The plane is at right angles to the
direction from body to arch, and parallel to the course of the spine. The back wall is the end of the thick part of the
label (`find_bodies`: a ball that fits into the body does not fit into a pedicle). On a lumbar CT with a mask
(tests/benchmark/datasets/test_vertebral_bodies.py) cut and mask agree with a DSC of 0.99.
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
    """A vertebral body in a label map. box: slices (z, y, x). mask: bool, in `box`. centre_mm: LPS (3,)."""

    id: int
    box: tuple[slice, slice, slice]
    mask: np.ndarray
    centre_mm: np.ndarray


def find_bodies(labels: np.ndarray, grid: Grid) -> list[Body]:
    """Find the body of every vertebra: the part of its label that a large ball fits into.

    Args:
        labels: integer (z, y, x).
        grid: of the labels.

    Returns:
        Bodies from the top down.
    """
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
    """Compute the box of all True voxels of a mask (z, y, x) that has some, with `margin` voxels on each side."""
    z, y, x = (np.nonzero(mask.any(axis=tuple({0, 1, 2} - {i})))[0] for i in range(3))
    a, b, c = (slice(max(0, int(i[0]) - margin), int(i[-1]) + margin + 1) for i in (z, y, x))
    return a, b, c


def bodies_by_subregion(path: Path, subregions: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Keep the labels where a subregion mask has a body.

    Args:
        path: of the subregion mask, for the error.
        subregions: integer (z, y, x); 49 and 50 are the body.
        labels: uint16 (z, y, x), on the same grid.

    Returns:
        uint16 (z, y, x), 0 elsewhere.

    Raises:
        BadInput: if no label has a body in the mask.
    """
    bodies = np.where(np.isin(subregions, BODY_SUBREGIONS), labels, 0).astype(np.uint16)
    if not bodies.any():
        raise BadInput(
            f"{path}: expected vertebral bodies (subregions 49 and 50) within the vertebra labels, found none; "
            "remove the file to have the bodies cut from the labels"
        )
    return bodies


def bodies_by_cut(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """Keep the labels in front of the back wall of each body; C1 has no body and is removed.

    Args:
        labels: uint16 (z, y, x), VerSe ids.
        grid: of the labels, with any orientation and spacing.

    Returns:
        uint16 (z, y, x), 0 elsewhere.
    """
    bodies = np.zeros(labels.shape, np.uint16)
    thick_parts = find_bodies(np.where(labels == ATLAS, 0, labels), grid)
    for body, along in zip(thick_parts, _course([b.centre_mm for b in thick_parts]), strict=True):
        inside = labels[body.box] == body.id
        front = np.zeros(inside.shape, bool)
        front[inside] = _in_front(inside, body, along, grid)
        bodies[body.box][front] = body.id
    return bodies


def _in_front(inside: np.ndarray, body: Body, along: np.ndarray, grid: Grid) -> np.ndarray:
    """Whether each voxel of the label lies in front of the back wall: bool (N,). along: the course of the spine."""
    points, core = (_points(mask, body, grid) for mask in (inside, body.mask & inside))
    back = points.mean(axis=0) - body.centre_mm
    back -= (back @ along) * along
    back /= np.linalg.norm(back)
    return points @ back <= (core @ back).max()


def _points(mask: np.ndarray, body: Body, grid: Grid) -> np.ndarray:
    """LPS positions (N, 3) of the voxels of a mask in the box of the body."""
    return grid.to_points_mm((np.argwhere(mask) + [s.start for s in body.box])[:, ::-1])


def _course(centres: list[np.ndarray]) -> np.ndarray:
    """Unit vectors (N, 3) along the spine at each body; the curvature continues at both ends."""
    if len(centres) < 2:
        return np.tile([0.0, 0.0, 1.0], (len(centres), 1))
    order: Literal[1, 2] = 2 if len(centres) > 2 else 1
    steps = np.gradient(np.array(centres), axis=0, edge_order=order)
    return steps / np.linalg.norm(steps, axis=1, keepdims=True)
