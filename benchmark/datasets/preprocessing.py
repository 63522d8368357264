"""From a patient as stored to a pair on one grid: the paper's preprocessing, a named function for each step.

1. `centroids_mm`, `pre_align`: a rigid transform between the two scans from the centroids of their vertebrae;
2. `isotropic_grid`, `crop_grid`: 1 mm, axis-aligned LPS, in the place of the MR, cropped to the moving labels plus
   20 mm after pre-alignment and grown to sizes divisible by 16;
3. `resample_image`, `resample_labels`, `resample_displacement`: each array once, from where it is stored to that grid,
   the pre-alignment included; images linearly, labels by nearest neighbour;
4. `scale_ct`, `scale_mr`: intensities in [0, 1].

Fixed labels never decide the grid. They serve step 1 where the centroids of the MR are not given: there they stand in
for the expert's centroid annotation of the paper (MICCAI 2022, doi:10.1007/978-3-031-16446-0_22).

However the scans are stored (LPS, RAS, flipped, oblique, anisotropic), the result is the same: exactly so for any order
and sense of the axes, within what resampling costs for the rest. An MR on a 1 mm LPS grid keeps its voxels as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from benchmark.datasets.io.centroids import Centroids
from benchmark.errors import BadInput
from methods.base import IDENTITY_DIRECTION, Case, Grid, Pair, Scan, vertebra_ids
from methods.geometry import from_sitk, to_sitk
from metrics.procrustes import fit_rigid

if TYPE_CHECKING:
    import SimpleITK as sitk

SPACING_MM = 1.0
MARGIN_MM = 20.0
MULTIPLE = 16
LONGEST_SPINE_MM = 1200.0  # a longer box of labels comes from a broken header, and would not fit into memory
CT_WINDOW_HU = (-1000.0, 2000.0)
ANCHOR_MM = 20.0
FILE_NOISE_MM = 1e-3  # what float32 headers leave of a position; less than this decides no size


@dataclass(frozen=True)
class Rigid:
    """p -> rotation p + translation, in LPS millimetres. rotation: (3, 3). translation: (3,)."""

    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Points (..., 3) moved."""
        return points_mm @ self.rotation.T + self.translation

    def inverse(self) -> Rigid:
        return Rigid(self.rotation.T, -self.rotation.T @ self.translation)


STAY = Rigid(np.eye(3), np.zeros(3))


@dataclass(frozen=True)
class Patient:
    """A patient as stored: each modality on its own grid, in its own unit, its labels on the same grid.

    ct, mr: float32 (z, y, x), HU and arbitrary. ct_labels, mr_labels: uint16 (z, y, x); the MR may have none.
    mr_centroids: vertebra -> LPS mm, where they were annotated; else they are taken from mr_labels.
    displacement_mm: the known true displacement, float32 (z, y, x, 3) on mr_grid, MR point p -> CT point p + u(p).
    ct_bodies: the part of ct_labels that is compared with mr_labels, where these are vertebral bodies alone.
    ct_centroids: as mr_centroids, of the CT; they count where both were annotated.
    landmarks_mm: (2, N, 3) LPS, points of the MR and the same points in the CT.
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


def preprocess(patient: Patient) -> Case:
    """The patient as a pair on one grid, with the true displacement, if known, as it is after pre-alignment.

    Raises BadInput, without a file name, for a patient whose two scans cannot be brought together.
    """
    fixed_centroids = _fixed_centroids(patient)
    moving_centroids = _moving_centroids(patient)
    _check_common("the MR", fixed_centroids, moving_centroids)
    if patient.mr_labels is not None:
        _check_common("the MR label map", list(vertebra_ids(patient.mr_labels)), moving_centroids)
    to_ct = pre_align(fixed_centroids, moving_centroids)

    box = to_ct.inverse()(label_ends_mm(patient.ct_labels, patient.ct_grid))
    grid = crop_grid(isotropic_grid(patient.mr_grid), box)

    ct = resample_image(patient.ct, patient.ct_grid, grid, to_ct, outside=CT_WINDOW_HU[0])
    mr = resample_image(scale_mr(patient.mr), patient.mr_grid, grid)
    if mr.min() == mr.max():
        raise BadInput("expected the MR where the CT labels come to lie, found nothing of it there; check mr_centroids")
    fixed_labels, truth, compared = None, None, None
    if patient.mr_labels is not None:
        fixed_labels = resample_labels(patient.mr_labels, patient.mr_grid, grid)
    if patient.displacement_mm is not None:
        truth = resample_displacement(patient.displacement_mm, patient.mr_grid, grid, to_ct)
    if patient.ct_bodies is not None:
        compared = resample_labels(patient.ct_bodies, patient.ct_grid, grid, to_ct)
    moving = Scan(scale_ct(ct), resample_labels(patient.ct_labels, patient.ct_grid, grid, to_ct), grid)
    pair = Pair(patient.name, Scan(np.clip(mr, 0, 1), fixed_labels, grid), moving)
    landmarks = patient.landmarks_mm
    if landmarks is not None:
        landmarks = pre_aligned(landmarks, grid, to_ct.inverse())
    return Case(pair, truth, moving_compared=compared, landmarks_mm=landmarks)


def centroids_mm(labels: np.ndarray, grid: Grid) -> dict[int, np.ndarray]:
    """The centroid of every label: id -> LPS mm (3,), the mean position of its voxel centres."""
    ids = list(vertebra_ids(labels))
    centres = ndimage.center_of_mass(labels > 0, labels, ids)
    return {v: grid.to_points_mm(np.asarray(zyx)[::-1]) for v, zyx in zip(ids, centres, strict=True)}


def label_ends_mm(labels: np.ndarray, grid: Grid) -> np.ndarray:
    """LPS positions (N, 3) of the first and last labelled voxel of each row: the ends of what all of them span."""
    foreground = labels > 0
    z, y = np.nonzero(foreground.any(axis=2))
    rows = foreground[z, y]
    first, last = rows.argmax(axis=1), rows.shape[1] - 1 - rows[:, ::-1].argmax(axis=1)
    return grid.to_points_mm(np.concatenate([np.stack([x, y, z], axis=1) for x in (first, last)]))


def pre_align(fixed: Centroids, moving: Centroids) -> Rigid:
    """The rigid transform from the space of the fixed scan to that of the moving one, from common centroids.

    fixed, moving: vertebra -> LPS mm. A least-squares fit (Kabsch), with one difference from the textbook: the
    centroids of a spine lie almost on a line (5 mm off it in a lumbar spine, hardly more than the 1-3 mm of annotation
    error and the change of posture), so they say next to nothing about the rotation about that line, and two or one
    say nothing at all. Both scans are in patient coordinates, so little of that rotation is expected. Four more points
    are therefore fitted, 20 mm from the mean centroid at right angles to the line, where the smallest rotation that
    takes the fixed line onto the moving one would carry them: as if the sides of one vertebra had been annotated
    without any twist. They leave the tilt of the line alone. With one common vertebra the fit is a translation.
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


def isotropic_grid(grid: Grid, spacing_mm: float = SPACING_MM) -> Grid:
    """The axis-aligned LPS grid of `spacing_mm` that covers `grid`, centred on it.

    It depends on the place of the volume alone, not on the order or sense of its axes; a 1 mm LPS volume gets its own.
    """
    ends = [(-0.5, n - 0.5) for n in reversed(grid.shape)]
    corners = grid.to_points_mm(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))
    low, high = corners.min(axis=0), corners.max(axis=0)
    count = np.maximum(np.ceil((high - low - FILE_NOISE_MM) / spacing_mm), 1)
    origin = np.round((low + high) / 2 - (count - 1) / 2 * spacing_mm, 3)
    return _aligned(count, origin, spacing_mm)


def crop_grid(grid: Grid, points_mm: np.ndarray, margin_mm: float = MARGIN_MM, multiple: int = MULTIPLE) -> Grid:
    """The part of an axis-aligned `grid`, continued beyond its ends where need be, that holds points and a margin.

    points_mm: LPS (N, 3). Every size is the least multiple of `multiple`; what that adds lies on both sides alike.
    Raises BadInput where the points are too far apart to be a spine.
    """
    extent = np.ptp(points_mm, axis=0)
    if not extent.max() <= LONGEST_SPINE_MM:
        raise BadInput(
            f"expected CT labels within {LONGEST_SPINE_MM:g} mm, found them over {extent.max():.4g} mm; "
            "check the spacing"
        )
    spacing = grid.spacing_mm[0]
    index = grid.to_indices_xyz(points_mm)
    low = np.floor(index.min(axis=0) - (margin_mm - FILE_NOISE_MM) / spacing)
    high = np.ceil(index.max(axis=0) + (margin_mm - FILE_NOISE_MM) / spacing)
    needed = high - low + 1
    count = np.ceil(needed / multiple) * multiple
    start = low - (count - needed) // 2
    return _aligned(count, grid.to_points_mm(start), spacing)


def resample_image(image: np.ndarray, grid: Grid, onto: Grid, move: Rigid = STAY, outside: float = 0.0) -> np.ndarray:
    """image(move(p)) at the voxels p of `onto`, linearly: float32. `outside`: the value beyond the image's border."""
    import SimpleITK as sitk

    return from_sitk(_resample(image.astype(np.float32, copy=False), grid, onto, move, sitk.sitkLinear, outside))[0]


def resample_labels(labels: np.ndarray, grid: Grid, onto: Grid, move: Rigid = STAY) -> np.ndarray:
    """labels(move(p)) at the voxels p of `onto`, by nearest neighbour: uint16, ids kept, 0 beyond the border."""
    import SimpleITK as sitk

    return from_sitk(_resample(labels.astype(np.uint16), grid, onto, move, sitk.sitkNearestNeighbor, 0))[0]


def resample_displacement(displacement_mm: np.ndarray, grid: Grid, onto: Grid, to_moving: Rigid) -> np.ndarray:
    """A true displacement as it is on `onto` after pre-alignment: float32 (z, y, x, 3).

    Before, p goes to p + u(p) in the moving scan. Afterwards the moving scan is read at to_moving(q), so p goes to
    the q with to_moving(q) = p + u(p). Beyond `grid` the field continues with its border value.
    """
    import SimpleITK as sitk

    field = _resample(displacement_mm, grid, onto, STAY, sitk.sitkLinear, 0, continued=True)
    points = onto.points_mm()
    return (to_moving.inverse()(points + from_sitk(field)[0]) - points).astype(np.float32)


def pre_aligned(points_mm: np.ndarray, grid: Grid, to_fixed: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Landmarks (2, N, 3) as they are after pre-alignment. grid: of the pair. to_fixed: moves points of the CT.

    Raises BadInput for a point of the MR beyond `grid`, where no displacement is known.
    """
    index = grid.to_indices_xyz(points_mm[0])
    outside = np.any((index < 0) | (index > np.array(grid.shape[::-1]) - 1), axis=1)
    if outside.any():
        place = ", ".join(f"{v:.1f}" for v in points_mm[0][outside][0])
        raise BadInput(
            "expected landmarks of the MR near to where the CT labels come to lie (20 mm), found "
            f"{int(outside.sum())} of {outside.size} farther away, the first at ({place}) mm; remove them"
        )
    return np.stack([points_mm[0], to_fixed(points_mm[1])])


def scale_ct(hu: np.ndarray) -> np.ndarray:
    """CT in HU clipped to [-1000, 2000], then to [0, 1]: float32."""
    low, high = CT_WINDOW_HU
    return ((np.clip(hu, low, high) - low) / (high - low)).astype(np.float32)


def scale_mr(image: np.ndarray) -> np.ndarray:
    """MR from its least and greatest value, over the whole scan as stored, to [0, 1]: float32."""
    low, high = float(image.min()), float(image.max())
    return ((image - low) / (high - low)).astype(np.float32)


def _fixed_centroids(patient: Patient) -> Centroids:
    if patient.mr_centroids is not None:
        return patient.mr_centroids
    if patient.mr_labels is None:
        raise BadInput("expected MR labels or MR centroids to pre-align by, found neither; add one of them")
    return centroids_mm(patient.mr_labels, patient.mr_grid)


def _moving_centroids(patient: Patient) -> Centroids:
    """Those that mean the same as the fixed ones: annotated as they are, or of labels that show as much."""
    annotated = patient.mr_centroids is not None
    if annotated and patient.ct_centroids is not None:
        return patient.ct_centroids
    shown = patient.ct_labels if annotated or patient.ct_bodies is None else patient.ct_bodies
    return centroids_mm(shown, patient.ct_grid)


def _check_common(what: str, fixed: Centroids | list[int], moving: Centroids) -> None:
    if not set(fixed) & set(moving):
        ours, theirs = (", ".join(map(str, sorted(ids))) for ids in (moving, fixed))
        raise BadInput(
            f"expected a vertebra that is labelled in both scans, found {ours} in the CT label map and {theirs} in "
            f"{what}; give both the same (VerSe) ids"
        )


def _lines(source: np.ndarray, target: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors along two matched sets of points (N, 3), in the same sense; both along z for a single point."""
    if len(source) == 1:
        return np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.0, 1.0])
    a, b = source - source.mean(axis=0), target - target.mean(axis=0)
    along_a, along_b = (np.linalg.svd(points)[2][0] for points in (a, b))
    return along_a, along_b if (a @ along_a) @ (b @ along_b) >= 0 else -along_b


def _aligned(count_xyz: np.ndarray, origin: np.ndarray, spacing_mm: float) -> Grid:
    x, y, z = (int(n) for n in count_xyz)
    left, back, up = (float(v) for v in origin)
    return Grid((z, y, x), (spacing_mm, spacing_mm, spacing_mm), (left, back, up), IDENTITY_DIRECTION)


def _resample(
    array: np.ndarray, grid: Grid, onto: Grid, move: Rigid, interpolator: int, outside: float, continued: bool = False
) -> sitk.Image:
    import SimpleITK as sitk

    transform = sitk.AffineTransform(move.rotation.ravel().tolist(), move.translation.tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(onto.shape[::-1])
    resampler.SetOutputSpacing(onto.spacing_mm)
    resampler.SetOutputOrigin(onto.origin_mm)
    resampler.SetOutputDirection(onto.direction)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetUseNearestNeighborExtrapolator(continued)
    # In one order of axes first, so that ties and rounding do not depend on how the file was stored.
    return resampler.Execute(sitk.DICOMOrient(to_sitk(array, grid), "LPS"))
