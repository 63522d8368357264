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
    torch.testing.assert_close(found, evaluate(coefficients, GRID.bases("cpu")), atol=1e-4, rtol=0)


def test_a_fit_repeats_a_spline() -> None:
    field = evaluate(random_coefficients(2.0), GRID.bases("cpu"))
    found = GRID.fitted(field, GRID.bases("cpu"))
    torch.testing.assert_close(evaluate(found, GRID.bases("cpu")), field, atol=1e-2, rtol=0)


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
