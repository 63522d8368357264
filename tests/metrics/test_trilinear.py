"""metrics/_trilinear.py: the interpolant of hard labels, compared with `metrics.fields.warp`."""

from __future__ import annotations

import torch
from support.hand_built import SPACINGS

from metrics._trilinear import Cells
from metrics.fields import warp


@SPACINGS
def test_samples_are_the_linear_interpolant_and_its_derivative(spacing: tuple[float, ...]) -> None:
    labels = (torch.rand(2, 3, 4, 5) > 0.5).double()
    s = torch.tensor(spacing, dtype=torch.float64)
    origin = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]], dtype=torch.float64)
    cells = Cells(labels, origin, s)
    voxels = (torch.rand(2, 3, 400, dtype=torch.float64) * 12 - 3).requires_grad_()
    points = (voxels.detach() + origin[..., None]) * s[:, None]
    value, slope = cells.sample(cells.voxels(points))
    grid = torch.zeros(1, 3, 1, 1, 400, dtype=torch.float64)
    grid[0, 2] = torch.arange(400.0)
    padded = torch.nn.functional.pad(labels, (2,) * 6)[:, None]
    reference = warp(padded, voxels[:, :, None, None] + 2 - grid)[:, 0, 0, 0]
    torch.testing.assert_close(value, reference.detach())
    (derivative,) = torch.autograd.grad(reference.sum(), voxels)
    torch.testing.assert_close(slope, derivative)
    # A value that is not mixed stays the same within a voxel's motion.
    mixed, full = cells.state(cells.voxels(points))
    for shift in (-1, 0, 1):
        moved, _ = cells.sample(cells.voxels(points + 0.99 * shift * s[:, None]))
        torch.testing.assert_close(moved[~mixed], full[~mixed].double())
