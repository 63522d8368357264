"""metrics/point_sampling.py: linear interpolation at points, with voxels that are not known."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from metrics.point_sampling import KnownVoxels

SHAPE = (5, 6, 7)


def volume() -> torch.Tensor:
    """Two channels of noise, (5, 6, 7, 2)."""
    return torch.randn(*SHAPE, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def everywhere(values: torch.Tensor) -> KnownVoxels:
    return KnownVoxels(values.flatten(0, 2), torch.ones(values.shape[:3], dtype=torch.bool))


def some_points(count: int = 50) -> torch.Tensor:
    last = torch.tensor(SHAPE, dtype=torch.float64).view(3, 1) - 1
    return torch.rand(3, count, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * last


def test_values_are_those_of_grid_sample() -> None:
    points, last = some_points(), torch.tensor(SHAPE, dtype=torch.float64).view(3, 1) - 1
    grid = (2 * points / last - 1).flip(0).T.view(1, 1, 1, -1, 3)
    expected = F.grid_sample(volume().permute(3, 0, 1, 2)[None], grid, align_corners=True)[0, :, 0, 0].T
    found, known = everywhere(volume()).at(points)
    torch.testing.assert_close(found, expected)
    assert known.all()


def test_the_gradient_is_that_of_finite_differences() -> None:
    sampler = everywhere(volume())
    assert torch.autograd.gradcheck(lambda p: sampler.at(p)[0], some_points(10).requires_grad_())


def test_voxels_are_exact_also_at_the_last_one() -> None:
    corners = torch.tensor([[0, 4, 4], [0, 5, 2], [0, 6, 0]], dtype=torch.float64)
    found, known = everywhere(volume()).at(corners)
    torch.testing.assert_close(found, volume()[[0, 4, 4], [0, 5, 2], [0, 6, 0]])
    assert known.all()


def test_a_point_outside_or_beside_an_unknown_voxel_is_not_known_and_has_no_gradient() -> None:
    known = torch.ones(SHAPE, dtype=torch.bool)
    known[2, 2, 2] = False
    sampler = KnownVoxels(volume()[known], known)
    points = torch.tensor([[-0.1, 1.5, 3.5, 4.0], [1, 1.5, 3.5, 5.0], [1, 1.5, 3.5, 6.0]]).double().requires_grad_()
    values, where = sampler.at(points)
    assert where.tolist() == [False, False, True, True]
    (gradient,) = torch.autograd.grad(values.sum(), points)
    assert (gradient[:, :2] == 0).all() and (gradient[:, 2] != 0).any()


def test_an_axis_of_one_voxel_and_no_known_voxel() -> None:
    flat = volume()[:1]
    found, known = everywhere(flat).at(torch.tensor([[0.0], [1.5], [2.5]], dtype=torch.float64))
    torch.testing.assert_close(found[0], flat[0, 1:3, 2:4].mean(dim=(0, 1)))
    nothing = KnownVoxels(torch.empty(0, 2), torch.zeros(SHAPE, dtype=torch.bool))
    values, where = nothing.at(torch.zeros(3, 4))
    assert known.all() and not where.any() and values.shape == (4, 2)
    assert everywhere(volume()).at(torch.zeros(3, 0, dtype=torch.float64))[0].shape == (0, 2)


def test_the_number_of_rows_must_be_that_of_the_known_voxels() -> None:
    with pytest.raises(ValueError, match="rows: expected one for each of 210 known voxels, got 3"):
        KnownVoxels(torch.zeros(3, 1), torch.ones(SHAPE, dtype=torch.bool))
