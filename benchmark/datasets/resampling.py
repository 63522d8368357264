"""Grids in LPS, and resampling of images and displacements onto them. Labels: `label_resampling`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy.ndimage import distance_transform_edt

from benchmark.errors import BadInput
from methods.base import IDENTITY_DIRECTION, Grid
from methods.geometry import from_sitk, to_sitk

if TYPE_CHECKING:
    import SimpleITK as sitk

SPACING_MM = 1.0
MARGIN_MM = 20.0
MULTIPLE = 16
LONGEST_SPINE_MM = 1200.0  # a longer box of labels comes from a damaged header, and would not fit into memory
ROUNDING_MM = 1e-3  # of positions in float32 headers; smaller differences do not change the size of a grid


@dataclass(frozen=True)
class Rigid:
    """The rigid transform p -> rotation @ p + translation in LPS mm. rotation: (3, 3). translation: (3,)."""

    rotation: np.ndarray
    translation: np.ndarray

    def __call__(self, points_mm: np.ndarray) -> np.ndarray:
        """Transform points (..., 3)."""
        return points_mm @ self.rotation.T + self.translation

    def inverse(self) -> Rigid:
        """Compute the inverse transform."""
        return Rigid(self.rotation.T, -self.rotation.T @ self.translation)


IDENTITY = Rigid(np.eye(3), np.zeros(3))


def isotropic_grid(grid: Grid, spacing_mm: float = SPACING_MM) -> Grid:
    """Compute the isotropic axis-aligned LPS grid that covers a volume, with the same centre.

    It depends on the position of the volume, not on the order or direction of its axes. The grid of a 1 mm LPS volume
    is returned as it is.

    Args:
        grid: of the volume.
        spacing_mm: of the result.
    """
    ends = [(-0.5, n - 0.5) for n in reversed(grid.shape)]
    corners = grid.to_points_mm(np.stack(np.meshgrid(*ends, indexing="ij"), axis=-1).reshape(8, 3))
    low, high = corners.min(axis=0), corners.max(axis=0)
    count = np.maximum(np.ceil((high - low - ROUNDING_MM) / spacing_mm), 1)
    origin = np.round((low + high) / 2 - (count - 1) / 2 * spacing_mm, 3)
    return _aligned(count, origin, spacing_mm)


def crop_grid(grid: Grid, points_mm: np.ndarray, margin_mm: float = MARGIN_MM, multiple: int = MULTIPLE) -> Grid:
    """Crop or extend an axis-aligned grid to the box around points, with a margin.

    Args:
        grid: isotropic, with identity direction.
        points_mm: of the labels, LPS (N, 3).
        margin_mm: on each side.
        multiple: of every size; the voxels that this adds are distributed evenly to both sides.

    Returns:
        A grid with the voxel positions of `grid`.

    Raises:
        BadInput: if the points extend over more than 1200 mm.
    """
    extent = np.ptp(points_mm, axis=0)
    if not extent.max() <= LONGEST_SPINE_MM:
        raise BadInput(
            f"expected moving labels within {LONGEST_SPINE_MM:g} mm, found them over {extent.max():.4g} mm; "
            "check the spacing"
        )
    spacing = grid.spacing_mm[0]
    index = grid.to_indices_xyz(points_mm)
    low = np.floor(index.min(axis=0) - (margin_mm - ROUNDING_MM) / spacing)
    high = np.ceil(index.max(axis=0) + (margin_mm - ROUNDING_MM) / spacing)
    needed = high - low + 1
    count = np.ceil(needed / multiple) * multiple
    start = low - (count - needed) // 2
    return _aligned(count, grid.to_points_mm(start), spacing)


def resample_image(
    image: np.ndarray, grid: Grid, onto: Grid, to_source: Rigid = IDENTITY, outside: float = 0.0
) -> np.ndarray:
    """Resample an image linearly: the voxel at p gets image(to_source(p)).

    Args:
        image: (z, y, x).
        grid: of the image.
        onto: grid of the result.
        to_source: from points of the result to points of the image.
        outside: value outside the image.

    Returns:
        float32 (z, y, x).
    """
    import SimpleITK as sitk

    return from_sitk(_resample(image.astype(np.float32, copy=False), grid, onto, to_source, sitk.sitkLinear, outside))[
        0
    ]


def resample_scan(
    image: np.ndarray, grid: Grid, onto: Grid, to_source: Rigid = IDENTITY, seen: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Resample a scan linearly, and tell which voxels of the result it saw.

    A voxel is seen where the nearest voxel of `image` exists and is seen. Its value is interpolated from seen voxels
    alone; elsewhere it is the nearest seen value.

    Args:
        image: (z, y, x).
        grid: of the image.
        onto: grid of the result.
        to_source: from points of the result to points of the image.
        seen: bool (z, y, x), False for padding; None: every voxel of the image.

    Returns:
        float32 (z, y, x), and bool (z, y, x), or None where every voxel is seen. If none is, the values are 0.
    """
    import SimpleITK as sitk

    def on(array: np.ndarray, interpolator: int, extrapolate: bool) -> np.ndarray:
        return from_sitk(_resample(array, grid, onto, to_source, interpolator, 0, extrapolate))[0]

    image = image.astype(np.float32, copy=False)
    every = np.ones(grid.shape, np.uint8) if seen is None else seen.astype(np.uint8)
    inside = on(every, sitk.sitkNearestNeighbor, False) > 0
    if seen is None:
        # The nearest voxel of the image is the nearest seen one.
        return on(image, sitk.sitkLinear, True), None if inside.all() else inside
    weights = on(every.astype(np.float32), sitk.sitkLinear, True)
    values = on(np.where(seen, image, np.float32(0)), sitk.sitkLinear, True)
    filled = fill_unseen(np.divide(values, weights, out=np.zeros_like(values), where=inside & (weights > 0)), inside)
    return filled, None if inside.all() else inside


def fill_unseen(image: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Give each unseen voxel the value of the nearest seen one.

    Args:
        image: (z, y, x), isotropic.
        inside: bool (z, y, x), the seen voxels.

    Returns:
        A new array, or `image` where all or no voxels are seen.
    """
    if inside.all() or not inside.any():
        return image
    nearest = distance_transform_edt(~inside, return_distances=False, return_indices=True)
    return image[tuple(nearest)]


def resample_displacement(displacement_mm: np.ndarray, grid: Grid, onto: Grid, to_moving: Rigid) -> np.ndarray:
    """Compute a true displacement after pre-alignment, on another grid.

    Before pre-alignment, p corresponds to the moving point p + u(p). After it, the moving scan is read at to_moving(q),
    so p corresponds to the q with to_moving(q) = p + u(p). Outside `grid` the field has the value of its border.

    Args:
        displacement_mm: u, float32 (z, y, x, 3), LPS mm.
        grid: of u.
        onto: grid of the result.
        to_moving: the pre-alignment, from points of `onto` to points of the moving scan.

    Returns:
        q - p, float32 (z, y, x, 3), LPS mm.
    """
    points, field = onto.points_mm(), continue_displacement(displacement_mm, grid, onto)
    return (to_moving.inverse()(points + field) - points).astype(np.float32)


def continue_displacement(displacement_mm: np.ndarray, grid: Grid, onto: Grid) -> np.ndarray:
    """Interpolate a displacement on another grid; outside of `grid` it has the value of the nearest border voxel.

    Args:
        displacement_mm: float32 (z, y, x, 3), LPS mm.
        grid: of the displacement.
        onto: grid of the result.

    Returns:
        float32 (z, y, x, 3), LPS mm.
    """
    import SimpleITK as sitk

    return from_sitk(_resample(displacement_mm, grid, onto, IDENTITY, sitk.sitkLinear, 0, extrapolate=True))[0]


def _aligned(count_xyz: np.ndarray, origin: np.ndarray, spacing_mm: float) -> Grid:
    """The isotropic grid with identity direction. count_xyz: voxels along x, y, z."""
    x, y, z = (int(n) for n in count_xyz)
    left, back, up = (float(v) for v in origin)
    return Grid((z, y, x), (spacing_mm, spacing_mm, spacing_mm), (left, back, up), IDENTITY_DIRECTION)


def _resample(
    array: np.ndarray,
    grid: Grid,
    onto: Grid,
    to_source: Rigid,
    interpolator: int,
    outside: float,
    extrapolate: bool = False,
) -> sitk.Image:
    """The array on `onto`, by SimpleITK. extrapolate: continue with the border's value instead of `outside`."""
    import SimpleITK as sitk

    transform = sitk.AffineTransform(to_source.rotation.ravel().tolist(), to_source.translation.tolist())
    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(onto.shape[::-1])
    resampler.SetOutputSpacing(onto.spacing_mm)
    resampler.SetOutputOrigin(onto.origin_mm)
    resampler.SetOutputDirection(onto.direction)
    resampler.SetTransform(transform)
    resampler.SetInterpolator(interpolator)
    resampler.SetDefaultPixelValue(outside)
    resampler.SetUseNearestNeighborExtrapolator(extrapolate)
    # All arrays are reoriented first, so that ties and rounding do not depend on the order of axes in the file.
    return resampler.Execute(sitk.DICOMOrient(to_sitk(array, grid), "LPS"))
