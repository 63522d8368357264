"""Vertebra labels as an annotator draws them on an MR, made from exact labels.

The annotator sees thick slices and dark cortex: the drawn surface has a smooth error, thin processes lose their tips,
and each annotator has a volume bias. The errors do not move a vertebra, so they limit the score of any registration.

The surface error is calibrated by this project (`make data-report`), not taken from a publication.
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

# Smaller details are not drawn: a process thinner than twice this length loses its tip.
DETAIL_MM = 1.5
SURFACE_ERROR_MM, SURFACE_PERIOD_MM = (0.35, 0.6), 8.0
# Standard deviations of the relative volume bias: shared by the vertebrae of a patient, and of each vertebra.
PATIENT_BIAS, VERTEBRA_BIAS = 0.045, 0.02
# Share of patients whose MR ends within the first or the last vertebra, and the share of its volume inside the MR.
CUT_SHARE, CUT_INSIDE = 0.12, (0.65, 0.95)


@dataclass(frozen=True)
class View:
    """The field of view of an MR along z, and its slices.

    start, stop: the voxels inside it, start <= z < stop. thickness_mm: of the sagittal slices.
    """

    start: int
    stop: int
    thickness_mm: float

    def inside(self, shape: tuple[int, int, int]) -> np.ndarray | None:
        """The voxels inside the field of view, bool (z, y, x), or None for all of them."""
        if self.start == 0 and self.stop >= shape[0]:
            return None
        seen = np.zeros(shape, bool)
        seen[self.start : self.stop] = True
        return seen

    def extend(self, image: np.ndarray) -> np.ndarray:
        """Set an image (z, y, x) outside the field of view to its nearest value inside, in place, and return it."""
        image[: self.start], image[self.stop :] = image[self.start], image[self.stop - 1]
        return image

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Set an image or labels (z, y, x) to 0 outside the field of view, in place, and return the array."""
        image[: self.start], image[self.stop :] = 0, 0
        return image


def draw_view(labels: np.ndarray, ids: Sequence[int], rng: PortableRng) -> View:
    """Draw the field of view and the slice thickness of one MR.

    Args:
        labels: exact labels, (z, y, x), fixed domain.
        ids: labelled vertebrae from the top down.
        rng: draws all parameters.

    Returns:
        The view; it ends within the first or the last vertebra in a share CUT_SHARE of patients each.
    """
    thickness = rng.uniform(2.7, 5.0)
    cut, inside = rng.uniform(size=2) < CUT_SHARE, rng.uniform(*CUT_INSIDE, 2)
    top, bottom = (np.cumsum((labels == v).sum(axis=(1, 2))) for v in (ids[0], ids[-1]))
    stop = int(np.searchsorted(top, inside[0] * top[-1])) + 1 if cut[0] else labels.shape[0]
    start = int(np.searchsorted(bottom, (1 - inside[1]) * bottom[-1])) if cut[1] else 0
    return View(start, stop, thickness)


def draw_labels(labels: np.ndarray, ids: Sequence[int], grid: Grid, view: View, rng: PortableRng) -> np.ndarray:
    """Draw labels as an annotator does, from exact labels.

    A smooth error is added to the smoothed signed distance of each vertebra, and the sum is averaged over the slices.
    The threshold is chosen so that the volume is the true volume times one plus the bias. Where two vertebrae overlap,
    the one with the greater distance inside is drawn.

    Args:
        labels: exact labels, integer (z, y, x), fixed domain.
        ids: labelled vertebrae.
        grid: of `labels`.
        view: field of view and slices of the MR.
        rng: draws the errors and the bias.

    Returns:
        uint16 (z, y, x), 0 outside the field of view.
    """
    surface_error = np.float32(rng.uniform(*SURFACE_ERROR_MM)) * smooth_noise(rng, grid, SURFACE_PERIOD_MM)
    biases = rng.normal(0, PATIENT_BIAS) + rng.normal(0, VERTEBRA_BIAS, len(ids))
    drawn, depth = np.zeros(grid.shape, np.uint16), np.zeros(grid.shape, np.float32)
    boxes = find_objects(labels.astype(np.int32), max_label=max(ids))
    slices = thick_slices(grid.shape[2], grid.spacing_mm[0], view.thickness_mm, nearest=True)
    margin = [int(np.ceil(6 / s)) for s in spacing_zyx(grid)]
    for vertebra, bias in zip(ids, biases, strict=True):
        tight = boxes[vertebra - 1]
        if tight is None:
            continue
        box = tuple(slice(max(s.start - m, 0), s.stop + m) for s, m in zip(tight, margin, strict=True))
        inside = _distance_mm(labels[box] == vertebra, grid) + surface_error[box]
        inside = inside @ slices[box[2], box[2]].T / np.maximum(slices[box[2], box[2]].sum(1), 1e-6)
        voxels = min(int((labels == vertebra)[box].sum() * (1 + bias)), inside.size - 1)
        inside -= np.partition(inside.ravel(), inside.size - voxels - 1)[inside.size - voxels - 1]
        wins = (inside > 0) & (inside > depth[box])
        drawn[box][wins] = vertebra
        depth[box][wins] = inside[wins]
    return view.cut(drawn)


def _distance_mm(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """Signed distance to the surface of the smoothed mask, mm, float32, positive inside; exact for a plane."""
    blurred = gaussian_filter(mask.astype(np.float32), [DETAIL_MM / s for s in spacing_zyx(grid)], truncate=3.0)
    # Far from the surface, in most of the box, the distance is one of two constants.
    ends = np.array([1e-4, 1 - 1e-4], np.float32)
    outside, inside = DETAIL_MM * ndtri(ends)
    distance = np.where(blurred > 0.5, inside, outside)
    near = (blurred > ends[0]) & (blurred < ends[1])
    distance[near] = DETAIL_MM * ndtri(blurred[near])
    return distance
