"""Agreement of two label maps: Dice, 95 % Hausdorff distance, average symmetric surface distance.

The surface of a label is the set of its voxels with at least one of six face neighbours outside the label. Outside the
grid is outside the label, so a label cut by the border has a surface there. Distances are between voxel centres, in mm.
This is the definition of MONAI and, apart from its finer surface elements, of [2].

Libraries disagree about empty labels. Here, a label that is absent on both sides gives NaN; a label that is absent on
one side gives Dice 0 and distances NaN.

References:
    [1] Dice, Measures of the amount of ecologic association between species, Ecology 26(3), 1945.
    [2] Nikolov et al., Deep learning to achieve clinically applicable segmentation of head and neck anatomy, 2018.
        https://github.com/google-deepmind/surface-distance
    [3] Milletari, Navab, Ahmadi, V-Net, 3DV 2016 (soft Dice with squares). https://arxiv.org/abs/1606.04797
    [4] Maier-Hein et al., Metrics reloaded, Nature Methods 21, 2024.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from scipy.spatial import cKDTree
from torch import Tensor
from torch.autograd.function import once_differentiable

from metrics.boxes import Box, label_boxes
from metrics.volume import voxel_counts


def dice(a: Tensor, b: Tensor, ids: Sequence[int]) -> Tensor:
    """Compute the Dice similarity coefficient 2 |A and B| / (|A| + |B|) of each label. Source: [1].

    Args:
        a: integer label map (D, H, W).
        b: integer label map (D, H, W), on the same grid.
        ids: N label values, positive.

    Returns:
        float64 (N,), in [0, 1], symmetric in a and b; NaN where neither map has the label, 0 where one has it.

    Raises:
        ValueError: the maps have different shapes.
    """
    _check_same_shape(a, b)
    both = voxel_counts(torch.where(a == b, a, torch.zeros_like(a)), ids).double()
    return 2 * both / (voxel_counts(a, ids) + voxel_counts(b, ids)).double()


def soft_dice(a: Tensor, b: Tensor, squares: bool = True) -> Tensor:
    """Compute the Dice of soft labels, differentiable in both.

    On zeros and ones both variants are the hard Dice.

    Args:
        a: (..., D, H, W), in [0, 1].
        b: (..., D, H, W), in [0, 1].
        squares: True divides by sum a^2 + sum b^2, so that 1 is reached for a == b and nothing else [3]. False divides
            by sum a + sum b; then a == b gives less than 1 where voxels are neither 0 nor 1.

    Returns:
        (...,), in [0, 1]; NaN, with gradient 0, where both are empty; 0 where one is empty; NaN where a value is not
        finite.

    Raises:
        ValueError: a and b have different shapes.
    """
    _check_same_shape(a, b)
    result: Tensor = _SoftDice.apply(a, b, squares)
    return result


class _SoftDice(torch.autograd.Function):
    """Soft Dice whose backward pass writes each gradient once, since memory traffic determines its time."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, squares: bool) -> Tensor:
        parts = (a * b, a * a, b * b) if squares else (a * b, a, b)
        both, of_a, of_b = (v.flatten(-3).sum(dim=-1) for v in parts)
        size = of_a + of_b
        # An empty label is divided by 1: 0 / 0 would make the gradient NaN for the other labels too.
        share = 1 / size.where(size != 0, 1)
        ctx.save_for_backward(a, b, 2 * share, 2 * both * share**2)
        ctx.squares = squares
        return (2 * both * share).where(size != 0, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b, *factors = ctx.saved_tensors
        rise, fall = ((gradients[0] * f)[..., None, None, None] for f in factors)
        results = []
        for this, other, needed in zip((a, b), (b, a), ctx.needs_input_grad, strict=False):
            if ctx.squares and needed:
                results.append((other * rise).addcmul_(this, fall, value=-2))
            else:
                results.append((other * rise).sub_(fall) if needed else None)
        return results[0], results[1], None


def surface_distances_mm(
    a: Tensor,
    b: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    boxes: tuple[Sequence[Box | None], Sequence[Box | None]] | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """Compute the distance of every surface voxel of each label from the label's surface in the other map.

    Args:
        a: integer label map (D, H, W), any device.
        b: integer label map (D, H, W), on the same grid.
        ids: N label values, positive.
        spacing_mm: (z, y, x).
        boxes: `metrics.boxes.label_boxes` of a and of b; None computes them.

    Returns:
        N pairs (from a to b, from b to a) of float64 arrays, mm, at least 0, unordered. Both are empty where a map
        lacks the label.

    Raises:
        ValueError: the maps have different shapes, or an id is below 1.
    """
    _check_same_shape(a, b)
    boxes = (label_boxes(a, ids), label_boxes(b, ids)) if boxes is None else boxes
    of_a, of_b = (
        [_surface_points(m.detach().cpu().numpy(), i, box, spacing_mm) for i, box in zip(ids, of_map, strict=True)]
        for m, of_map in zip((a, b), boxes, strict=True)
    )
    none = np.empty(0)
    return [
        (cKDTree(q).query(p)[0], cKDTree(p).query(q)[0]) if len(p) and len(q) else (none, none)
        for p, q in zip(of_a, of_b, strict=True)
    ]


def hd95_mm(a: Tensor, b: Tensor, ids: Sequence[int], spacing_mm: Sequence[float]) -> Tensor:
    """Compute the 95 % Hausdorff distance of each label: the larger of the two directed 95th percentiles.

    Percentiles are interpolated linearly. Source: [2], [4].

    Args:
        a: integer label map (D, H, W).
        b: integer label map (D, H, W), on the same grid.
        ids: N label values, positive.
        spacing_mm: (z, y, x).

    Returns:
        float64 (N,) on the CPU, mm, at least 0; NaN where a map lacks the label.

    Raises:
        ValueError: the maps have different shapes, or an id is below 1.
    """
    return hd95_from(surface_distances_mm(a, b, ids, spacing_mm))


def assd_mm(a: Tensor, b: Tensor, ids: Sequence[int], spacing_mm: Sequence[float]) -> Tensor:
    """Compute the average symmetric surface distance of each label: the mean over the surface voxels of both maps.

    Source: [4].

    Args:
        a: integer label map (D, H, W).
        b: integer label map (D, H, W), on the same grid.
        ids: N label values, positive.
        spacing_mm: (z, y, x).

    Returns:
        float64 (N,) on the CPU, mm, at least 0; NaN where a map lacks the label.

    Raises:
        ValueError: the maps have different shapes, or an id is below 1.
    """
    return assd_from(surface_distances_mm(a, b, ids, spacing_mm))


def hd95_from(distances: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """Compute `hd95_mm` from known distances.

    Args:
        distances: N pairs of arrays, mm, from `surface_distances_mm`.

    Returns:
        float64 (N,), mm, at least 0; NaN for a pair of empty arrays.
    """
    return torch.tensor([max(np.percentile(d, 95) for d in pair) if len(pair[0]) else np.nan for pair in distances],
                        dtype=torch.float64)  # fmt: skip


def assd_from(distances: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """Compute `assd_mm` from known distances.

    Args:
        distances: N pairs of arrays, mm, from `surface_distances_mm`.

    Returns:
        float64 (N,), mm, at least 0; NaN for a pair of empty arrays.
    """
    return torch.tensor([np.concatenate(pair).mean() if len(pair[0]) else np.nan for pair in distances],
                        dtype=torch.float64)  # fmt: skip


def _surface_points(labels: np.ndarray, label: int, box: Box | None, spacing_mm: Sequence[float]) -> np.ndarray:
    """Centres (P, 3) of the label's surface voxels, millimetres."""
    if box is None:
        return np.empty((0, 3))
    mask = labels[box] == label
    surface = mask & ~ndimage.binary_erosion(mask)
    return (np.argwhere(surface) + [s.start for s in box]) * np.asarray(spacing_mm, dtype=float)


def _check_same_shape(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise ValueError(f"a, b: expected one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
