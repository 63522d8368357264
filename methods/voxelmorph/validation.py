"""How good what a network predicts is, on validation patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from methods.base import Case, Preview, vertebra_ids
from methods.geometry import spacing_zyx
from methods.voxelmorph.inference import predict
from methods.voxelmorph.network import VelocityUNet
from metrics.fields import jacobian, jacobian_determinant, warp
from metrics.label_warping import warp_labels
from metrics.overlap import dice
from metrics.regularity import folding, sd_log_jacobian


def validate(
    network: VelocityUNet | None, cases: Sequence[Case], coarsening: int, device: str = "cpu", precision: str = "auto"
) -> tuple[dict[str, float], Preview | None]:
    """Figures over `cases`, and what the first of them looks like; without a network, of the pairs as they are.

    dsc: mean over the vertebrae that Table 1 counts, compared as there.
    sd_log_jacobian (plain), folding_voxels: means over patients.
    """
    scores: list[float] = []
    roughness, folds = [], []
    preview: Preview | None = None
    for case in cases:
        moving, fixed = case.compared_labels, case.pair.fixed.labels
        if moving is None or fixed is None:
            continue
        displacement = torch.zeros(1, 3, *case.pair.grid.shape)
        if network is not None:
            displacement = predict(network, case.pair.blind("validation"), coarsening, device, precision).cpu()
        # Labels that are not counted are warped too: they compete with their neighbours for a voxel.
        every = list(vertebra_ids(moving))
        warped = warp_labels(torch.from_numpy(moving.astype(np.int32)), displacement, every)
        scores += dice(warped, torch.from_numpy(fixed.astype(np.int32)), case.counted).tolist()
        determinant = jacobian_determinant(jacobian(displacement, spacing_zyx(case.pair.grid)))
        roughness.append(sd_log_jacobian(determinant.double()).item())
        folds.append(folding(determinant)[0].item())
        preview = preview or _preview(case, displacement, warped)
    figures = {"dsc": scores, "sd_log_jacobian": roughness, "folding_voxels": folds}
    return {name: float(np.nanmean(values)) for name, values in figures.items()}, preview


def _preview(case: Case, displacement: Tensor, warped_labels: Tensor) -> Preview:
    """The sagittal slice through the middle of the fixed labels, the head up."""
    labels = case.pair.fixed.labels
    assert labels is not None
    columns = np.flatnonzero((labels > 0).any(axis=(0, 1)))
    x = int(columns[len(columns) // 2]) if len(columns) else labels.shape[2] // 2
    moving = torch.from_numpy(case.pair.moving.image)[None, None]
    # The slice alone is warped: its points, not the volume's.
    points = displacement.clone()[..., x : x + 1]
    points[:, 2] += x
    image = warp(moving, points, padding="border")[0, 0, :, :, 0].numpy()
    z_mm, y_mm, _ = spacing_zyx(case.pair.grid)
    fixed, drawn, carried = case.pair.fixed.image[..., x], labels[..., x], warped_labels[..., x].numpy()
    return Preview(fixed[::-1], image[::-1], drawn[::-1], carried[::-1], z_mm / y_mm)


def chosen(history: Sequence[Mapping[str, float]], choose: str, after: int) -> Mapping[str, float]:
    """The validation record of the network to keep: the last, or the one of best DSC after step `after`."""
    return history[-1] if choose == "last" else max((h for h in history if h["step"] > after), key=lambda h: h["dsc"])
