"""What registration has to remove from a phantom, and how far the true field is from a blend of the true poses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt

from benchmark.datasets.synthesis.blending import blend, bone_distances
from benchmark.datasets.synthesis.sliding import sliding_surfaces
from benchmark.evaluation import Evaluation, label_tensor
from methods.base import Case, Registration, vertebra_ids
from methods.geometry import spacing_zyx, to_voxels
from metrics.fields import jacobian, jacobian_determinant
from metrics.procrustes import fit_rigid
from metrics.rigid import soft_rigid_dice

NEAR_BONE_MM = 10.0


@dataclass(frozen=True)
class Residual:
    """Of one patient.

    motion_mm2: mean squared motion of the vertebrae. left_mm2: the same after the best rigid transform of the whole.
    blend_mm: RMS distance of the true field from a blend of the true poses by the inverse cubed distance, up to 10 mm
    from bone and off bone. folds_pct: voxels where the true field folds, as it may where bones slide. sliding_pct:
    voxels beside a surface on which they do.
    """

    motion_mm2: float
    left_mm2: float
    blend_mm: float
    folds_pct: float
    sliding_pct: float


def residual_of(case: Case) -> Residual:
    """Measure one patient whose truth is known."""
    u, fixed, core, grid = case.true_displacement_mm, case.pair.fixed.labels, case.true_core, case.pair.grid
    assert u is not None and fixed is not None and core is not None
    points = torch.from_numpy(grid.points_mm())
    to_moving, rigid = {}, np.nonzero(core)
    for v in vertebra_ids(fixed):
        source = points[torch.from_numpy(core & (fixed == v))]
        if len(source) > 10:
            target = source + torch.from_numpy(u[core & (fixed == v)]).double()
            rotation, translation = fit_rigid(source, target)
            to_moving[v] = rotation.numpy(), translation.numpy()
    source = points[rigid]
    target = source + torch.from_numpy(u[rigid]).double()
    rotation, translation = fit_rigid(source, target)
    left = target - source @ rotation.T - translation
    (blended,) = blend(bone_distances(fixed, list(to_moving), grid), (to_moving,), grid)
    away = distance_transform_edt(fixed == 0, spacing_zyx(grid))
    # Drawn labels differ from exact ones by about a millimetre.
    near = (away > 2) & (away < NEAR_BONE_MM)
    difference = np.moveaxis(blended, 0, -1)[near] - u[near]
    determinant = jacobian_determinant(jacobian(to_voxels(u, grid), spacing_zyx(grid)))
    return Residual(
        float((target - source).square().sum(1).mean()),
        float(left.square().sum(1).mean()),
        float(np.sqrt(np.square(difference).sum(axis=1).mean())),
        100 * float((determinant <= 0).float().mean()),
        100 * float(sliding_surfaces(fixed, grid).mean()),
    )


def soft_rigid_fits(case: Case) -> dict[int, tuple[float, float]]:
    """By vertebra, on the scale of the paper's code: DSC of the SSD-closest rigid fit, rigid DSC of the true field."""
    ids, spacing = case.counted, spacing_zyx(case.pair.grid)
    moving, fixed = label_tensor(case.compared_labels), label_tensor(case.pair.fixed.labels)
    assert case.true_displacement_mm is not None
    true = Evaluation(case, Registration(case.true_displacement_mm), ids)
    fits = soft_rigid_dice(moving, fixed, ids, spacing).tolist()
    exact = soft_rigid_dice(moving, true.warped_soft, ids, spacing, true.displacement).tolist()
    return dict(zip(ids, zip(fits, exact, strict=True), strict=True))
