"""Conversions between millimetres and voxels agree with hand-computed values and with SimpleITK."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from methods.base import Grid
from methods.geometry import from_sitk, grid_of, spacing_zyx, to_millimetres, to_sitk, to_voxels
from metrics.fields import warp

# Index x runs along +y of the patient, index y along -x, index z along +z.
QUARTER_TURN = (0.0, -1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0)
OBLIQUE = tuple(Rotation.from_euler("xyz", [20, -15, 35], degrees=True).as_matrix().ravel())


def oblique_grid(shape: tuple[int, int, int] = (9, 11, 13)) -> Grid:
    return Grid(shape, (0.7, 1.1, 2.5), (-31.0, 12.5, 140.0), OBLIQUE)


def smooth_displacement(grid: Grid, seed: int, size_mm: float = 2.0) -> np.ndarray:
    """A random displacement, float32 (z, y, x, 3), that changes slowly enough to be interpolated."""
    rng = np.random.default_rng(seed)
    low = torch.from_numpy(rng.normal(0, size_mm, (1, 3, 3, 3, 3)).astype(np.float32))
    u = torch.nn.functional.interpolate(low, size=grid.shape, mode="trilinear", align_corners=True)
    return np.ascontiguousarray(u[0].numpy().transpose(1, 2, 3, 0))


def test_millimetres_to_voxels_by_hand() -> None:
    grid = Grid((3, 4, 5), (2.0, 3.0, 4.0), (10.0, 20.0, 30.0), QUARTER_TURN)
    u = np.zeros((3, 4, 5, 3), np.float32)
    u[1, 2, 3] = (6.0, -4.0, 8.0)  # 6 mm along +x is -2 voxels of 3 mm in y; -4 mm along +y is -2 voxels of 2 mm in x
    voxels = to_voxels(u, grid)
    assert voxels.shape == (1, 3, 3, 4, 5) and voxels.dtype == torch.float32
    np.testing.assert_allclose(voxels[0, :, 1, 2, 3], [2.0, -2.0, -2.0], atol=1e-6)
    assert float(voxels.abs().sum()) == pytest.approx(6.0)


@pytest.mark.parametrize("shape", [(1, 1, 1, 3), (5, 6, 3), (1, 5, 6, 3), (4, 5, 6, 4)])
def test_a_displacement_on_another_grid_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="displacement_mm"):
        to_voxels(np.zeros(shape, np.float32), Grid((4, 5, 6)))


def test_spacing_is_reversed_for_metrics() -> None:
    assert spacing_zyx(Grid((3, 4, 5), (2.0, 3.0, 4.0))) == (4.0, 3.0, 2.0)


@settings(max_examples=25, deadline=None)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.2, 6.0)] * 3),
    seed=st.integers(0, 2**16),
)
def test_round_trip_on_any_grid(angles: tuple[float, ...], spacing: tuple[float, float, float], seed: int) -> None:
    direction = tuple(Rotation.from_euler("xyz", angles, degrees=True).as_matrix().ravel())
    grid = Grid((3, 4, 5), spacing, (1.0, -2.0, 3.0), direction)
    u = np.random.default_rng(seed).normal(0, 10, (3, 4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(to_millimetres(to_voxels(u, grid), grid), u, atol=1e-4)


def test_voxels_agree_with_the_physical_points_of_simpleitk() -> None:
    """ITK's index of a displaced point is the voxel's index plus its displacement in voxels."""
    grid = oblique_grid()
    u = smooth_displacement(grid, seed=1)
    image = to_sitk(np.zeros(grid.shape, np.float32), grid)
    voxels = to_voxels(u, grid)[0]
    for z, y, x in [(0, 0, 0), (4, 5, 6), (8, 10, 12), (2, 9, 1)]:
        point = np.asarray(image.TransformIndexToPhysicalPoint((x, y, z))) + u[z, y, x]
        index_zyx = image.TransformPhysicalPointToContinuousIndex(point.tolist())[::-1]
        np.testing.assert_allclose(np.array([z, y, x]) + voxels[:, z, y, x].numpy(), index_zyx, atol=1e-4)


def test_simpleitk_warps_as_metrics_does() -> None:
    """ITK's displacement field transform in millimetres and `metrics.fields.warp` in voxels give the same image."""
    grid = oblique_grid((20, 24, 28))
    image = smooth_displacement(grid, seed=2)[..., 0]
    u = smooth_displacement(grid, seed=3, size_mm=1.5)
    transform = sitk.DisplacementFieldTransform(sitk.Cast(to_sitk(u, grid), sitk.sitkVectorFloat64))
    sitk_image = to_sitk(image, grid)
    expected = sitk.GetArrayFromImage(sitk.Resample(sitk_image, sitk_image, transform, sitk.sitkLinear, 0.0))
    warped = warp(torch.from_numpy(image)[None, None], to_voxels(u, grid))[0, 0].numpy()
    inner = (slice(4, -4), slice(5, -5), slice(6, -6))
    assert np.abs(expected[inner] - image[inner]).max() > 0.1
    np.testing.assert_allclose(warped[inner], expected[inner], atol=1e-3)


@pytest.mark.parametrize("dtype", [np.float32, np.uint16, np.int16, np.uint8])
def test_array_and_grid_are_unchanged_by_a_round_trip_through_simpleitk(dtype: type) -> None:
    grid = oblique_grid()
    array = np.random.default_rng(0).integers(0, 200, grid.shape).astype(dtype)
    array_back, grid_back = from_sitk(to_sitk(array, grid))
    assert array_back.dtype == dtype and np.array_equal(array_back, array)
    assert grid_back == grid == grid_of(to_sitk(array, grid))


def test_displacement_becomes_a_vector_image() -> None:
    grid = oblique_grid()
    u = smooth_displacement(grid, seed=4)
    image = to_sitk(u, grid)
    assert image.GetDimension() == 3 and image.GetNumberOfComponentsPerPixel() == 3
    np.testing.assert_array_equal(image[5, 4, 3], u[3, 4, 5])
    np.testing.assert_array_equal(from_sitk(image)[0], u)
