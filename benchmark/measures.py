"""The built-in metrics: each fills one column of vertebrae.parquet or cases.parquet, which it declares here.

A metric is one registered function of an `Evaluation`::

    @METRICS.register("mean_motion_mm", per="case", unit="mm", title="Mean motion", better="lower")
    def mean_motion_mm(evaluation: Evaluation) -> float: ...

`per="case"` gives one value, `per="vertebra"` one for each of `evaluation.ids`. A value that cannot be computed is NaN
or None. Equations are in `metrics/`.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from benchmark.evaluation import Evaluation
from methods.registry import METRICS
from metrics import fields, landmarks, neighbours, overlap, regularity, rigid, similarity, volume
from metrics.boxes import covering_box


@METRICS.register("dsc", per="vertebra", title="DSC", better="higher")
def dsc(e: Evaluation) -> Tensor:
    """Dice of hard warped moving labels and fixed labels."""
    return overlap.dice(e.warped, e.fixed, e.ids)


@METRICS.register("rigid_dsc", per="vertebra", title="Rigid DSC", better="higher")
def rigid_dsc(e: Evaluation) -> Tensor:
    """Dice of the warped label and the moving label under its closest rigid transform (eqs. 2, 3), hard labels."""
    boxes = e.with_moving(e.warped_boxes)
    value = rigid.rigid_dice(e.moving, e.warped, e.ids, e.spacing_mm, fit=e.closest_rigid, boxes=boxes)
    return value.masked_fill(e.lost, 0.0)


@METRICS.register("soft_dsc", per="vertebra", title="Soft DSC", better="higher")
def soft_dsc(e: Evaluation) -> Tensor:
    """Dice of soft warped moving labels and fixed labels without squares, as the paper's released code computes it."""
    values = []
    for k, (v, *both) in enumerate(zip(e.ids, e.warped_crops.boxes, e.fixed_boxes, strict=True)):
        box = covering_box(both)
        soft = e.warped_crops.crop(k, box or (slice(0, 0),) * 3)
        fixed = torch.zeros_like(soft) if box is None else (e.fixed[box] == v).to(soft.dtype)
        values.append(overlap.soft_dice(soft, fixed, squares=False))
    return torch.stack(values) if values else torch.zeros(0)


@METRICS.register("soft_rigid_dsc", per="vertebra", title="Soft rigid DSC", better="higher")
def soft_rigid_dsc(e: Evaluation) -> Tensor:
    """Rigid DSC of soft labels without squares, as the paper's released code computes it."""
    boxes = e.with_moving(e.warped_crops.boxes)
    value = rigid.soft_rigid_dice(e.moving, e.warped_crops, e.ids, e.spacing_mm, fit=e.closest_rigid, boxes=boxes)
    return value.masked_fill(e.lost, 0.0)


@METRICS.register("volume_change_pct", per="vertebra", unit="%", title="%Δvol", better="lower")
def volume_change_pct(e: Evaluation) -> Tensor:
    """Absolute change of each vertebra's soft volume, percent of its moving volume."""
    return e.volume_change_pct.abs()


@METRICS.register("volume_change_signed_pct", per="vertebra", unit="%", title="Signed %Δvol")
def volume_change_signed_pct(e: Evaluation) -> Tensor:
    """Signed change of each vertebra's soft volume, percent of its moving volume."""
    return e.volume_change_pct


@METRICS.register("hard_volume_change_pct", per="vertebra", unit="%", title="Hard %Δvol", better="lower")
def hard_volume_change_pct(e: Evaluation) -> Tensor:
    """Absolute change of each vertebra's voxel count, percent; an exactly rigid motion changes it by up to 1 %."""
    return volume.volume_change_pct(e.moving, e.warped, e.ids).abs()


@METRICS.register("hd95_mm", per="vertebra", unit="mm", title="HD95", better="lower")
def hd95_mm(e: Evaluation) -> Tensor:
    """95 % Hausdorff distance of warped and fixed label, mm; the grid's diagonal for a lost vertebra."""
    return overlap.hd95_from(e.surface_distances).masked_fill(e.lost, e.largest_distance_mm)


@METRICS.register("assd_mm", per="vertebra", unit="mm", title="ASSD", better="lower")
def assd_mm(e: Evaluation) -> Tensor:
    """Average symmetric surface distance of warped and fixed label, mm; the grid's diagonal for a lost vertebra."""
    return overlap.assd_from(e.surface_distances).masked_fill(e.lost, e.largest_distance_mm)


@METRICS.register("rotation_error_deg", per="vertebra", unit="deg", title="Rotation error", better="lower")
def rotation_error_deg(e: Evaluation) -> list[float]:
    """Angle between the estimated and the true rigid motion of a vertebra, degrees."""
    return e.pose_errors["rotation_error_deg"]


@METRICS.register("translation_error_mm", per="vertebra", unit="mm", title="Translation error", better="lower")
def translation_error_mm(e: Evaluation) -> list[float]:
    """Distance between the estimated and the true motion of a vertebra's centroid, mm."""
    return e.pose_errors["translation_error_mm"]


@METRICS.register("tre_mm", per="vertebra", unit="mm", title="TRE", better="lower")
def tre_mm(e: Evaluation) -> list[float]:
    """Mean distance between the estimated and the true displacement over a vertebra, mm."""
    return e.pose_errors["tre_mm"]


@METRICS.register("gap_error_mm", per="vertebra", unit="mm", title="Gap error", better="lower")
def gap_error_mm(e: Evaluation) -> Tensor | list[float]:
    """Difference of the least distance to the next lower vertebra from that of labels that the true field warps, mm."""
    if e.true_gaps_mm is None:
        return [np.nan] * len(e.ids)
    return e.by_upper((e.gaps_mm - e.true_gaps_mm).abs())


@METRICS.register("neighbour_overlap_pct", per="vertebra", unit="%", title="Neighbour overlap", better="lower")
def neighbour_overlap_pct(e: Evaluation) -> Tensor:
    """Overlap with the next lower vertebra, each moved by its closest rigid transform, percent of the smaller one."""
    return e.by_upper(neighbours.overlaps_pct(e.moving, e.closest_rigid, e.ids, e.neighbours, e.spacing_mm))


@METRICS.register("folding_voxels", per="case", dtype="Int64", title="|J|≤0", better="lower")
def folding_voxels(e: Evaluation) -> Tensor:
    """Voxels where |J| <= 0, over the fixed grid without 2 voxels at each side."""
    return regularity.folding(e.determinant)[0]


@METRICS.register("folding_pct", per="case", unit="%", title="|J|≤0", better="lower")
def folding_pct(e: Evaluation) -> Tensor:
    """Voxels where |J| <= 0, percent of the fixed grid without 2 voxels at each side."""
    return regularity.folding(e.determinant)[1]


@METRICS.register("sd_log_jacobian", per="case", title="SD log|J|", better="lower")
def sd_log_jacobian(e: Evaluation) -> Tensor:
    """SD of log|J|, convention `plain`."""
    return regularity.sd_log_jacobian(e.determinant.double(), "plain")


@METRICS.register("sd_log_jacobian_l2r", per="case", title="SD log|J| l2r", better="lower")
def sd_log_jacobian_l2r(e: Evaluation) -> Tensor:
    """SD of log(|J| + 3), the Learn2Reg convention of the released code."""
    return regularity.sd_log_jacobian(e.determinant.double(), "l2r")


@METRICS.register("properness", per="case", title="Properness", better="lower")
def properness(e: Evaluation) -> Tensor:
    """Properness condition (eq. 6) over the warped soft labels, mean over vertebrae that are not lost."""
    return e.rigidity[0].nanmean()


@METRICS.register("orthonormality", per="case", title="Orthonormality", better="lower")
def orthonormality(e: Evaluation) -> Tensor:
    """Orthonormal condition (eq. 7) over the warped soft labels, mean over vertebrae that are not lost."""
    return e.rigidity[1].nanmean()


@METRICS.register("similarity", per="case", title="MIND-SSC", better="lower")
def mind(e: Evaluation) -> Tensor:
    """MIND-SSC distance of the fixed and the warped moving image where both scans saw: lower is more alike."""
    moving, fixed = (torch.from_numpy(s.image)[None, None] for s in (e.case.pair.moving, e.case.pair.fixed))
    warped = fields.warp(moving, e.displacement, padding="border")
    masks = (s.inside for s in (e.case.pair.moving, e.case.pair.fixed))
    seen = (None if mask is None else torch.from_numpy(mask)[None, None] for mask in masks)
    return similarity.mind_loss(warped, fixed, similarity.seen_in_both(e.displacement, moving.shape[2:], *seen))[0]


@METRICS.register("landmark_tre_mm", per="case", unit="mm", title="Landmark TRE", better="lower")
def landmark_tre_mm(e: Evaluation) -> float:
    """Mean distance between the estimated and the true position of the landmarks in the moving scan, mm."""
    if e.case.landmarks_mm is None:
        return np.nan
    grid = e.case.pair.grid
    fixed, moving = (torch.from_numpy(grid.to_indices_xyz(p)[:, ::-1].copy()) for p in e.case.landmarks_mm)
    return float(landmarks.landmark_error_mm(e.displacement, fixed, moving, e.spacing_mm).mean())
