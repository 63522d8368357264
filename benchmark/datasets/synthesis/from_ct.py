"""Simulated pairs: the phantom's motion and MR contrast on a user's CT and vertebra labels.

The MR is made from tissues, never from the intensities of the CT: the CT and its labels decide only where each tissue
is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.ndimage import binary_fill_holes, distance_transform_edt, gaussian_filter

from benchmark.datasets.field_of_view import CT_PADDING_HU, MR_PADDING, seen_voxels
from benchmark.datasets.label_resampling import resample_labels
from benchmark.datasets.preprocessing import centroids_mm, pre_align
from benchmark.datasets.resampling import fill_unseen, isotropic_grid, resample_scan
from benchmark.datasets.synthesis.acquisition import acquire_mr
from benchmark.datasets.synthesis.annotation import draw_labels, draw_view
from benchmark.datasets.synthesis.body import outside_patient
from benchmark.datasets.synthesis.contrast import Tissue, TissueMap, mr_signal
from benchmark.datasets.synthesis.motion import MovedSpine, move_spine, warp_image
from benchmark.datasets.synthesis.poses import draw_motion
from benchmark.datasets.synthesis.random import PortableRng
from benchmark.datasets.vertebral_bodies import Body, box_around, find_bodies
from benchmark.errors import BadInput
from methods.base import IDENTITY_DIRECTION, Grid

MIN_JACOBIAN, MAX_OVERLAP = 0.1, 0.01
CONUS_ID = 20
DENSE_HU, FAT_HU, LUNG_HU, AIR_HU = 260.0, -25.0, -400.0, -940.0
_ATTEMPTS = 12
_MOTION, _MR, _ANNOTATOR = 2, 4, 5


@dataclass(frozen=True)
class SimulatedPair:
    """A CT and an MR of the same spine in another position, on one isotropic 1 mm LPS grid.

    ct_hu: float32 (z, y, x), -3024 where the CT saw nothing.
    mr: float32 (z, y, x), the brightest tissue about 1, 0 outside its field of view and where the CT saw nothing.
    ct_labels, mr_labels: uint16 (z, y, x).
    displacement_mm: float32 (z, y, x, 3), MR point p -> CT point p + u(p), rigid inside every MR vertebra.
    core: bool (z, y, x), the voxels around which the displacement is rigid and the drawn MR label is the exact one.
    mr_centroids_mm: annotated centroids, vertebra -> LPS mm (3,). Their error is such that pre-alignment on them is
        the identity.
    grid: of all arrays.
    """

    ct_hu: np.ndarray
    ct_labels: np.ndarray
    mr: np.ndarray
    mr_labels: np.ndarray
    displacement_mm: np.ndarray
    core: np.ndarray
    mr_centroids_mm: dict[int, np.ndarray]
    grid: Grid


def simulate(
    ct_hu: np.ndarray, labels: np.ndarray, grid: Grid, seed: int, weighting: str = "T1", exact_labels: bool = False,
    motion_mm: float | None = None,
) -> SimulatedPair:  # fmt: skip
    """Simulate an MR of the spine in a CT, in another position. The same arguments give the same pair.

    Args:
        ct_hu: (z, y, x), HU.
        labels: integer (z, y, x), one id per vertebra; vertebrae may touch.
        grid: of both, with any orientation and spacing; both are resampled to 1 mm LPS if they are on another grid.
        seed: of the motion, the MR and the drawn labels, 0 or more.
        weighting: of the MR, T1 or T2.
        exact_labels: the MR has the moved labels instead of drawn ones.
        motion_mm: RMS of the vertebrae's motion, apart from one rigid motion of all; None draws it.

    Returns:
        The pair, on a 1 mm LPS grid.

    Raises:
        BadInput: if there is no label, or if no motion without folding is found.
    """
    if not labels.any():
        raise BadInput("labels: expected at least one vertebra, found an empty label map")
    ct, seen, vertebrae, grid = _at_one_millimetre(ct_hu.astype(np.float32), labels.astype(np.uint16), grid)
    bodies = find_bodies(vertebrae, grid)
    moved = _move_without_folding(vertebrae, grid, bodies, seed, motion_mm)
    rng, annotator, ids = PortableRng(seed, _MR), PortableRng(seed, _ANNOTATOR), [b.id for b in bodies]
    signal = mr_signal(estimate_tissues(ct, vertebrae, grid, bodies), rng, weighting)
    view = draw_view(moved.labels, ids, annotator)
    mr = acquire_mr(warp_image(signal, moved.displacement_mm, grid), grid, rng, view.thickness_mm)
    if seen is not None:  # where the CT saw nothing, no tissue is known
        mr[warp_image(seen, moved.displacement_mm, grid) < 0.5] = MR_PADDING
        ct = np.where(seen, ct, np.float32(CT_PADDING_HU))
    drawn = moved.labels
    if not exact_labels:
        mr = view.cut(mr)
        drawn = draw_labels(moved.labels, ids, grid, view, annotator)
    core = moved.core(grid) & (drawn == moved.labels)
    annotated = _annotated(moved.labels, vertebrae, grid)
    return SimulatedPair(ct, vertebrae, mr, drawn, moved.displacement_mm, core, annotated, grid)


def _annotated(fixed: np.ndarray, moving: np.ndarray, grid: Grid) -> dict[int, np.ndarray]:
    """Fixed centroids with the rigid part of the motion as their error, so that pre-alignment does not remove it."""
    centroids = centroids_mm(fixed, grid)
    to_moving = pre_align(centroids, centroids_mm(moving, grid))
    return {v: to_moving(point) for v, point in centroids.items()}


def estimate_tissues(ct_hu: np.ndarray, labels: np.ndarray, grid: Grid, bodies: list[Body]) -> TissueMap:
    """Estimate the tissue of every voxel from HU and labels.

    Bone is labelled or dense; its cortex is the densest part. Discs lie between bodies, the dural sac behind them.
    Smoothed HU separate the other tissues: air, lung and fat; all other voxels are muscle. What lies outside the
    patient, such as the CT's table, is air.

    Args:
        ct_hu: float32 (z, y, x), HU.
        labels: integer (z, y, x), VerSe ids.
        grid: of both, isotropic, LPS.
        bodies: of the vertebrae in `labels`, from the top down.

    Returns:
        The map of tissues on `grid`.
    """
    spacing = grid.spacing_mm[0]
    smooth = gaussian_filter(ct_hu, 1.2 / spacing)
    soft = np.full(grid.shape, Tissue.MUSCLE, np.uint8)
    soft[smooth < FAT_HU] = Tissue.FAT
    soft[smooth < LUNG_HU] = Tissue.LUNG
    soft[smooth < AIR_HU] = Tissue.AIR
    outside = outside_patient(smooth, labels, spacing)
    soft[outside] = Tissue.AIR
    bone = (labels > 0) | ((smooth > DENSE_HU) & ~outside)
    _paint_discs(soft, bone, bodies, grid)
    _paint_sac(soft, smooth, labels, bodies, grid)
    # The soft tissue below the surface of bone is fat; the HU of bone would make it muscle.
    soft[bone & (soft == Tissue.MUSCLE)] = Tissue.FAT
    cortex = np.clip((gaussian_filter(ct_hu, 0.7 / spacing) - 350) / 350, 0, 1).astype(np.float32)
    return TissueMap(soft, _signed_distance(bone, spacing), grid, shell_mm=0.6, cortex=cortex)


def _at_one_millimetre(
    ct: np.ndarray, labels: np.ndarray, grid: Grid
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, Grid]:
    """The CT on a 1 mm LPS grid with the voxels that it saw (None: all), the labels on that grid, and the grid."""
    seen = seen_voxels(ct, "ct")
    if grid.spacing_mm == (1.0, 1.0, 1.0) and grid.direction == IDENTITY_DIRECTION:
        return ct if seen is None else fill_unseen(ct, seen), seen, labels, grid
    onto = isotropic_grid(grid)
    return *resample_scan(ct, grid, onto, seen=seen), resample_labels(labels, grid, onto), onto


def _move_without_folding(
    labels: np.ndarray, grid: Grid, bodies: list[Body], seed: int, motion_mm: float | None
) -> MovedSpine:
    """The first motion without folding; each attempt bends less than the one before."""
    rng = PortableRng(seed, _MOTION)
    ids, centres = [b.id for b in bodies], np.stack([b.centre_mm for b in bodies])
    for attempt in range(_ATTEMPTS):
        moved = move_spine(draw_motion(rng, ids, centres, bending=0.85**attempt, residual_mm=motion_mm), labels, grid)
        if moved.overlap <= MAX_OVERLAP and moved.lowest_jacobian(grid) > MIN_JACOBIAN:
            return moved
    raise BadInput(
        f"labels: expected a motion without folding, found none in {_ATTEMPTS} attempts with seed {seed}; "
        "use another seed, or check whether one label lies inside another"
    )


def _paint_discs(soft: np.ndarray, bone: np.ndarray, bodies: list[Body], grid: Grid) -> None:
    """Draw the discs: between two bodies, the sum of the distances to both is about the gap; beside them it is more."""
    spacing = grid.spacing_mm[0]
    for upper, lower in pairwise(bodies):
        masks = [np.zeros(soft.shape, bool) for _ in range(2)]
        for mask, body in zip(masks, (upper, lower), strict=True):
            mask[body.box] = body.mask
        box = box_around(masks[0] | masks[1], 4)
        a, b = (distance_transform_edt(~m[box]) * spacing for m in masks)
        gap = float((a + b).min())
        if gap > 20:
            continue  # the level in between has no label
        disc = (a + b < gap + 3.5) & (a < gap + 2) & (b < gap + 2) & ~bone[box]
        soft[box][disc] = Tissue.ANNULUS
        soft[box][disc & (distance_transform_edt(a + b < gap + 3.5) * spacing > 6)] = Tissue.NUCLEUS


def _paint_sac(soft: np.ndarray, smooth: np.ndarray, labels: np.ndarray, bodies: list[Body], grid: Grid) -> None:
    """Draw the dural sac along the canal, with the cord above L1 and the roots below."""
    centres = np.array([_canal_centre(labels, b, grid) for b in bodies])
    order = np.argsort(centres[:, 2])
    x, y, z = (np.arange(n) * s + o for n, s, o in zip(soft.shape[::-1], grid.spacing_mm, grid.origin_mm, strict=True))
    cx, cy = (_smooth_course(z, centres[order, 2], centres[order, i]) for i in range(2))
    conus = [float(b.centre_mm[2]) for b in bodies if b.id <= CONUS_ID]
    dx, dy = x - cx[:, None, None], y[:, None] - cy[:, None, None]
    free = (labels == 0) & (smooth > FAT_HU) & (smooth < DENSE_HU)
    soft[free & ((dx / 9.0) ** 2 + (dy / 6.5) ** 2 < 1)] = Tissue.CSF
    roots, cord = (dx / 6.5) ** 2 + ((dy - 3) / 2.0) ** 2 < 1, (dx / 5.2) ** 2 + (dy / 4.0) ** 2 < 1
    above = (z > min(conus, default=np.inf))[:, None, None]
    soft[(soft == Tissue.CSF) & np.where(above, cord, roots)] = Tissue.CORD


def _smooth_course(z: np.ndarray, knots: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Smooth interpolation of values at knots, constant beyond the last ones."""
    if len(knots) < 2:
        return np.full(z.shape, values[0])
    return PchipInterpolator(knots, values)(np.clip(z, knots[0], knots[-1]))


def _canal_centre(labels: np.ndarray, body: Body, grid: Grid) -> np.ndarray:
    """LPS (3,): the centre of the hole in axial slices of the label; without a hole, a point 9 mm behind the body."""
    mask = labels[body.box] == body.id
    holes = np.stack([binary_fill_holes(m) & ~m for m in mask])
    if holes.sum() * grid.spacing_mm[0] ** 3 < 300:
        half_depth = np.ptp(np.nonzero(body.mask)[1]) * grid.spacing_mm[1] / 2
        return body.centre_mm + np.array([0, half_depth + 9, 0])
    index = np.mean(np.nonzero(holes), axis=1) + [s.start for s in body.box]
    return grid.to_points_mm(index[::-1])


def _signed_distance(mask: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Distance to the surface of the mask, mm, float32, negative inside."""
    outside, inside = distance_transform_edt(~mask), distance_transform_edt(mask)
    # Voxel centres lie half a voxel off the surface on either side.
    return ((outside - inside + np.where(mask, 0.5, -0.5)) * spacing_mm).astype(np.float32)
