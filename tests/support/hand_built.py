"""Volumes and fields whose metrics can be worked out by hand."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from metrics.fields import identity_grid

UNIT = (1.0, 1.0, 1.0)
ANISOTROPIC = (2.5, 1.0, 0.8)  # z, y, x
TEXTURED_SHAPE = (7, 8, 9)
SPACINGS = pytest.mark.parametrize("spacing", [UNIT, ANISOTROPIC], ids=["isotropic", "anisotropic"])


def box(shape: Sequence[int], low: Sequence[int], high: Sequence[int], value: int = 1) -> torch.Tensor:
    """A label map with one box, from voxel `low` up to but without `high`."""
    labels = torch.zeros(tuple(shape), dtype=torch.int32)
    labels[tuple(slice(a, b) for a, b in zip(low, high, strict=True))] = value
    return labels


def rotation(degrees: Sequence[float]) -> torch.Tensor:
    """A float64 rotation matrix on (z, y, x), from a rotation vector in degrees."""
    return torch.from_numpy(Rotation.from_rotvec(degrees, degrees=True).as_matrix().copy())


def affine_field(
    matrix: torch.Tensor,
    shift_mm: Sequence[float],
    shape: Sequence[int],
    spacing_mm: Sequence[float] = UNIT,
    dtype: torch.dtype = torch.float32,
) -> torch.Tensor:
    """The field, in voxels, that takes x to matrix (x - c) + c + shift in millimetres, c the middle of the volume."""
    spacing = torch.tensor(spacing_mm, dtype=torch.float64).view(1, 3, 1, 1, 1)
    centre = (torch.tensor(shape, dtype=torch.float64) - 1).view(1, 3, 1, 1, 1) / 2 * spacing
    x = identity_grid(shape, dtype=torch.float64) * spacing - centre
    moved = torch.einsum("ij,bjdhw->bidhw", matrix.double(), x)
    shift = torch.tensor(shift_mm, dtype=torch.float64).view(1, 3, 1, 1, 1)
    return ((moved - x + shift) / spacing).to(dtype)


def bent_field(shape: Sequence[int], amplitude: float = 1.5, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """A smooth field without folds that is not rigid anywhere, in voxels."""
    z, y, x = identity_grid(shape, dtype=torch.float64)[0]
    parts = (torch.sin(y / 5 + 0.3), torch.cos(x / 6 - z / 9), torch.sin(z / 5 + x / 7))
    return (amplitude * torch.stack(parts))[None].to(dtype)


def vertebra(shape: Sequence[int], spacing_mm: Sequence[float] = UNIT, value: int = 20) -> torch.Tensor:
    """A lopsided body with two processes, in the middle of the volume: no symmetry hides a wrong rotation."""
    s = torch.tensor(spacing_mm, dtype=torch.float64).view(3, 1, 1, 1)
    middle = (torch.tensor(shape, dtype=torch.float64).view(3, 1, 1, 1) - 1) / 2
    z, y, x = (identity_grid(shape, dtype=torch.float64)[0] - middle) * s
    body = (z / 6) ** 2 + (y / 7) ** 2 + (x / 9) ** 2 < 1
    spine = (z + 2).abs().lt(2.5) & (y > 4) & (y < 14) & x.abs().lt(2.5)
    wing = (z - 1).abs().lt(2.5) & (y - 4).abs().lt(2.5) & (x > 5) & (x < 14)
    return (body | spine | wing).int() * value


def textured(seed: int = 0, batch: int = 1, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Images (batch, 1, 7, 8, 9) of uniform noise in [0, 1]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(batch, 1, *TEXTURED_SHAPE, generator=generator, dtype=dtype)


def as_numpy(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
