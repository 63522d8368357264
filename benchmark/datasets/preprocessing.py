"""The paper's preprocessing: from a patient as stored to a pair on one grid, with one function per step.

1. `centroids_mm`, `pre_align`: a rigid transform between the two scans, from the centroids of their vertebrae;
2. `isotropic_grid`, `crop_grid`: a 1 mm axis-aligned LPS grid at the position of the MR, cropped to the moving labels
   plus 20 mm after pre-alignment, with sizes divisible by 16;
3. `resample_scaled`, `resample_labels`, `resample_displacement`: each array is resampled once, from its stored grid to
   that grid, including the pre-alignment; images linearly, labels as the largest of their linear one-hot maps. Where a
   scan did not see a voxel of that grid, `inside` is False and the image has the nearest seen value;
4. `intensities`: the resampled images are in [0, 1], scaled by their seen voxels.

The grid does not depend on the fixed labels. They serve step 1 only if the centroids of the MR are not given; they
then replace the expert's centroid annotation of the paper (MICCAI 2022, doi:10.1007/978-3-031-16446-0_22).

The result does not depend on how the scans are stored (LPS, RAS, flipped, oblique, anisotropic): it is exactly the same
for any order and direction of the axes, and the same within the resampling error otherwise. The voxels of an MR on a
1 mm LPS grid do not change.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmark.datasets.field_of_view import seen_voxels
from benchmark.datasets.intensities import scale_ct, scale_mr
from benchmark.datasets.io.centroids import Centroids
from benchmark.datasets.label_resampling import resample_labels
from benchmark.datasets.resampling import (
    IDENTITY,
    Rigid,
    crop_grid,
    isotropic_grid,
    resample_displacement,
    resample_scan,
)
from benchmark.errors import BadInput
from methods.base import Case, Grid, Pair, Scan, vertebra_ids
from metrics.procrustes import fit_rigid

Modality = Literal["ct", "mr", "cbct"]
ANCHOR_MM = 20.0
OUTSIDE = "its fixed label lies outside the methods' grid, over 20 mm from the pre-aligned moving labels"


@dataclass(frozen=True)
class Patient:
    """A patient as stored: each scan on its own grid, in its own unit, with labels on the same grid.

    ct, mr: float32 (z, y, x), HU and any unit. ct_labels, mr_labels: uint16 (z, y, x); the MR may have none.
    mr_centroids: annotated centroids, vertebra -> LPS mm (3,); without them, those of mr_labels are used.
    displacement_mm: the known true displacement, float32 (z, y, x, 3) on mr_grid, MR point p -> CT point p + u(p).
    ct_bodies: the part of ct_labels that is compared with mr_labels, if these are vertebral bodies alone.
    ct_centroids: as mr_centroids, of the CT; they are used only together with mr_centroids.
    landmarks_mm: (2, N, 3) LPS, points of the MR and the same points in the CT.
    fixed_modality, moving_modality: ct, mr or cbct; they decide how `mr` and `ct` are scaled.
    notes: doubts about the files, one sentence each. cut: vertebrae that the border of either scan cuts.
    """

    name: str
    ct: np.ndarray
    ct_labels: np.ndarray
    ct_grid: Grid
    mr: np.ndarray
    mr_labels: np.ndarray | None
    mr_grid: Grid
    mr_centroids: Centroids | None = None
    displacement_mm: np.ndarray | None = None
    ct_bodies: np.ndarray | None = None
    ct_centroids: Centroids | None = None
    landmarks_mm: np.ndarray | None = None
    notes: tuple[str, ...] = ()
    cut: frozenset[int] = frozenset()
    fixed_modality: Modality = "mr"
    moving_modality: Modality = "ct"


def preprocess(patient: Patient) -> Case:
    """Make a pair on one grid, with the true displacement, if known, after pre-alignment.

    Raises:
        BadInput: if the two scans cannot be aligned; the message has no file name.
    """
    to_ct = alignment(patient)
    box = to_ct.inverse()(label_ends_mm(patient.ct_labels, patient.ct_grid))
    grid = crop_grid(isotropic_grid(patient.mr_grid), box)

    ct, ct_inside = resample_scaled(patient.ct, patient.ct_grid, grid, patient.moving_modality, to_ct)
    mr, mr_inside = resample_scaled(patient.mr, patient.mr_grid, grid, patient.fixed_modality)
    if mr.min() == mr.max():
        raise BadInput(
            "expected the fixed scan at the position of the pre-aligned moving labels, found none there; check "
            "mr_centroids"
        )
    fixed_labels, truth, compared = None, None, None
    outside: dict[int, str] = {}
    if patient.mr_labels is not None:
        fixed_labels = resample_labels(patient.mr_labels, patient.mr_grid, grid)
        beyond = set(vertebra_ids(patient.mr_labels)) - set(vertebra_ids(fixed_labels))
        outside = dict.fromkeys(beyond, OUTSIDE)
    if patient.displacement_mm is not None:
        truth = resample_displacement(patient.displacement_mm, patient.mr_grid, grid, to_ct)
    if patient.ct_bodies is not None:
        compared = resample_labels(patient.ct_bodies, patient.ct_grid, grid, to_ct)
    moving_labels = resample_labels(patient.ct_labels, patient.ct_grid, grid, to_ct)
    pair = Pair(
        patient.name,
        Scan(mr, fixed_labels, grid, mr_inside, patient.fixed_modality),
        Scan(ct, moving_labels, grid, ct_inside, patient.moving_modality),
    )
    landmarks = patient.landmarks_mm
    if landmarks is not None:
        landmarks = pre_aligned(landmarks, grid, to_ct.inverse())
    return Case(pair, truth, excluded=outside, moving_compared=compared, landmarks_mm=landmarks, notes=patient.notes,
                cut=patient.cut)  # fmt: skip


def resample_scaled(
    image: np.ndarray, grid: Grid, onto: Grid, modality: Modality, to_source: Rigid = IDENTITY
) -> tuple[np.ndarray, np.ndarray | None]:
    """Resample a scan and scale it as its modality demands.

    Args:
        image: (z, y, x), HU for ct and cbct, any unit for mr.
        grid: of the image.
        onto: grid of the result.
        modality: ct, cbct or mr.
        to_source: from points of the result to points of the image.

    Returns:
        float32 (z, y, x) in [0, 1], and bool (z, y, x), the voxels of the result that the scan saw, or None for all of
        them. The image is 0 everywhere if an MR saw nothing of `onto`.

    Raises:
        BadInput: if a CT saw nothing of `onto`.
    """
    seen = seen_voxels(image, modality)
    if modality != "mr":
        resampled, inside = resample_scan(image, grid, onto, to_source, seen)
        if inside is not None and not inside.any():
            raise BadInput("expected the CT at the position of its labels, found padding there; check the CT's values")
        return scale_ct(resampled), inside
    resampled, inside = resample_scan(scale_mr(image, seen), grid, onto, to_source, seen)
    if inside is not None and not inside.any():
        return np.zeros_like(resampled), None
    return np.clip(resampled, 0, 1), inside


def alignment(patient: Patient) -> Rigid:
    """Compute the pre-alignment of a patient, from MR points to CT points.

    Raises:
        BadInput: if the two scans have no common vertebra; the message has no file name.
    """
    fixed_centroids = _fixed_centroids(patient)
    moving_centroids = _moving_centroids(patient)
    _check_common("the fixed scan", fixed_centroids, moving_centroids)
    if patient.mr_labels is not None:
        _check_common("the fixed label map", list(vertebra_ids(patient.mr_labels)), moving_centroids)
    return pre_align(fixed_centroids, moving_centroids)


def without_alignment(patient: Patient) -> Patient:
    """The patient with the centroids of the CT for both scans, so that pre-alignment is the identity."""
    return replace(patient, mr_centroids=centroids_mm(patient.ct_labels, patient.ct_grid), ct_centroids=None)


def centroids_mm(labels: np.ndarray, grid: Grid) -> dict[int, np.ndarray]:
    """Compute the centroid of every label, the mean position of its voxel centres.

    Args:
        labels: integer (z, y, x).
        grid: of the labels.

    Returns:
        id -> LPS mm, float64 (3,).
    """
    ids = list(vertebra_ids(labels))
    centres = ndimage.center_of_mass(labels > 0, labels, ids)
    return {v: grid.to_points_mm(np.asarray(zyx)[::-1]) for v, zyx in zip(ids, centres, strict=True)}


def label_ends_mm(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """Compute the positions of the first and last labelled voxel of each row; their box is that of all labels.

    Args:
        labels: integer (z, y, x).
        grid: of the labels.

    Returns:
        LPS mm, float64 (N, 3).
    """
    foreground = labels > 0
    z, y = np.nonzero(foreground.any(axis=2))
    rows = foreground[z, y]
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return grid.to_points_mm(np.concatenate([np.stack([x, y, z], axis=1) for x in (first, last)]))


def pre_align(fixed: Centroids, moving: Centroids) -> Rigid:
    """Fit the rigid transform from fixed to moving points to common centroids.

    It is a least-squares fit (Kabsch) with four additional points. The centroids of a spine lie almost on a line (5 mm
    off it in a lumbar spine, hardly more than the annotation error of 1 to 3 mm and the change of posture), so they
    determine the rotation about that line poorly; two or one do not determine it at all. Both scans are in patient
    coordinates, so this rotation is expected to be small. The additional points lie 20 mm from the mean centroid at
    right angles to the line, and go where the smallest rotation that takes the fixed line to the moving one carries
    them, as if the sides of one vertebra had been annotated without any twist. They do not change the tilt of the line.
    With one common vertebra the fit is a translation.

    Args:
        fixed, moving: vertebra -> LPS mm (3,), with at least one common vertebra.

    Returns:
        Transform from fixed to moving points.
    """
    common = sorted(set(fixed) & set(moving))
    source, target = (np.array([points[v] for v in common], dtype=float) for points in (fixed, moving))
    line, moving_line = _lines(source, target)
    tilt, _ = Rotation.align_vectors(moving_line[None], line[None])
    across = np.linalg.svd(line[None])[2][1:]
    offsets = ANCHOR_MM * np.concatenate([across, -across])
    rotation, translation = fit_rigid(
        torch.from_numpy(np.concatenate([source, source.mean(axis=0) + offsets])),
        torch.from_numpy(np.concatenate([target, target.mean(axis=0) + tilt.apply(offsets)])),
    )
    return Rigid(rotation.numpy(), translation.numpy())


def pre_aligned(points_mm: np.ndarray, grid: Grid, to_fixed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Compute landmarks after pre-alignment.

    Args:
        points_mm: (2, N, 3), LPS, points of the MR and of the CT.
        grid: of the pair.
        to_fixed: pre-alignment of CT points.

    Returns:
        float64 (2, N, 3), LPS mm.

    Raises:
        BadInput: if a point of the MR lies outside `grid`, where no displacement is known.
    """
    index = grid.to_indices_xyz(points_mm[0])
    outside = np.any((index < 0) | (index > np.array(grid.shape[::-1]) - 1), axis=1)
    if outside.any():
        position = ", ".join(f"{v:.1f}" for v in points_mm[0][outside][0])
        raise BadInput(
            "expected fixed landmarks within 20 mm of the pre-aligned moving labels, found "
            f"{int(outside.sum())} of {outside.size} farther away, the first at ({position}) mm; remove them"
        )
    return np.stack([points_mm[0], to_fixed(points_mm[1])])


def _fixed_centroids(patient: Patient) -> Centroids:
    """The annotated centroids of the MR, or those of its labels."""
    if patient.mr_centroids is not None:
        return patient.mr_centroids
    if patient.mr_labels is None:
        raise BadInput("expected labels or centroids of the fixed scan to pre-align by, found neither; add one of them")
    return centroids_mm(patient.mr_labels, patient.mr_grid)


def _moving_centroids(patient: Patient) -> Centroids:
    """The centroids of the CT of the same kind as the fixed ones: annotated, of bodies, or of whole vertebrae."""
    annotated = patient.mr_centroids is not None
    if annotated and patient.ct_centroids is not None:
        return patient.ct_centroids
    labels = patient.ct_labels if annotated or patient.ct_bodies is None else patient.ct_bodies
    return centroids_mm(labels, patient.ct_grid)


def _check_common(source: str, fixed: Centroids | list[int], moving: Centroids) -> None:
    """Refuse two scans without a common vertebra. source: of the fixed ids, for the error."""
    if not set(fixed) & set(moving):
        moving_ids, fixed_ids = (", ".join(map(str, sorted(ids))) for ids in (moving, fixed))
        raise BadInput(
            f"expected a vertebra that is labelled in both scans, found {moving_ids} in the moving label map and "
            f"{fixed_ids} in {source}; give both the same (VerSe) ids"
        )


def _lines(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along two matched sets of points (N, 3), in the same direction; both along z for a single point."""
    if len(source) == 1:
        return np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    along_a, along_b = (np.linalg.svd(points)[2][0] for points in (a, b))
    return along_a, along_b if (a @ along_a) @ (b @ along_b) >= 0 else -along_b
