"""How well two label maps agree: Dice, 95 % Hausdorff distance, average symmetric surface distance.

Surface: the voxels of a label with at least one of their six face neighbours outside it; beyond the grid is outside, so
a label cut by the border has a surface there. Distances run between voxel centres, in millimetres. This is MONAI's
definition and, up to its finer surface elements, that of [2].

What is empty is decided here, since libraries disagree: with the label absent on both sides nothing can be said (NaN);
absent on one side, Dice is 0 and a distance NaN.

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
    """Dice similarity coefficient of each label, 2 |A and B| / (|A| + |B|).

    a, b: integer label maps (D, H, W) of one grid. ids: N label values, positive.
    Returns float64 (N,), in [0, 1], symmetric in a and b; NaN where the label is in neither, 0 where only in one.
    Raises ValueError for maps of different shapes. Source: [1].
    """
    _check_same_shape(a, b)
    both = voxel_counts(torch.where(a == b, a, torch.zeros_like(a)), ids).double()
    return 2 * both / (voxel_counts(a, ids) + voxel_counts(b, ids)).double()


def soft_dice(a: Tensor, b: Tensor, squares: bool = True) -> Tensor:
    """Dice of soft labels, differentiable in both.

    a, b: (..., D, H, W), values in [0, 1]. squares: divide by sum a^2 + sum b^2, which makes 1 the value of a == b and
    of nothing else [3]; without, by sum a + sum b, whose value at a == b falls below 1 with every blurred voxel. Both
    are the hard Dice on zeros and ones.
    Returns (...,), in [0, 1]; NaN, with gradient 0, where both are empty, 0 where one is; NaN where a value is not
    finite. Raises ValueError for different shapes.
    """
    _check_same_shape(a, b)
    result: Tensor = _SoftDice.apply(a, b, squares)
    return result


class _SoftDice(torch.autograd.Function):
    """With a backward that writes each gradient once: volumes this large are memory traffic before they are sums."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor, squares: bool) -> Tensor:
        parts = (a * b, a * a, b * b) if squares else (a * b, a, b)
        both, of_a, of_b = (v.flatten(-3).sum(dim=-1) for v in parts)
        size = of_a + of_b
        # Divided by 1 where empty: 0 / 0 would make every gradient NaN, also that of a sum which leaves this label out.
        share = 1 / size.where(size != 0, 1)
        ctx.save_for_backward(a, b, 2 * share, 2 * both * share**2)
        ctx.squares = squares
        return (2 * both * share).where(size != 0, torch.nan)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        a, b, *factors = ctx.saved_tensors
        up, down = ((gradients[0] * f)[..., None, None, None] for f in factors)
        results = []
        for this, other, needed in zip((a, b), (b, a), ctx.needs_input_grad, strict=False):
            if ctx.squares and needed:
                results.append((other * up).addcmul_(this, down, value=-2))
            else:
                results.append((other * up).sub_(down) if needed else None)
        return results[0], results[1], None


def surface_distances_mm(
    a: Tensor,
    b: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    boxes: tuple[Sequence[Box | None], Sequence[Box | None]] | None = None,
) -> list[tuple[np.ndarray, np.ndarray]]:
    """For each label, how far every surface voxel of one map lies from the other map's surface.

    a, b: integer label maps (D, H, W) of one grid, any device. ids: N label values, positive. spacing_mm: z, y, x.
    boxes: `label_boxes` of a and of b, if known.
    Returns N pairs (from a to b, from b to a) of float64 arrays, millimetres, unordered; both of them empty where a
    side lacks the label. Raises ValueError for maps of different shapes.
    """
    _check_same_shape(a, b)
    found = (label_boxes(a, ids), label_boxes(b, ids)) if boxes is None else boxes
    of_a, of_b = (
        [_surface_points(m.detach().cpu().numpy(), i, box, spacing_mm) for i, box in zip(ids, these, strict=True)]
        for m, these in zip((a, b), found, strict=True)
    )
    nothing = np.empty(0)
    return [
        (cKDTree(q).query(p)[0], cKDTree(p).query(q)[0]) if len(p) and len(q) else (nothing, nothing)
        for p, q in zip(of_a, of_b, strict=True)
    ]


def hd95_mm(a: Tensor, b: Tensor, ids: Sequence[int], spacing_mm: Sequence[float]) -> Tensor:
    """95 % Hausdorff distance of each label: the larger of the two directed 95th percentiles, interpolated linearly.

    a, b: integer label maps (D, H, W) of one grid. ids: N label values, positive. spacing_mm: z, y, x.
    Returns float64 (N,) on the CPU, millimetres, at least 0; NaN where a side lacks the label. Source: [2], [4].
    """
    return hd95_from(surface_distances_mm(a, b, ids, spacing_mm))


def assd_mm(a: Tensor, b: Tensor, ids: Sequence[int], spacing_mm: Sequence[float]) -> Tensor:
    """Average symmetric surface distance of each label: the mean over the surface voxels of both maps, pooled.

    a, b: integer label maps (D, H, W) of one grid. ids: N label values, positive. spacing_mm: z, y, x.
    Returns float64 (N,) on the CPU, millimetres, at least 0; NaN where a side lacks the label. Source: [4].
    """
    return assd_from(surface_distances_mm(a, b, ids, spacing_mm))


def hd95_from(distances: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """`hd95_mm`, (N,) in millimetres, from `surface_distances_mm`: for both figures at the price of one."""
    return torch.tensor([max(np.percentile(d, 95) for d in pair) if len(pair[0]) else np.nan for pair in distances],
                        dtype=torch.float64)  # fmt: skip


def assd_from(distances: Sequence[tuple[np.ndarray, np.ndarray]]) -> Tensor:
    """`assd_mm`, (N,) in millimetres, from `surface_distances_mm`: for both figures at the price of one."""
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
        raise ValueError(f"labels: expected two of one shape, got {tuple(a.shape)} and {tuple(b.shape)}")
