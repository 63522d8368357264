"""metrics/fields.py: motions with a closed form, comparisons with SimpleITK, MONAI and scipy, gradients."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from monai.networks.blocks import DVF2DDF, Warp
from scipy.ndimage import map_coordinates
from scipy.spatial.transform import Rotation
from support.hand_built import ANISOTROPIC, UNIT, affine_field, bent_field, rotation

from methods.base import Grid
from methods.geometry import to_millimetres, to_sitk
from metrics.fields import (
    compose,
    identity_grid,
    integrate,
    invert,
    jacobian,
    jacobian_determinant,
    lands_inside,
    warp,
)

SHAPE = (9, 12, 15)


def inner(field: torch.Tensor, margin: int) -> torch.Tensor:
    return field[..., margin:-margin, margin:-margin, margin:-margin]


def test_identity_grid_counts_voxels_in_axis_order() -> None:
    grid = identity_grid((2, 3, 4), dtype=torch.float64)
    assert grid.shape == (1, 3, 2, 3, 4) and grid.dtype == torch.float64
    assert grid[0, :, 1, 2, 3].tolist() == [1, 2, 3]


def test_warp_pulls_from_where_the_field_points() -> None:
    """u = +1 along x: the value at x comes from x + 1; beyond the last voxel is zero, or the border."""
    image = torch.arange(4.0).expand(1, 1, 3, 3, 4)
    u = torch.zeros(1, 3, 3, 3, 4)
    u[:, 2] = 1
    assert warp(image, u)[0, 0, 1, 1].tolist() == [1, 2, 3, 0]
    assert warp(image, u, padding="border")[0, 0, 1, 1].tolist() == [1, 2, 3, 3]
    assert warp(image, 0.4 * u)[0, 0, 1, 1].tolist() == pytest.approx([0.4, 1.4, 2.4, 3 * 0.6])
    assert warp(image, 0.4 * u, mode="nearest")[0, 0, 1, 1].tolist() == [0, 1, 2, 3]


def test_warp_against_scipy_and_monai() -> None:
    image, u = torch.rand(2, 2, *SHAPE), bent_field(SHAPE)
    points = (identity_grid(SHAPE) + u)[0].numpy()
    expected = map_coordinates(image[1, 1].numpy(), points, order=1, mode="grid-constant")
    np.testing.assert_allclose(warp(image, u)[1, 1], expected, atol=1e-5)
    border = map_coordinates(image[1, 1].numpy(), points, order=1, mode="nearest")
    np.testing.assert_allclose(warp(image, u, padding="border")[1, 1], border, atol=1e-5)
    monai = Warp(mode="bilinear", padding_mode="border")(image, u.expand(2, -1, -1, -1, -1))
    torch.testing.assert_close(warp(image, u, padding="border"), monai, atol=1e-5, rtol=0)


def test_warp_against_simpleitk_on_an_oblique_anisotropic_grid() -> None:
    direction = Rotation.from_rotvec([20, 30, -40], degrees=True).as_matrix()
    grid = Grid(SHAPE, (0.8, 1.0, 2.5), (4.0, -3.0, 9.0), tuple(direction.ravel()))
    image, u = torch.rand(1, 1, *SHAPE), bent_field(SHAPE)
    field = sitk.Cast(to_sitk(to_millimetres(u, grid), grid), sitk.sitkVectorFloat64)
    moving = to_sitk(image[0, 0].numpy(), grid)
    reference = sitk.Resample(moving, moving, sitk.DisplacementFieldTransform(field), sitk.sitkLinear, 0.0)
    np.testing.assert_allclose(
        inner(warp(image, u)[0, 0], 2), inner(torch.from_numpy(sitk.GetArrayFromImage(reference)), 2), atol=1e-4
    )


def test_warp_of_a_volume_that_is_one_voxel_thick() -> None:
    """Beyond the only slice is zero, half-way to it is half, as along any other axis."""
    image = torch.ones(1, 1, 1, 4, 5)
    for shift, expected in ((0.0, 1.0), (0.5, 0.5), (1.0, 0.0), (-2.0, 0.0)):
        u = torch.zeros(1, 3, 1, 4, 5)
        u[:, 0] = shift
        assert warp(image, u)[0, 0, 0, 2, 2].item() == pytest.approx(expected)


def test_warp_gradient() -> None:
    image = torch.rand(1, 2, 3, 4, 3, dtype=torch.float64, requires_grad=True)
    u = (bent_field((3, 4, 3), 0.3, torch.float64) + 0.05).requires_grad_()
    assert torch.autograd.gradcheck(warp, (image, u))


@pytest.mark.parametrize("threads", [2, 3, 7, 64])
@pytest.mark.parametrize("padding", ["zeros", "border"])
def test_warp_is_the_same_on_any_number_of_threads(threads: int, padding: str) -> None:
    image, u = torch.rand(1, 2, 7, 6, 5), 3 * torch.randn(1, 3, 12, 5, 4)
    before = torch.get_num_threads()
    found = []
    try:
        for count in (1, threads):
            torch.set_num_threads(count)
            leaves = [image.clone().requires_grad_(), u.clone().requires_grad_()]
            result = warp(*leaves, padding=padding)
            found.append((warp(image, u, padding=padding), result, *torch.autograd.grad(result.square().sum(), leaves)))
    finally:
        torch.set_num_threads(before)
    (plain, alone, by_image, by_field), (plain_of_many, of_many, by_image_of_many, by_field_of_many) = found
    assert plain.equal(plain_of_many) and alone.equal(of_many) and by_field.equal(by_field_of_many)
    torch.testing.assert_close(by_image_of_many, by_image)


def test_a_point_that_is_nan_is_outside() -> None:
    u = torch.zeros(1, 3, 3, 4, 3)
    u[0, 1, 1, 1, 1] = torch.nan
    found = warp(torch.ones(1, 2, 3, 4, 3), u)
    assert (found[:, :, 1, 1, 1] == 0).all() and (found == 0).sum() == 2


def test_outer_voxel_centres_land_inside() -> None:
    u = torch.zeros(1, 3, 2, 2, 4, requires_grad=True)
    shift = torch.tensor([0.0, 0.0, 0.5]).view(1, 3, 1, 1, 1)
    assert lands_inside(u, (2, 2, 4)).all()
    assert lands_inside(u + shift, (2, 2, 4))[0, 0, 0, 0].tolist() == [1, 1, 1, 0]
    assert lands_inside(u - shift, (2, 2, 4))[0, 0, 0, 0].tolist() == [0, 1, 1, 1]
    assert lands_inside(u, (2, 2, 3)).sum() == 12  # a moving volume of another shape
    assert not lands_inside(u, (2, 2, 4)).requires_grad and not lands_inside(u * torch.nan, (2, 2, 4)).any()


def test_composition_is_first_one_then_the_other() -> None:
    """Two rotations about one centre: their product, in that order, wherever the volume is not left."""
    a, b = rotation((10, 0, 0)), rotation((0, 0, 12))
    u, v = (affine_field(m, (0, 0, 0), (21, 21, 21), ANISOTROPIC, torch.float64) for m in (a, b))
    expected = affine_field(b @ a, (0, 0, 0), (21, 21, 21), ANISOTROPIC, torch.float64)
    torch.testing.assert_close(inner(compose(u, v), 5), inner(expected, 5))
    assert (inner(compose(v, u), 5) - inner(expected, 5)).abs().max() > 0.05


def test_integration_of_a_constant_and_of_a_linear_velocity() -> None:
    """dx/dt = k x has the flow e^k x: the displacement is (e^k - 1) x; a constant velocity is its own displacement."""
    constant = torch.full((2, 3, 5, 5, 5), 0.7)
    torch.testing.assert_close(integrate(constant), constant)
    k = -0.2
    x = identity_grid((21, 21, 21), dtype=torch.float64) - 10
    torch.testing.assert_close(inner(integrate(k * x), 3), inner((np.exp(k) - 1) * x, 3), rtol=1e-3, atol=1e-3)


def test_integration_against_monai() -> None:
    velocity = bent_field(SHAPE, 2.0)
    monai = DVF2DDF(num_steps=7, mode="bilinear", padding_mode="border")(velocity)
    torch.testing.assert_close(integrate(velocity, 7), monai, atol=1e-4, rtol=0)


def test_integration_backwards_is_the_inverse_and_its_gradient() -> None:
    velocity = bent_field((25, 25, 25), 1.5)
    round_trip = compose(integrate(velocity), integrate(-velocity))
    assert inner(round_trip, 4).abs().max() < 0.05
    # Away from whole voxels and from the border, where linear interpolation has a kink.
    small = (0.35 + bent_field((3, 3, 4), 0.2, torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: integrate(v, 1), (small,))


@pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC])
def test_the_inverse_of_a_rigid_field_is_the_inverse_motion(spacing: tuple[float, ...]) -> None:
    matrix, shape = rotation((6, -4, 5)), (21, 25, 23)
    u = affine_field(matrix, (1, -2, 0.5), shape, spacing, torch.float64)
    back = affine_field(matrix.T, (0, 0, 0), shape, spacing, torch.float64)
    shift = matrix.T @ torch.tensor([1, -2, 0.5], dtype=torch.float64) / torch.tensor(spacing)
    inverse, residual = invert(u)
    assert residual.shape == (1, 1, *shape)
    torch.testing.assert_close(inner(inverse, 6), inner(back - shift.view(1, 3, 1, 1, 1), 6), atol=1e-6, rtol=0)
    assert inner(residual, 6).max() < 1e-6
    assert inner(compose(inverse, u), 6).abs().max() < 1e-6


def test_the_residual_of_a_field_without_inverse_is_large() -> None:
    u = torch.zeros(1, 3, 9, 9, 9)
    u[:, 2, :, :, 3], u[:, 2, :, :, 5] = 3, -3  # a fold
    assert invert(u)[1].max() > 0.5


def test_jacobian_entries_by_hand() -> None:
    """phi_z rises by 0.3 voxel of 2.5 mm for each voxel of 0.8 mm along x: entry (z, x) is 0.3 x 2.5 / 0.8."""
    u = torch.zeros(1, 3, *SHAPE, dtype=torch.float64)
    u[:, 0] = 0.3 * identity_grid(SHAPE, dtype=torch.float64)[:, 2]
    j = jacobian(u, ANISOTROPIC)
    expected = torch.eye(3, dtype=torch.float64)
    expected[0, 2] = 0.3 * 2.5 / 0.8
    torch.testing.assert_close(j, expected.view(1, 3, 3, 1, 1, 1).expand_as(j))  # the border included


def test_jacobian_is_central_inside_and_one_sided_at_the_border() -> None:
    u = torch.zeros(1, 3, 4, 3, 3)
    u[0, 0, :, 1, 1] = torch.tensor([0.0, 1, 4, 9])
    assert jacobian(u)[0, 0, 0, :, 1, 1].tolist() == [2, 3, 5, 6]  # 1 + (1, 2, 4, 5)


def test_the_determinant_is_that_of_linalg_and_exactly_one_for_the_identity() -> None:
    assert (jacobian_determinant(jacobian(torch.zeros(2, 3, 3, 1, 4))) == 1).all()
    j = torch.randn(2, 3, 3, 2, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(jacobian_determinant(j), torch.linalg.det(j.permute(0, 3, 4, 5, 1, 2)))
    u = bent_field((3, 4, 3), 0.4, torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda v: jacobian_determinant(jacobian(v, ANISOTROPIC)), (u,))


@settings(max_examples=20, deadline=None)
@given(st.tuples(*[st.floats(-60, 60)] * 3), st.tuples(*[st.floats(-5, 5)] * 3))
def test_every_rotation_has_determinant_one(degrees: tuple[float, ...], shift: tuple[float, ...]) -> None:
    u = affine_field(rotation(degrees), shift, (4, 3, 5), ANISOTROPIC, torch.float64)
    determinant = jacobian_determinant(jacobian(u, ANISOTROPIC))
    torch.testing.assert_close(determinant, torch.ones_like(determinant))


def test_layout_batch_and_precision_do_not_matter() -> None:
    u = torch.cat([bent_field(SHAPE), bent_field(SHAPE, 0.5)])
    strided = u.mT.contiguous().mT
    assert not strided.is_contiguous()
    for function in (jacobian, integrate, lambda v: invert(v)[0], lambda v: compose(v, v)):
        both = function(u)
        torch.testing.assert_close(function(strided), both)
        torch.testing.assert_close(function(u[1:]), both[1:])
        torch.testing.assert_close(function(u.double()).float(), both, atol=1e-4, rtol=1e-4)
