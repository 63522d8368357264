"""The scans of a pair at several resolutions, with what was seen and how far the nearest moving label is.

A coarser voxel lies on every second voxel of the finer image, so that a lattice point has whole indices at every
resolution. Axes that are coarse already are not thinned: a level asks for millimetres, not for a factor.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from methods.base import Pair, Scan, vertebra_ids
from methods.geometry import spacing_zyx
from methods.vertebrae import place_in_spine

Factors = tuple[int, int, int]
_DISTANCE_MM = 4.0  # resolution of the distance to the labels


def factors(spacing_mm: Sequence[float], target_mm: float) -> Factors:
    """The power of two by which each axis is thinned, so that its spacing comes closest to `target_mm`."""
    z, y, x = (2 ** max(0, round(math.log2(target_mm / s))) for s in spacing_mm)
    return z, y, x


def halved(image: Tensor, axis: int) -> Tensor:
    """Smooth an axis by the binomial (1, 2, 1) / 4 and keep every second voxel; the border value continues the image.

    Args:
        image: (D, H, W).
        axis: from 0 to 2.
    """
    even = image.narrow(axis, 0, image.shape[axis])[(slice(None),) * axis + (slice(None, None, 2),)]
    odd = image[(slice(None),) * axis + (slice(1, None, 2),)]
    if not odd.shape[axis]:
        return even
    before = torch.cat([even.narrow(axis, 0, 1), odd.narrow(axis, 0, even.shape[axis] - 1)], dim=axis)
    short = odd.shape[axis] < even.shape[axis]
    after = torch.cat([odd, even.narrow(axis, even.shape[axis] - 1, 1)], dim=axis) if short else odd
    return (even * 2 + before + after) / 4


def thinned(image: Tensor, by: Factors) -> Tensor:
    """Halve each axis of (D, H, W) until it is thinned by its factor."""
    for axis, factor in enumerate(by):
        for _ in range(factor.bit_length() - 1):
            image = halved(image, axis)
    return image


@dataclass(frozen=True)
class Scans:
    """Both scans of a pair on one device.

    Attributes:
        moving, fixed: images (D, H, W).
        moving_seen, fixed_seen: float (D, H, W), 1 where the scan saw the voxel; None: everywhere.
        labels: the moving labels, int32 (D, H, W).
        ids: the labelled vertebrae, from the head down.
        spacing_mm: (z, y, x).
        away_mm: the distance to the nearest label on every `away_factors`-th voxel.
    """

    moving: Tensor
    fixed: Tensor
    moving_seen: Tensor | None
    fixed_seen: Tensor | None
    labels: Tensor
    ids: tuple[int, ...]
    spacing_mm: tuple[float, float, float]
    away_mm: Tensor
    away_factors: Factors

    @property
    def shape(self) -> tuple[int, int, int]:
        """(D, H, W) of the grid."""
        d, h, w = self.moving.shape
        return d, h, w


def load(pair: Pair, device: str) -> Scans:
    """Copy the scans of a pair to a device and compute the distance to its moving labels."""
    labels = pair.moving.labels
    assert labels is not None  # Pair refuses a moving scan without labels
    spacing_mm = spacing_zyx(pair.grid)
    by = factors(spacing_mm, _DISTANCE_MM)
    on_device = torch.from_numpy(labels.astype(np.int32)).to(device)
    moving, fixed = (torch.from_numpy(np.ascontiguousarray(s.image)).to(device) for s in (pair.moving, pair.fixed))
    return Scans(
        moving, fixed, _seen(pair.moving, device), _seen(pair.fixed, device),
        labels=on_device, ids=tuple(sorted(vertebra_ids(labels), key=place_in_spine)), spacing_mm=spacing_mm,
        away_mm=_distance(on_device, by, spacing_mm), away_factors=by,
    )  # fmt: skip


def _seen(scan: Scan, device: str) -> Tensor | None:
    if scan.inside is None or scan.inside.all():
        return None
    return torch.from_numpy(scan.inside.astype(np.float32)).to(device)


def _distance(labels: Tensor, by: Factors, spacing_mm: Sequence[float]) -> Tensor:
    """The distance in mm of every `by`-th voxel to a cell of `by` voxels with a label; infinite without labels."""
    mask = F.pad((labels > 0).float()[None, None], [v for f in reversed(by) for v in (f // 2, f - 1 - f // 2)])
    coarse = F.max_pool3d(mask, by, by, ceil_mode=True)[0, 0, : _size(labels, by, 0)]
    occupied = coarse[:, : _size(labels, by, 1), : _size(labels, by, 2)].cpu().numpy() > 0
    if not occupied.any():
        return torch.full(occupied.shape, torch.inf, device=labels.device)
    away = distance_transform_edt(~occupied, [f * s for f, s in zip(by, spacing_mm, strict=True)])
    return torch.from_numpy(away.astype(np.float32)).to(labels.device)


def _size(labels: Tensor, by: Factors, axis: int) -> int:
    return -(-labels.shape[axis] // by[axis])


def eroded(seen: Tensor, voxels: int) -> Tensor:
    """The voxels of a mask, bool (D, H, W), that are more than `voxels` from an unseen one along every axis."""
    result = seen.clone()
    for axis in range(3):
        reached, left = 1, voxels  # an intersection of intersections: steps of 1, 2, 4, ... voxels to both sides
        while left:
            step = min(reached, left)
            inside = result.clone()
            for shift in (step, -step):
                n = result.shape[axis] - step
                if n > 0:
                    inside.narrow(axis, max(shift, 0), n).logical_and_(result.narrow(axis, max(-shift, 0), n))
            result, left, reached = inside, left - step, reached + step
    return result
