"""Vertebra labels as they are drawn on an MR, from labels that are exact.

A reader sees thick slices and dark cortex: the drawn surface wavers, thin processes lose their tips, and one reader
draws larger than another. Nothing of this moves a vertebra, so it bounds what any registration can score.

The surface error and its size follow this project's calibration (`make data-report`), not a publication.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import find_objects, gaussian_filter
from scipy.special import ndtri

from benchmark.datasets.synthesis.acquisition import thick_slices
from benchmark.datasets.synthesis.random import PortableRng, smooth_noise
from methods.base import Grid
from methods.geometry import spacing_zyx

# Detail below this is not drawn: a process thinner than twice it loses its tip.
DETAIL_MM = 1.5
SURFACE_ERROR_MM, SURFACE_PERIOD_MM = (0.55, 0.85), 8.0
# Signed volume bias: one reader's habit, shared by a patient's vertebrae, and what is each one's own.
PATIENT_BIAS, OWN_BIAS = 0.05, 0.02
# Share of patients whose MR ends within the first or the last vertebra, and what it leaves of that one's volume.
CUT_SHARE, CUT_LEAVES = 0.12, (0.65, 0.95)


@dataclass(frozen=True)
class View:
    """The MR's field of view along z, and its slices. start, stop: voxels; thickness_mm: of the sagittal slices."""

    start: int
    stop: int
    thickness_mm: float

    def cut(self, image: np.ndarray) -> np.ndarray:
        """The image or labels (z, y, x) with 0 outside of the view."""
        image[: self.start], image[self.stop :] = 0, 0
        return image


def draw_view(labels: np.ndarray, ids: Sequence[int], rng: PortableRng) -> View:
    """The slices and the field of view of one MR. labels: (z, y, x), fixed domain; ids: from the top down."""
    thickness = rng.uniform(2.7, 5.0)
    cut, leaves = rng.uniform(size=2) < CUT_SHARE, rng.uniform(*CUT_LEAVES, 2)
    top, bottom = (np.cumsum((labels == v).sum(axis=(1, 2))) for v in (ids[0], ids[-1]))
    stop = int(np.searchsorted(top, leaves[0] * top[-1])) + 1 if cut[0] else labels.shape[0]
    start = int(np.searchsorted(bottom, (1 - leaves[1]) * bottom[-1])) if cut[1] else 0
    return View(start, stop, thickness)


def draw_labels(labels: np.ndarray, ids: Sequence[int], grid: Grid, view: View, rng: PortableRng) -> np.ndarray:
    """What a reader draws: uint16 (z, y, x), from exact labels (z, y, x); nothing outside of the view.

    Each vertebra's signed distance, without detail, wavers by a smooth error and is averaged over the slices; it is cut
    where the volume is the true one times the reader's bias. The deeper of two neighbours wins.
    """
    wavering = np.float32(rng.uniform(*SURFACE_ERROR_MM)) * smooth_noise(rng, grid, SURFACE_PERIOD_MM)
    biases = rng.normal(0, PATIENT_BIAS) + rng.normal(0, OWN_BIAS, len(ids))
    drawn, depth = np.zeros(grid.shape, np.uint16), np.zeros(grid.shape, np.float32)
    boxes = find_objects(labels.astype(np.int32), max_label=max(ids))
    slices = thick_slices(grid.shape[2], grid.spacing_mm[0], view.thickness_mm, nearest=True)
    margin = [int(np.ceil(6 / s)) for s in spacing_zyx(grid)]
    for vertebra, bias in zip(ids, biases, strict=True):
        tight = boxes[vertebra - 1]
        if tight is None:
            continue
        box = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(tight, margin, strict=True))
        inside = _distance_mm(labels[box] == vertebra, grid) + wavering[box]
        inside = inside @ slices[box[2], box[2]].T / np.maximum(slices[box[2], box[2]].sum(1), 1e-6)
        wanted = min(int((labels == vertebra)[box].sum() * (1 + bias)), inside.size - 1)
        inside -= np.partition(inside.ravel(), inside.size - wanted - 1)[inside.size - wanted - 1]
        wins = (inside > 0) & (inside > depth[box])
        drawn[box][wins] = vertebra
        depth[box][wins] = inside[wins]
    return view.cut(drawn)


def _distance_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """About the signed distance to the mask's surface, positive inside, float32: exact for a plane, 0 lost detail."""
    blurred = gaussian_filter(mask.astype(np.float32), [DETAIL_MM / s for s in spacing_zyx(grid)], truncate=3.0)
    # Most of a box is far from the surface, where there are two values only.
    ends = np.array([1e-4, 1 - 1e-4], np.float32)
    outside, inside = DETAIL_MM * ndtri(ends)
    distance = np.where(blurred > 0.5, inside, outside)
    near = (blurred > ends[0]) & (blurred < ends[1])
    distance[near] = DETAIL_MM * ndtri(blurred[near])
    return distance
