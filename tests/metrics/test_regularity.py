"""metrics/regularity.py: closed forms, one fold by hand, exact inverses, comparisons with SimpleITK."""

from __future__ import annotations

import math

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.spatial.transform import Rotation
from support.hand_built import ANISOTROPIC, UNIT, affine_field, bent_field, rotation

from methods.base import Grid
from methods.geometry import spacing_zyx, to_millimetres, to_sitk
from metrics.fields import invert, jacobian, jacobian_determinant, lands_inside
from metrics.regularity import (
    diffusion,
    folding,
    inverse_consistency,
    orthonormality_map,
    properness_map,
    rigidity,
    sd_log_jacobian,
    weighted_mean,
)

SHAPE = (9, 11, 13)


@pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC])
def test_a_rotation_is_proper_and_orthonormal(spacing: tuple[float, float, float]) -> None:
    u = affine_field(rotation((20, -35, 50)), (3, 1, -2), SHAPE, spacing, torch.float64)
    j = jacobian(u, spacing)
    torch.testing.assert_close(jacobian_determinant(j), torch.ones(1, *SHAPE, dtype=torch.float64))
    assert properness_map(jacobian_determinant(j)).max() < 1e-20
    assert orthonormality_map(j).max() < 1e-20


@pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC])
def test_a_uniform_scale(spacing: tuple[float, float, float]) -> None:
    s = 1.2
    j = jacobian(affine_field(s * torch.eye(3, dtype=torch.float64), (0, 0, 0), SHAPE, spacing, torch.float64), spacing)
    determinant = jacobian_determinant(j)
    torch.testing.assert_close(determinant, torch.full_like(determinant, s**3))
    torch.testing.assert_close(properness_map(determinant), torch.full_like(determinant, (s**3 - 1) ** 2))
    torch.testing.assert_close(orthonormality_map(j), torch.full_like(determinant, 3 * (s**2 - 1) ** 2))


def test_a_shear_keeps_volume_but_not_angles() -> None:
    """J = I + k e_z e_x^T: J^T J - I has k^2 once and k twice, so its square sums to k^4 + 2 k^2."""
    k = 0.3
    matrix = torch.eye(3, dtype=torch.float64)
    matrix[0, 2] = k
    j = jacobian(affine_field(matrix, (0, 0, 0), SHAPE, dtype=torch.float64))
    assert properness_map(jacobian_determinant(j)).max() < 1e-20
    assert orthonormality_map(j).mean().item() == pytest.approx(k**4 + 2 * k**2)


def test_orthonormality_is_the_frobenius_norm() -> None:
    j = torch.randn(2, 3, 3, 2, 3, 4, dtype=torch.float64)
    m = j.permute(0, 3, 4, 5, 1, 2)
    expected = (m.mT @ m - torch.eye(3)).square().sum((-2, -1))
    torch.testing.assert_close(orthonormality_map(j), expected)


def test_determinant_against_simpleitk() -> None:
    """On an anisotropic grid along the axes: ITK's filter ignores the direction matrix."""
    grid = Grid(SHAPE, (0.8, 1.0, 2.5), (4.0, -3.0, 9.0))
    u = bent_field(SHAPE)
    field = to_sitk(to_millimetres(u, grid), grid)
    reference = sitk.GetArrayFromImage(sitk.DisplacementFieldJacobianDeterminant(field))
    ours = jacobian_determinant(jacobian(u, spacing_zyx(grid)))[0].numpy()
    inner = (slice(1, -1),) * 3  # ITK treats the border otherwise
    np.testing.assert_allclose(ours[inner], reference[inner], atol=2e-5)


def test_jacobian_against_points_moved_by_simpleitk_on_an_oblique_grid() -> None:
    """ITK's own transform moves the six neighbours of a voxel, in LPS; the differences there make the Jacobian."""
    direction = Rotation.from_rotvec([20, 30, -40], degrees=True).as_matrix()
    grid = Grid(SHAPE, (0.8, 1.0, 2.5), (4.0, -3.0, 9.0), tuple(direction.ravel()))
    u = bent_field(SHAPE)
    field = to_sitk(to_millimetres(u, grid), grid)
    transform = sitk.DisplacementFieldTransform(sitk.Cast(field, sitk.sitkVectorFloat64))
    j = jacobian(u, spacing_zyx(grid))
    determinant, ortho = jacobian_determinant(j)[0], orthonormality_map(j)[0]
    for z, y, x in ((1, 1, 1), (4, 5, 6), (7, 3, 9)):
        steps = np.eye(3)
        ahead, behind = (grid.to_points_mm(np.array([x, y, z]) + sign * steps) for sign in (1, -1))
        moved = [np.array([transform.TransformPoint(p) for p in points]) for points in (ahead, behind)]
        reference = np.linalg.solve(ahead - behind, moved[0] - moved[1]).T
        assert determinant[z, y, x].item() == pytest.approx(np.linalg.det(reference), abs=1e-5)
        expected = np.linalg.norm(reference.T @ reference - np.eye(3)) ** 2
        assert ortho[z, y, x].item() == pytest.approx(expected, abs=1e-5)


def test_weighted_mean_by_hand_and_per_vertebra() -> None:
    values = torch.arange(8.0).view(1, 2, 2, 2).repeat(2, 1, 1, 1)
    values[1] += 100
    weights = torch.zeros(3, 2, 2, 2)
    weights[0, 0, 0, 1], weights[0, 1, 1, 1] = 1, 0.5  # (1 x 1 + 0.5 x 7) / 1.5 = 3
    weights[1] = 1
    found = weighted_mean(values, weights)
    assert found[:, :2].tolist() == [[3.0, 3.5], [103.0, 103.5]]
    assert found[:, 2].isnan().all()  # an empty label has no mean
    torch.testing.assert_close(weighted_mean(values, weights.expand(2, -1, -1, -1, -1)), found, equal_nan=True)


def test_rigidity_in_the_bounding_box_equals_the_whole_grid() -> None:
    u = bent_field(SHAPE, dtype=torch.float64).expand(2, -1, -1, -1, -1) * torch.tensor([1.0, 0.5]).view(2, 1, 1, 1, 1)
    weights = torch.zeros(3, *SHAPE, dtype=torch.float64)
    weights[0, 3:5, 4:6, 2:7], weights[1, 0:2, 8:11, 6:13] = 0.7, 1.0  # the second touches the border
    j = jacobian(u, ANISOTROPIC)
    proper, ortho = rigidity(u, weights, ANISOTROPIC)
    expected = weighted_mean(properness_map(jacobian_determinant(j)), weights)
    torch.testing.assert_close(proper, expected, equal_nan=True)
    torch.testing.assert_close(ortho, weighted_mean(orthonormality_map(j), weights), equal_nan=True)
    assert all(v.shape == (2, 3) and v.isnan().all() for v in rigidity(u, weights * 0))


def test_rigidity_gradient() -> None:
    u = bent_field((3, 4, 5), 0.4, torch.float64).requires_grad_()
    weights = (torch.rand(2, 3, 4, 5, dtype=torch.float64) + 0.1).requires_grad_()
    assert torch.autograd.gradcheck(lambda a, w: rigidity(a, w, ANISOTROPIC), (u, weights))


def test_diffusion_by_hand_and_its_gradient() -> None:
    """A slope of 2 voxels a voxel along z in one of three components: 4 / 3 for that axis, 0 for the others."""
    u = torch.zeros(2, 3, 4, 3, 5, dtype=torch.float64)
    u[0, 1] = 2 * torch.arange(4.0).view(4, 1, 1)
    assert diffusion(u).tolist() == pytest.approx([4 / 9, 0.0])
    assert torch.autograd.gradcheck(diffusion, torch.rand(1, 3, 2, 3, 2, dtype=torch.float64, requires_grad=True))


def test_one_folded_voxel_by_hand() -> None:
    """|J| is 1 but for one voxel of -0.5, in a 9^3 volume cropped by 2 to 125 voxels."""
    determinant = torch.ones(1, 9, 9, 9, dtype=torch.float64)
    determinant[0, 4, 4, 4] = -0.5
    determinant[0, 0, 0, 0] = -1.0  # in the margin, which is cropped
    count, percent = folding(determinant)
    assert count.tolist() == [1] and percent.tolist() == [0.8]
    assert folding(determinant, crop=0)[0].tolist() == [2]
    share = math.sqrt(1 / 125 * 124 / 125)  # SD of a value that is 1 once in 125 times, else 0
    assert sd_log_jacobian(determinant).item() == pytest.approx(share * abs(math.log(1e-9)))
    assert sd_log_jacobian(determinant, "l2r").item() == pytest.approx(share * (math.log(4) - math.log(2.5)))


def test_zero_and_nan_count_as_folded() -> None:
    determinant = torch.ones(2, 3, 3, 3)
    determinant[0, 1, 1, 1], determinant[1, 1, 1, 1] = 0.0, torch.nan
    assert folding(determinant, crop=0)[0].tolist() == [1, 1]
    assert sd_log_jacobian(determinant, crop=0).isnan().tolist() == [False, True]


def test_a_real_fold_of_a_field_is_found() -> None:
    """Along x the points 4 and 6 change places, so that the central difference at 5 is -1 and |J| there too."""
    u = torch.zeros(1, 3, 7, 7, 11)
    u[:, 2, :, :, 4], u[:, 2, :, :, 6] = 2.0, -2.0
    determinant = jacobian_determinant(jacobian(u))
    assert determinant[0, 3, 3, 5].item() == -1.0
    assert folding(determinant)[0].item() == 3 * 3  # the plane x = 5, less the margins


def test_unknown_convention_and_too_wide_a_crop_are_refused() -> None:
    with pytest.raises(ValueError, match="'plain' or 'l2r', got 'log'"):
        sd_log_jacobian(torch.ones(1, 9, 9, 9), "log")
    with pytest.raises(ValueError, match="crop"):
        folding(torch.ones(1, 4, 9, 9))


def test_inverse_consistency_of_a_translation_by_hand() -> None:
    """One voxel along z and two along x, sqrt((1 x 2.5)^2 + (2 x 0.8)^2) mm: the second field undoes it, or is 0."""
    forward = torch.zeros(2, 3, 4, 3, 5, dtype=torch.float64)
    forward[:, 0], forward[:, 2] = 1, 2
    backward = -forward
    backward[1] = 0
    found = inverse_consistency(forward, backward, ANISOTROPIC)
    assert found.shape == (2, 4, 3, 5)
    assert found[:, 3].isnan().all() and found[..., 3:].isnan().all()  # these leave the volume
    kept = found[:, :3, :, :3]
    assert kept[0].max() < 1e-12  # at the border up to rounding
    torch.testing.assert_close(kept[1], torch.full_like(kept[1], math.hypot(2.5, 1.6)))


def test_inverse_consistency_of_a_rigid_pair() -> None:
    """Linear interpolation of an affine field is exact, so that the inverse rotation undoes it up to rounding."""
    r, t = rotation((10, -15, 20)), torch.tensor((1.0, -2.0, 0.5), dtype=torch.float64)
    forward = affine_field(r, t.tolist(), SHAPE, ANISOTROPIC, torch.float64)
    backward = affine_field(r.T, (-r.T @ t).tolist(), SHAPE, ANISOTROPIC, torch.float64)
    found = inverse_consistency(forward, backward, ANISOTROPIC)
    inside = lands_inside(forward, SHAPE)[:, 0] > 0
    assert 0.3 < inside.double().mean() < 1 and (found.isnan() == ~inside).all()
    assert found.nan_to_num().max() < 1e-12
    assert inverse_consistency(forward, forward, ANISOTROPIC).nanmean() > 1


def test_inverse_consistency_of_a_numerical_inverse() -> None:
    """Mapping by v and then by u leaves the residual of `invert`, times the edge of a voxel."""
    u = bent_field(SHAPE, dtype=torch.float64)
    v, residual = invert(u, iterations=3)
    found = inverse_consistency(v, u, (2.0, 2.0, 2.0))
    known = ~found.isnan()
    assert found[known].mean() > 1e-3
    torch.testing.assert_close(found[known], 2 * residual[:, 0][known])


def test_inverse_consistency_gradient_and_nan() -> None:
    """NaN points leave the gradient of the others alone, and a perfect pair has gradient 0."""
    generator = torch.Generator().manual_seed(0)
    forward, backward = torch.rand(2, 1, 3, 4, 4, 5, generator=generator, dtype=torch.float64).sub(0.3).unbind()
    forward, backward = forward.requires_grad_(), backward.requires_grad_()
    assert inverse_consistency(forward, backward).isnan().any()
    assert torch.autograd.gradcheck(lambda f, b: inverse_consistency(f, b, ANISOTROPIC).nansum(), (forward, backward))
    still = torch.zeros(1, 3, 3, 3, 3, requires_grad=True)
    inverse_consistency(still, still).sum().backward()
    assert still.grad is not None and (still.grad == 0).all()
    broken = torch.zeros(1, 3, 3, 3, 3)
    broken[0, 1, 1, 1, 1] = torch.nan
    assert inverse_consistency(broken, still).isnan().sum() == 1
