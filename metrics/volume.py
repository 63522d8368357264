"""The size of a label, and how much a registration changes it.

This is the paper's "relative volume change" (Table 1, Fig. 2) and the direct volume loss. Moving and warped label are
on one grid, so the volume of a voxel cancels and voxel counts suffice.

References:
    [1] Jian et al., Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine, MICCAI 2022.
        https://arxiv.org/abs/2205.07568
    [2] Rohlfing et al., Volume-preserving nonrigid registration of MR breast images, IEEE TMI 22(6), 2003.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from metrics.soft_labels import SoftLabels


def voxel_counts(labels: Tensor, ids: Sequence[int]) -> Tensor:
    """Count the voxels of each label.

    Args:
        labels: integer (D, H, W) or any other shape, without negative values.
        ids: N label values.

    Returns:
        int64 (N,), voxels; 0 for a label that is absent.
    """
    flat = labels.reshape(-1)
    counts = torch.bincount(flat.int() if flat.dtype == torch.uint16 else flat, minlength=max(ids, default=0) + 1)
    return counts[torch.as_tensor(list(ids), dtype=torch.int64, device=labels.device)]


def volume_change_pct(moving: Tensor, warped: Tensor, ids: Sequence[int]) -> Tensor:
    """Compute the signed volume change of each label. The paper's column is its absolute value.

    Source: [1], Table 1, "volume change", on hard labels.

    Args:
        moving: integer label map (D, H, W).
        warped: integer label map (D, H, W), on the same grid.
        ids: N label values.

    Returns:
        float64 (N,), percent of the label's volume in `moving`, at least -100 (the label is lost); NaN where `moving`
        lacks the label.
    """
    before, after = voxel_counts(moving, ids).double(), voxel_counts(warped, ids).double()
    change = 100.0 * (after - before) / before
    return torch.where(before > 0, change, torch.full_like(change, torch.nan))


def soft_volume_change_pct(moving: Tensor, warped: Tensor | SoftLabels, ids: Sequence[int]) -> Tensor:
    """Compute the signed volume change of each label from its soft warped label.

    A soft label sums to the volume of the warped label but for 0.001 % of an exactly rigid motion. The count of a hard
    label loses or gains up to 1 % by rounding, mostly the same way: as much as good methods differ.

    Args:
        moving: integer label map (D, H, W).
        warped: soft labels (N, d, h, w), in [0, 1], whole or as crops, on a grid of the same spacing.
        ids: N label values.

    Returns:
        float64 (N,), percent of the label's volume in `moving`, at least -100 (the label is lost); NaN where `moving`
        lacks the label.
    """
    before = voxel_counts(moving, ids).double()
    after = warped.sums(torch.float64) if isinstance(warped, SoftLabels) else warped.double().sum(dim=(1, 2, 3))
    change = 100.0 * (after - before) / before.where(before > 0, 1)
    return change.where(before > 0, torch.nan)


def volume_loss(moving: Tensor, warped: Tensor) -> Tensor:
    """Compute the direct volume loss: the mean over N vertebrae of ((sum warped - sum moving) / sum moving)^2.

    Source: this project, after the volume term of [2].

    Args:
        moving: soft labels (..., N, D, H, W), in [0, 1].
        warped: soft labels (..., N, D, H, W), in [0, 1], on the same grid.

    Returns:
        (...,), at least 0, without unit, differentiable in both arguments. A label that is lost adds 1 / N. NaN where a
        moving label is empty, with gradient 0 through that label; leave such labels out.
    """
    before, after = moving.sum(dim=(-3, -2, -1)), warped.sum(dim=(-3, -2, -1))
    # An empty label is divided by 1: 0 / 0 would make the gradient NaN for the other labels too.
    change = (after - before) / before.where(before > 0, 1)
    return change.where(before > 0, torch.nan).square().mean(dim=-1)
