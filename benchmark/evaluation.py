"""From a displacement to the columns of the tables. The fixed labels live here and nowhere nearer to a method.

A metric is one registered function of an `Evaluation`::

    @METRICS.register("mean_motion_mm", per="case")
    def mean_motion_mm(evaluation: Evaluation) -> float: ...

per="case" gives one figure, per="vertebra" one for each of `evaluation.ids`. Equations stand in `metrics/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import Case, Registration
from methods.geometry import spacing_zyx, to_voxels
from methods.registry import METRICS
from metrics import boxes, fields, label_warping, landmarks, overlap, regularity, rigid, similarity, volume


@dataclass(frozen=True)
class Evaluation:
    """One registration of one case, with all that several columns share, computed once.

    ids: the vertebrae that are evaluated, N of them. Tensors are as in `metrics/`: fields (1, 3, D, H, W) in voxels,
    labels (D, H, W) int32, spacing_mm (z, y, x).
    """

    case: Case
    registration: Registration
    ids: Sequence[int]

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        return spacing_zyx(self.case.pair.grid)

    @cached_property
    def displacement(self) -> Tensor:
        return to_voxels(self.registration.displacement_mm, self.case.pair.grid)

    @cached_property
    def true_displacement(self) -> Tensor | None:
        truth = self.case.true_displacement_mm
        return None if truth is None else to_voxels(truth, self.case.pair.grid)

    @cached_property
    def moving(self) -> Tensor:
        return label_tensor(self.case.compared_labels)

    @cached_property
    def fixed(self) -> Tensor:
        return label_tensor(self.case.pair.fixed.labels)

    @cached_property
    def moving_boxes(self) -> dict[int, boxes.Box | None]:
        """The bounding box of every vertebra of the moving labels, those that are not evaluated among them."""
        every = [v for v, (moving, _) in self.case.voxels.items() if moving]
        return dict(zip(every, boxes.label_boxes(self.moving, every), strict=True))

    @cached_property
    def warped_boxes(self) -> list[boxes.Box | None]:
        """Of each of `ids` its bounding box in the hard warped labels."""
        return boxes.label_boxes(self.warped, self.ids)

    @cached_property
    def warped_soft_boxes(self) -> list[boxes.Box | None]:
        """Of each of `ids` the bounding box of its soft warped label."""
        return [boxes.bounding_box(label) for label in self.warped_soft]

    def with_moving(self, warped: Sequence[boxes.Box | None]) -> list[tuple[boxes.Box, boxes.Box] | None]:
        """Of each of `ids` its box in the moving labels and the one in `warped`; None where either is None."""
        return boxes.pair_boxes([self.moving_boxes.get(v) for v in self.ids], warped)

    @property
    def warped(self) -> Tensor:
        """Hard warped moving labels, of every vertebra and not only of `ids`: neighbours compete for a voxel."""
        return self._warped_both[0]

    @property
    def warped_soft(self) -> Tensor:
        return self._warped_both[1]

    @cached_property
    def _warped_both(self) -> tuple[Tensor, Tensor]:
        every, found = list(self.moving_boxes), list(self.moving_boxes.values())
        return label_warping.warp_labels_and_soft(self.moving, self.displacement, every, self.ids, found)

    @cached_property
    def determinant(self) -> Tensor:
        return fields.jacobian_determinant(fields.jacobian(self.displacement, self.spacing_mm))

    @cached_property
    def rigidity(self) -> tuple[Tensor, Tensor]:
        return regularity.rigidity(self.displacement, self.warped_soft, self.spacing_mm, self.warped_soft_boxes)

    @cached_property
    def closest_rigid(self) -> rigid.RigidFit:
        """Fitted to the soft warped labels: a hard one has lost up to half a voxel and its pose with it."""
        return rigid.closest_rigid(
            self.moving, self.warped_soft, self.ids, self.spacing_mm, self.displacement,
            boxes=self.with_moving(self.warped_soft_boxes),
        )  # fmt: skip

    @cached_property
    def volume_change_pct(self) -> Tensor:
        """Signed volume change of each of `ids`, percent."""
        return volume.volume_change_pct(self.moving, self.warped, self.ids)

    @cached_property
    def surface_distances(self) -> list[tuple[np.ndarray, np.ndarray]]:
        found = self.warped_boxes, boxes.label_boxes(self.fixed, self.ids)
        return overlap.surface_distances_mm(self.warped, self.fixed, self.ids, self.spacing_mm, found)

    @cached_property
    def pose_errors(self) -> dict[str, list[float]]:
        """Errors against the truth over each true fixed label's rigid core; NaN where no truth is known."""
        names = ("rotation_error_deg", "translation_error_mm", "tre_mm")
        errors: dict[str, list[float]] = {name: [] for name in names}
        truth, core = self.true_displacement, self.case.true_core
        for v in self.ids:
            mask = self.fixed == v
            if core is not None:
                mask &= torch.from_numpy(core)
            values = [np.nan] * 3
            if truth is not None:
                values = [float(e) for e in rigid.pose_error(self.displacement, truth, mask, self.spacing_mm)]
            for name, value in zip(names, values, strict=True):
                errors[name].append(value)
        return errors


def label_tensor(labels: np.ndarray | None) -> Tensor:
    """A label map as an int32 tensor."""
    if labels is None:
        raise ValueError("labels: expected a label map, got None; this case cannot be evaluated")
    return torch.from_numpy(labels.astype(np.int32))


def evaluate(case: Case, registration: Registration) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray]:
    """Every registered metric of one registration.

    Returns the case's figures by column, a dictionary per evaluated vertebra, and the hard warped labels (z, y, x).
    """
    ids = case.counted
    evaluation = Evaluation(case, registration, ids)
    figures: dict[str, Any] = {}
    vertebrae: list[dict[str, Any]] = [{"vertebra": v} for v in ids]
    for entry in METRICS:
        value = entry.load()(evaluation)
        if entry.settings["per"] == "case":
            figures[entry.name] = _number(value)
        else:
            for row, v in zip(vertebrae, value, strict=True):
                row[entry.name] = _number(v)
    return figures, vertebrae, evaluation.warped.numpy().astype(np.uint16)


def describe_pair(case: Case, ceiling: bool = True) -> list[dict[str, Any]]:
    """What is known of a pair before any registration: a row per vertebra of either label map.

    ceiling: also the best per-vertebra rigid fit of moving to fixed label, which takes a second or two, and what the
    true field scores where one is known (true_dsc, true_rigid_dsc, true_volume_change_pct).
    """
    moving, fixed = label_tensor(case.compared_labels), label_tensor(case.pair.fixed.labels)
    spacing_mm = spacing_zyx(case.pair.grid)
    initial = overlap.dice(moving, fixed, list(case.voxels)).tolist()
    rows = []
    for (v, (n_moving, n_fixed)), dsc in zip(case.voxels.items(), initial, strict=True):
        rows.append({
            "vertebra": v,
            "initial_dsc": dsc,
            "label_volume_difference_pct": 100 * abs(n_fixed - n_moving) / n_moving if n_moving else np.nan,
            "voxels_moving": n_moving,
            "voxels_fixed": n_fixed,
            "touches_border": _touches_border(moving == v) or _touches_border(fixed == v),
            "excluded_reason": case.not_counted.get(v),
        })  # fmt: skip
    kept = case.counted
    best = rigid.rigid_dice(moving, fixed, kept, spacing_mm).tolist() if ceiling and kept else []
    truth = _true_figures(case, kept) if ceiling and kept else {}
    for row in rows:
        place = kept.index(row["vertebra"]) if row["vertebra"] in kept else None
        row["ceiling_dsc"] = best[place] if best and place is not None else None
        for name, figures in truth.items():
            row[name] = figures[place] if place is not None else None
    return rows


def _true_figures(case: Case, ids: Sequence[int]) -> dict[str, list[Any]]:
    """What a table shows of the true field, by vertebra of `ids`; nothing where no truth is known."""
    if case.true_displacement_mm is None:
        return {}
    true = Evaluation(case, Registration(case.true_displacement_mm), ids)
    figures = {"true_dsc": dsc, "true_rigid_dsc": rigid_dsc, "true_volume_change_pct": volume_change_pct}
    return {name: [_number(value) for value in metric(true)] for name, metric in figures.items()}


def _touches_border(mask: Tensor) -> bool:
    return any(bool(mask.select(axis, end).any()) for axis in range(3) for end in (0, -1))


def _number(value: Any) -> float | int | None:
    """A plain number for JSON; None for what could not be computed."""
    number = value.item() if hasattr(value, "item") else value
    return None if number is None or not np.isfinite(number) else number


@METRICS.register("dsc", per="vertebra")
def dsc(e: Evaluation) -> Tensor:
    """Dice of hard warped moving labels and fixed labels."""
    return overlap.dice(e.warped, e.fixed, e.ids)


@METRICS.register("rigid_dsc", per="vertebra")
def rigid_dsc(e: Evaluation) -> Tensor:
    """Dice of the warped label and the moving label under its closest rigid transform (eqs. 2, 3), hard labels."""
    found = e.with_moving(e.warped_boxes)
    return rigid.rigid_dice(e.moving, e.warped, e.ids, e.spacing_mm, fit=e.closest_rigid, boxes=found)


@METRICS.register("volume_change_pct", per="vertebra")
def volume_change_pct(e: Evaluation) -> Tensor:
    """Absolute volume change of each vertebra, percent of its moving volume."""
    return e.volume_change_pct.abs()


@METRICS.register("volume_change_signed_pct", per="vertebra")
def volume_change_signed_pct(e: Evaluation) -> Tensor:
    """Signed volume change of each vertebra, percent of its moving volume."""
    return e.volume_change_pct


@METRICS.register("hd95_mm", per="vertebra")
def hd95_mm(e: Evaluation) -> Tensor:
    """95 % Hausdorff distance of warped and fixed label, mm."""
    return overlap.hd95_from(e.surface_distances)


@METRICS.register("assd_mm", per="vertebra")
def assd_mm(e: Evaluation) -> Tensor:
    """Average symmetric surface distance of warped and fixed label, mm."""
    return overlap.assd_from(e.surface_distances)


@METRICS.register("rotation_error_deg", per="vertebra")
def rotation_error_deg(e: Evaluation) -> list[float]:
    """Angle between the found and the true rigid motion of a vertebra, degrees."""
    return e.pose_errors["rotation_error_deg"]


@METRICS.register("translation_error_mm", per="vertebra")
def translation_error_mm(e: Evaluation) -> list[float]:
    """Distance between the found and the true motion of a vertebra's centroid, mm."""
    return e.pose_errors["translation_error_mm"]


@METRICS.register("tre_mm", per="vertebra")
def tre_mm(e: Evaluation) -> list[float]:
    """Mean distance between the found and the true displacement over a vertebra, mm."""
    return e.pose_errors["tre_mm"]


@METRICS.register("folding_voxels", per="case")
def folding_voxels(e: Evaluation) -> Tensor:
    """Voxels where |J| <= 0, over the fixed grid less 2 voxels a side."""
    return regularity.folding(e.determinant)[0]


@METRICS.register("folding_pct", per="case")
def folding_pct(e: Evaluation) -> Tensor:
    """The same in percent of these voxels."""
    return regularity.folding(e.determinant)[1]


@METRICS.register("sd_log_jacobian", per="case")
def sd_log_jacobian(e: Evaluation) -> Tensor:
    """SD of log|J|, convention `plain`."""
    return regularity.sd_log_jacobian(e.determinant.double(), "plain")


@METRICS.register("sd_log_jacobian_l2r", per="case")
def sd_log_jacobian_l2r(e: Evaluation) -> Tensor:
    """SD of log(|J| + 3), the Learn2Reg convention of the released code."""
    return regularity.sd_log_jacobian(e.determinant.double(), "l2r")


@METRICS.register("properness", per="case")
def properness(e: Evaluation) -> Tensor:
    """Properness condition (eq. 6) over the warped soft labels, mean over vertebrae."""
    return e.rigidity[0].mean()


@METRICS.register("orthonormality", per="case")
def orthonormality(e: Evaluation) -> Tensor:
    """Orthonormal condition (eq. 7) over the warped soft labels, mean over vertebrae."""
    return e.rigidity[1].mean()


@METRICS.register("similarity", per="case")
def mind(e: Evaluation) -> Tensor:
    """MIND-SSC distance of the fixed and the warped moving image: lower is more alike."""
    moving, fixed = (torch.from_numpy(s.image)[None, None] for s in (e.case.pair.moving, e.case.pair.fixed))
    warped = fields.warp(moving, e.displacement, padding="border")
    inside = fields.lands_inside(e.displacement, moving.shape[2:])
    return similarity.mind_loss(warped, fixed, inside)[0]


@METRICS.register("landmark_tre_mm", per="case")
def landmark_tre_mm(e: Evaluation) -> float:
    """Mean distance between where the landmarks go and where they are in the moving scan, mm."""
    if e.case.landmarks_mm is None:
        return np.nan
    grid = e.case.pair.grid
    fixed, moving = (torch.from_numpy(grid.to_indices_xyz(p)[:, ::-1].copy()) for p in e.case.landmarks_mm)
    return float(landmarks.landmark_error_mm(e.displacement, fixed, moving, e.spacing_mm).mean())
