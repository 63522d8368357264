"""How large a label is, where it is, and how a registration changes its size.

The paper's "relative volume change" column (Table 1, Fig. 2) and the direct volume loss. Moving and warped label lie on
one grid, so a voxel's volume cancels and voxel counts suffice.

References:
    [1] Jian et al., Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine, MICCAI 2022.
        https://arxiv.org/abs/2205.07568
    [2] Rohlfing et al., Volume-preserving nonrigid registration of MR breast images, IEEE TMI 22(6), 2003.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

Box = tuple[slice, slice, slice]


def voxel_counts(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Voxels of each label.

    labels: integer, any shape, no value negative. ids: N label values.
    Returns int64 (N,); 0 for a label that is absent.
    """
    flat = labels.reshape(-1)
    counts = torch.bincount(flat.int() if flat.dtype == torch.uint16 else flat, minlength=max(ids, default=0) + 1)
    return counts[torch.as_tensor(list(ids), dtype=torch.int64, device=labels.device)]


def bounding_box(mask: Tensor) -> Box | None:
    """The smallest box that holds every non-zero voxel, as three slices, or None for an empty mask.

    mask: (..., D, H, W), any dtype; leading axes are pooled.
    """
    if mask.dtype in (torch.bool, torch.uint16):
        mask = mask.to(torch.uint8) if mask.dtype == torch.bool else mask.int()
    volumes = mask.reshape(-1, *mask.shape[-3:])
    slices = []
    # Largest and smallest value along the innermost axes first: many times faster than `any`; NaN is not zero either.
    side, front = (torch.stack([volumes.amax(dim=a), volumes.amin(dim=a)]) != 0 for a in (3, 2))
    for profile in (side.any(dim=3).flatten(0, 1), side.any(dim=2).flatten(0, 1), front.any(dim=2).flatten(0, 1)):
        where = profile.any(dim=0).nonzero()
        if not len(where):
            return None
        slices.append(slice(int(where[0]), int(where[-1]) + 1))
    return slices[0], slices[1], slices[2]


def label_boxes(labels: Tensor, ids: Sequence[int]) -> list[Box | None]:
    """The `bounding_box` of each label, all found in one pass over the map.

    labels: integer (D, H, W), any device. ids: N label values, positive.
    Returns N boxes, in voxels; None for an absent label. Raises ValueError for an id below 1.
    """
    if min(ids, default=1) < 1:
        raise ValueError(f"ids: expected positive label values, got {list(ids)}")
    volume = np.ascontiguousarray(labels.detach().cpu().numpy(), dtype=np.int32)
    found = ndimage.find_objects(volume, max_label=max(ids, default=0))
    return [found[i - 1] for i in ids]


def volume_change_pct(moving: Tensor, warped: Tensor, ids: Sequence[int]) -> Tensor:
    """Signed volume change of each label in percent of its volume in the moving scan: the paper's column is its abs().

    moving, warped: integer label maps (D, H, W) of one grid. ids: N label values.
    Returns float64 (N,), from -100 (the label is gone) up; NaN where the moving scan lacks the label.
    Source: [1], Table 1, "volume change"; hard labels.
    """
    before, after = voxel_counts(moving, ids).double(), voxel_counts(warped, ids).double()
    change = 100.0 * (after - before) / before
    return torch.where(before > 0, change, torch.full_like(change, torch.nan))


def volume_loss(moving: Tensor, warped: Tensor) -> Tensor:
    """The direct volume penalty: mean over vertebrae of ((sum warped - sum moving) / sum moving)^2.

    moving, warped: soft labels (..., N, D, H, W) of one grid, values in [0, 1]; differentiable in both.
    Returns (...,), at least 0, without unit; a label that is lost adds 1 / N. NaN, with gradient 0 through that label,
    where a moving label is empty, so leave such labels out.
    Source: this project, after the volume term of [2].
    """
    before, after = moving.sum(dim=(-3, -2, -1)), warped.sum(dim=(-3, -2, -1))
    # Divided by 1 where empty: 0 / 0 would make every gradient NaN, also that of a sum which leaves this item out.
    change = (after - before) / before.where(before > 0, 1)
    return change.where(before > 0, torch.nan).square().mean(dim=-1)
