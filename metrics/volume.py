"""How large a label is, and how a registration changes its size.

The paper's "relative volume change" column (Table 1, Fig. 2) and the direct volume loss. Moving and warped label lie on
one grid, so a voxel's volume cancels and voxel counts suffice.

References:
    [1] Jian et al., Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine, MICCAI 2022.
        https://arxiv.org/abs/2205.07568
    [2] Rohlfing et al., Volume-preserving nonrigid registration of MR breast images, IEEE TMI 22(6), 2003.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def voxel_counts(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Voxels of each label.

    labels: integer, any shape, no value negative. ids: N label values.
    Returns int64 (N,); 0 for a label that is absent.
    """
    flat = labels.reshape(-1)
    counts = torch.bincount(flat.int() if flat.dtype == torch.uint16 else flat, minlength=max(ids, default=0) + 1)
    return counts[torch.as_tensor(list(ids), dtype=torch.int64, device=labels.device)]


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
