"""Cubic B-spline fields on a control grid: evaluation by separable products, bending energy, and a bound against folds.

Coefficients are tensors (3, mz, my, mx) in mm, components along the grid's axes (z, y, x). Control point k of an axis
lies at (k - 1) * control_mm from the first voxel centre, so that four control points surround every voxel.

References:
    [1] Rueckert et al., Nonrigid registration using free-form deformations: application to breast MR images, IEEE TMI
        18(8), 1999 (the parametrisation and the bending energy).
    [2] Choi, Lee, Injectivity conditions of 2D and 3D uniform cubic B-spline functions, Graphical Models 62(6), 2000
        (a bound on single coefficients; the one here bounds their differences and allows any translation).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

Bases = tuple[Tensor, Tensor, Tensor]
OF_SPLINE, OF_FIELD = 1e-4, 1e-2  # smoothing of a fit to a spline and to any field, relative to the values' weight


def basis(positions_mm: Tensor, control_mm: float, count: int) -> Tensor:
    """The cubic B-splines of one axis at some positions.

    Args:
        positions_mm: (n,), from the first voxel centre of the grid.
        control_mm: distance of the control points.
        count: m, the number of control points.

    Returns:
        (n, m), in [0, 2/3], float32; a row sums to 1 inside the grid.
    """
    centres = torch.arange(count, dtype=torch.float64, device=positions_mm.device) - 1
    a = (positions_mm.double()[:, None] / control_mm - centres).abs()
    outer = (2 - a).clamp(min=0) ** 3 / 6
    return torch.where(a < 1, 2 / 3 - a**2 + a**3 / 2, outer).float()


class ControlGrid:
    """The control points over one voxel grid.

    Attributes:
        control_mm: their distance, the same along all axes.
        counts: their number along each axis, (mz, my, mx).
    """

    def __init__(self, shape: Sequence[int], spacing_mm: Sequence[float], control_mm: float) -> None:
        """Cover a grid of `shape` voxels with `spacing_mm`, both (z, y, x)."""
        self.shape, self.spacing_mm, self.control_mm = tuple(shape), tuple(spacing_mm), control_mm
        reach = [(n - 1) * s / control_mm for n, s in zip(shape, spacing_mm, strict=True)]
        self.counts = tuple(math.ceil(r - 1e-6) + 3 for r in reach)

    def zeros(self, device: torch.device | str) -> Tensor:
        """The coefficients of no displacement."""
        return torch.zeros((3, *self.counts), device=device)

    def bases(self, device: torch.device | str, start: Sequence[int] = (0, 0, 0), stop: Sequence[int] = (),
              step: Sequence[int] = (1, 1, 1)) -> Bases:  # fmt: skip
        """The basis of each axis at the voxels start, start + step, ... before stop (default: the grid's end)."""
        stop = stop or self.shape
        z, y, x = (
            basis(torch.arange(a, b, s, device=device) * mm, self.control_mm, count)
            for a, b, s, mm, count in zip(start, stop, step, self.spacing_mm, self.counts, strict=True)
        )
        return z, y, x

    def converted(self, coefficients: Tensor, to: ControlGrid) -> Tensor:
        """The coefficients on another control grid of the same voxels: the least-squares fit at the voxels."""
        device = coefficients.device
        ours, theirs = self.bases(device), to.bases(device)
        changes = [_fit(b, OF_SPLINE) @ a.double() for a, b in zip(ours, theirs, strict=True)]
        return evaluate(coefficients.double(), (changes[0], changes[1], changes[2])).float()

    def fitted(self, field_mm: Tensor, bases: Bases) -> Tensor:
        """The coefficients of the least-squares fit to a field (3, D, H, W) in mm at the voxels of `bases`."""
        z, y, x = (_fit(b, OF_FIELD) for b in bases)
        return evaluate(field_mm.double(), (z, y, x)).float()


def _fit(matrix: Tensor, smoothing: float) -> Tensor:
    """The least-squares fit, (m, n), to values at the rows of a basis (n, m), float64.

    A weak penalty of second differences continues the coefficients where the grid ends just behind a control point: the
    last one has next to no weight there, and a plain fit makes it huge.
    """
    b = matrix.double()
    bend = torch.eye(b.shape[1], dtype=b.dtype, device=b.device).diff(n=2, dim=0)
    normal = b.T @ b
    return torch.linalg.solve(normal + smoothing * normal.diagonal().mean() * bend.T @ bend, b.T)


def evaluate(coefficients: Tensor, bases: Bases) -> Tensor:
    """Apply one matrix to each axis: the field (3, D, H, W) of coefficients (3, mz, my, mx). Differentiable."""
    z, y, x = bases
    rows = y @ (coefficients @ x.T)
    return (z @ rows.flatten(2)).view(3, len(z), *rows.shape[2:])


def bending_energy(coefficients: Tensor, control_mm: float) -> Tensor:
    """Compute the bending energy from the second differences of the coefficients. Source: [1].

    Args:
        coefficients: (3, mz, my, mx), mm.
        control_mm: distance of the control points.

    Returns:
        Scalar, at least 0, without unit: the sum over control points of the squared second derivatives in 1/mm, times
        control_mm^2; 0 for an affine field.
    """
    total = coefficients.new_zeros(())
    for axis in (1, 2, 3):
        first = coefficients.diff(dim=axis)
        total = total + first.diff(dim=axis).square().sum()
        for other in range(axis + 1, 4):
            total = total + 2 * first.diff(dim=other).square().sum()
    return total / control_mm**2


def slack(coefficients: Tensor, control_mm: float, axis: int) -> Tensor:
    """How far neighbours along one axis are from the bound that excludes folds.

    Column j of a spline's Jacobian is a weighted mean, with weights that sum to 1, of d_j = (difference of neighbours
    along j) / control_mm. If 1 + d_jj > sum over i != j of |d_ij| for all neighbours along all three axes, then the
    identity plus the Jacobian is strictly diagonally dominant by columns everywhere, and its determinant is above 0.
    The bound is a concave function of d, so a mean keeps it; central differences of voxels are such means too.

    Args:
        coefficients: (3, mz, my, mx), mm.
        control_mm: distance of the control points.
        axis: j, from 0 to 2.

    Returns:
        1 + d_jj - sum |d_ij|, (...,), one shorter along the axis; above 0 everywhere excludes folds.
    """
    d = coefficients.diff(dim=1 + axis) / control_mm
    return 1 + 2 * d[axis].clamp(min=0) - d.abs().sum(dim=0)


def least_slack(coefficients: Tensor, control_mm: float) -> float:
    """The least `slack` of all neighbours along all axes; above 0, the field folds nowhere."""
    return min(float(slack(coefficients, control_mm, axis).amin()) for axis in range(3))


def bounded(coefficients: Tensor, control_mm: float, least: float) -> Tensor:
    """Move coefficients towards `slack` >= `least`: one cyclic pass of projections onto the bounds.

    Every second pair of neighbours along an axis has no point in common with the others, and the pairs are projected
    together. Repeated passes converge, since the bounds are convex and no displacement meets them all.

    Args:
        coefficients: (3, mz, my, mx), mm; not changed.
        control_mm: distance of the control points.
        least: the slack to reach, in (0, 1).
    """
    result = coefficients.clone()
    for axis in range(3):
        for first in (0, 1):
            pairs = (result.shape[1 + axis] - first) // 2
            if not pairs:
                continue
            both = result.narrow(1 + axis, first, 2 * pairs).unflatten(1 + axis, (pairs, 2))
            low, high = both.unbind(2 + axis)
            d = (high - low) / control_mm
            direction = -d.sign()
            direction[axis] = 1
            missing = (least - (1 + (d * direction).sum(dim=0))).clamp(min=0)
            # A component of 0 has no sign and takes no part.
            move = direction * (missing / direction.square().sum(dim=0)) * (control_mm / 2)
            low -= move
            high += move
    return result


def without_folds(coefficients: Tensor, control_mm: float, least: float, passes: int = 100) -> Tensor:
    """Change coefficients as little as `bounded` does until every slack is above 0.

    Args:
        coefficients: (3, mz, my, mx), mm.
        control_mm: distance of the control points.
        least: the slack to aim at, in (0, 1).
        passes: the most passes of `bounded`. If they do not suffice, all coefficients are scaled down by one factor.
    """
    for _ in range(passes):
        now = least_slack(coefficients, control_mm)
        if now >= least / 2:
            return coefficients
        coefficients = bounded(coefficients, control_mm, least)
    now = least_slack(coefficients, control_mm)
    # Slack is concave and 1 at 0: a fraction t of the coefficients has at least 1 - t (1 - now).
    return coefficients * min(1.0, (1 - least / 2) / (1 - now))
