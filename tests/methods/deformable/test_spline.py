"""Cubic B-spline fields: the basis against scipy and SimpleITK, conversion, bending energy, and the bound on folds."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy.interpolate import BSpline

from methods.deformable.spline import (
    ControlGrid,
    basis,
    bending_energy,
    bounded,
    evaluate,
    least_slack,
    without_folds,
)
from metrics.fields import jacobian, jacobian_determinant

GRID = ControlGrid((20, 25, 18), (1.0, 1.5, 2.0), 8.0)


def random_coefficients(size: float) -> torch.Tensor:
    return size * torch.randn(3, *GRID.counts, generator=torch.Generator().manual_seed(0))


def determinants(coefficients: torch.Tensor) -> torch.Tensor:
    """|J| at every voxel of the grid."""
    field = evaluate(coefficients, GRID.bases("cpu")) / torch.tensor(GRID.spacing_mm).view(3, 1, 1, 1)
    return jacobian_determinant(jacobian(field[None], GRID.spacing_mm))


def test_the_basis_is_that_of_scipy() -> None:
    positions = torch.linspace(0, 40, 33)
    found = basis(positions, 8.0, 8).numpy()
    for k in range(8):
        spline = BSpline.basis_element(8.0 * (np.arange(5) - 2 + k - 1), extrapolate=False)
        np.testing.assert_allclose(found[:, k], np.nan_to_num(spline(positions.numpy())), atol=1e-6)


def test_a_field_is_that_of_simpleitk() -> None:
    """SimpleITK's transform with the same control points, at every voxel."""
    coefficients = random_coefficients(2.0)
    transform = sitk.BSplineTransform(3, 3)
    mesh = [n - 3 for n in reversed(GRID.counts)]
    transform.SetTransformDomainMeshSize(mesh)
    transform.SetTransformDomainPhysicalDimensions([8.0 * n for n in mesh])
    transform.SetTransformDomainOrigin([0.0, 0.0, 0.0])
    transform.SetParameters(coefficients.flip(0).double().flatten().tolist())  # components x, y, z
    found = evaluate(coefficients, GRID.bases("cpu"))
    for z, y, x in ((0, 0, 0), (3, 7, 5), (19, 24, 17), (10, 0, 17)):
        point = (2.0 * x, 1.5 * y, 1.0 * z)
        expected = np.subtract(transform.TransformPoint(point), point)[::-1]
        np.testing.assert_allclose(found[:, z, y, x], expected, atol=1e-4)


def test_part_of_a_grid_is_evaluated_as_the_whole() -> None:
    coefficients = random_coefficients(2.0)
    part = evaluate(coefficients, GRID.bases("cpu", (4, 6, 2), (19, 25, 17), (2, 3, 1)))
    torch.testing.assert_close(part, evaluate(coefficients, GRID.bases("cpu"))[:, 4:19:2, 6:25:3, 2:17])


def test_a_finer_grid_keeps_the_field() -> None:
    finer = ControlGrid(GRID.shape, GRID.spacing_mm, 4.0)
    coefficients = random_coefficients(2.0)
    found = evaluate(GRID.converted(coefficients, finer), finer.bases("cpu"))
    torch.testing.assert_close(found, evaluate(coefficients, GRID.bases("cpu")), atol=0.02, rtol=0)


def smooth_field(shape: tuple[int, int, int]) -> torch.Tensor:
    """A rotation and a gentle wave, (3, D, H, W) in mm."""
    z, y, x = torch.meshgrid(*[torch.arange(float(n)) for n in shape], indexing="ij")
    return torch.stack([3 * torch.sin(y / 15), 0.1 * x - 2, -0.1 * y + torch.cos(z / 20)])


def test_a_smooth_field_is_fitted() -> None:
    grid = ControlGrid((40, 40, 40), (1.0, 1.0, 1.0), 8.0)
    field = smooth_field(grid.shape)
    found = evaluate(grid.fitted(field, grid.bases("cpu")), grid.bases("cpu"))
    assert (found - field).square().mean().sqrt() < 0.05


def test_a_fit_does_not_blow_up_beyond_the_last_control_point() -> None:
    """The grid ends 1 mm behind a control point, whose spline has next to no weight there."""
    grid, finer = (ControlGrid((50, 50, 50), (1.0, 1.0, 1.0), mm) for mm in (24.0, 16.0))
    field = smooth_field(grid.shape)
    noise = 0.2 * torch.randn(field.shape, generator=torch.Generator().manual_seed(0))
    coefficients = grid.fitted(field + noise, grid.bases("cpu"))
    assert coefficients.abs().max() < 8 * field.abs().max()
    assert grid.converted(coefficients, finer).abs().max() < 2 * coefficients.abs().max()


def test_the_bending_energy_of_an_affine_field_is_zero() -> None:
    places = torch.stack(torch.meshgrid(*[8.0 * torch.arange(n) for n in GRID.counts], indexing="ij"))
    matrix = torch.tensor([[0.1, 0.2, 0.0], [0.0, -0.1, 0.3], [0.2, 0.0, 0.1]])
    affine = torch.einsum("ij,jzyx->izyx", matrix, places)
    assert bending_energy(affine, 8.0) == pytest.approx(0, abs=1e-6)
    bent = torch.zeros(3, *GRID.counts)
    bent[0, 2, 3, 2] = 8.0
    # Second differences 1, -2, 1 along three axes, mixed ones four times 1 for three pairs of axes, twice.
    assert bending_energy(bent, 8.0) == pytest.approx(3 * 6 + 2 * 3 * 4)


@pytest.mark.parametrize("size", [3.0, 10.0, 30.0])
def test_coefficients_within_the_bound_fold_nowhere(size: float) -> None:
    coefficients = random_coefficients(size)
    assert (determinants(coefficients) <= 0).any() or size == 3.0
    found = without_folds(coefficients, 8.0, 0.1)
    assert least_slack(found, 8.0) >= 0.05 * 0.999
    assert (determinants(found) > 0).all()


def test_coefficients_that_keep_the_bound_are_not_changed() -> None:
    shift = torch.full((3, *GRID.counts), 40.0)
    torch.testing.assert_close(without_folds(shift, 8.0, 0.1), shift)
    gentle = random_coefficients(0.5)
    torch.testing.assert_close(bounded(gentle, 8.0, 0.1), gentle)


def test_too_few_passes_scale_the_coefficients() -> None:
    found = without_folds(random_coefficients(30.0), 8.0, 0.1, passes=0)
    assert least_slack(found, 8.0) == pytest.approx(0.05, abs=1e-3)
