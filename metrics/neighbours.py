"""Neighbouring bones after a registration: the least distance between them, and where they run into each other.

A registration may place each bone well and still close a joint or push one bone into the next. The overlap with the
fixed labels hardly shows that.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial import cKDTree
from torch import Tensor

from metrics._closest_rigid import RigidFit
from metrics.boxes import Box, label_boxes
from metrics.soft_labels import SoftLabels

# Every so many points give a first limit of the least distance.
_SOME = 20


def gaps_mm(
    soft: Tensor | SoftLabels, pairs: Sequence[tuple[int, int]], spacing_mm: Sequence[float],
    boxes: Sequence[Box | None],
) -> Tensor:  # fmt: skip
    """Compute the least distance between the surfaces of two soft labels, for pairs of labels.

    Args:
        soft: soft labels (N, D, H, W), in [0, 1], whole or as crops.
        pairs: K pairs of indices into `soft`.
        spacing_mm: (z, y, x).
        boxes: N boxes of the voxels where each label is not 0; None for an empty label.

    Returns:
        float64 (K,) on the CPU, mm, at least 0; NaN where a label is nowhere above 0.5. A surface is where the label
        passes 0.5, by linear interpolation between voxels; a label cut by the border has a surface there.
    """
    surfaces = {}
    for k in sorted({k for pair in pairs for k in pair}):
        box = boxes[k]
        crop = None if box is None else soft.crop(k, box) if isinstance(soft, SoftLabels) else soft[k][box]
        surfaces[k] = _surface_points_mm(crop, spacing_mm, box).cpu().double().numpy()
    return torch.tensor([_least_distance(surfaces[a], surfaces[b]) for a, b in pairs], dtype=torch.float64)


def _least_distance(a: np.ndarray, b: np.ndarray) -> float:
    """The least distance between two sets of points (P, 3); NaN where one is empty."""
    if not len(a) or not len(b):
        return float("nan")
    # No pair further apart than the nearest of some points can have the least distance.
    limit = cKDTree(a[::_SOME]).query(b[::_SOME])[0].min() * (1 + 1e-9) + 1e-9
    a = a[((a >= b.min(axis=0) - limit) & (a <= b.max(axis=0) + limit)).all(axis=1)]
    b = b[((b >= a.min(axis=0) - limit) & (b <= a.max(axis=0) + limit)).all(axis=1)]
    return float(cKDTree(a).query(b)[0].min())


def overlaps_pct(
    labels: Tensor, fit: RigidFit, ids: Sequence[int], pairs: Sequence[tuple[int, int]], spacing_mm: Sequence[float]
) -> Tensor:
    """Compute how much of a bone lies inside another one, where each moves by its closest rigid transform.

    Labels that one field warps never overlap, since each fixed point has one moving point. The motions of the bones
    that the field implies may still push one into the other.

    Args:
        labels: integer moving map (D, H, W).
        fit: N transforms, of `metrics.rigid.closest_rigid`.
        ids: N label values, positive.
        pairs: K pairs of indices into `ids`.
        spacing_mm: (z, y, x), of both grids.

    Returns:
        float64 (K,) on the CPU, in [0, 100], percent of the smaller bone's voxels; NaN where a bone has no transform.
    """
    spacing = torch.tensor(tuple(spacing_mm), dtype=torch.float64, device=labels.device)
    shape = torch.tensor(labels.shape, device=labels.device)
    boxes = dict(zip(ids, label_boxes(labels, ids), strict=True))
    voxels = {k: _voxels(labels, ids[k], boxes[ids[k]]) for k in sorted({k for pair in pairs for k in pair})}
    result = []
    for a, b in pairs:
        rotations, translations = fit.rotation[[a, b]].double(), fit.translation[[a, b]].double()
        known = bool(rotations.isfinite().all() and translations.isfinite().all())
        if not known or not len(voxels[a]) or not len(voxels[b]):
            result.append(float("nan"))
            continue
        fixed = (voxels[a] * spacing - translations[0]) @ rotations[0]
        reached = ((fixed @ rotations[1].T + translations[1]) / spacing).round().long()
        reached = reached[((reached >= 0) & (reached < shape)).all(dim=1)]
        inside = int((labels[reached.unbind(1)] == ids[b]).sum())
        result.append(100.0 * inside / min(len(voxels[a]), len(voxels[b])))
    return torch.tensor(result, dtype=torch.float64)


def _voxels(labels: Tensor, label: int, box: Box | None) -> Tensor:
    """The voxels (P, 3) of a label."""
    if box is None:
        return labels.new_empty((0, 3), dtype=torch.int64)
    return (labels[box] == label).nonzero() + torch.tensor([s.start for s in box], device=labels.device)


def _surface_points_mm(crop: Tensor | None, spacing_mm: Sequence[float], box: Box | None) -> Tensor:
    """The points (P, 3), mm, on grid lines where a soft label, known in its box, passes 0.5; none without a box.

    Outside the grid is outside the label.
    """
    if crop is None or box is None:
        return torch.empty((0, 3))
    values = F.pad(crop, (1,) * 6)
    first = crop.new_tensor([s.start - 1 for s in box])
    found = []
    for axis in range(3):
        low, high = values.narrow(axis, 0, values.shape[axis] - 1), values.narrow(axis, 1, values.shape[axis] - 1)
        places = ((low > 0.5) != (high > 0.5)).nonzero()
        before, after = low[places.unbind(1)], high[places.unbind(1)]
        points = places + first
        points[:, axis] += (0.5 - before) / (after - before)
        found.append(points)
    return torch.cat(found) * crop.new_tensor(tuple(spacing_mm))
