"""From a displacement to the columns of the tables: what metrics share, and their values.

The metrics themselves are in `benchmark/measures.py`. Fixed labels are used here and never passed to a method.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from methods.base import Case, Registration
from methods.columns import Column
from methods.geometry import spacing_zyx, to_voxels
from methods.registry import METRICS
from methods.vertebrae import VERTEBRAE
from metrics import boxes, fields, label_warping, neighbours, overlap, regularity, rigid, volume
from metrics.soft_labels import SoftLabels


@dataclass(frozen=True)
class Evaluation:
    """One registration of one case, and what several metrics share, computed once and only on demand.

    Tensors are as in `metrics/`: fields (1, 3, D, H, W) in voxels, labels (D, H, W) int32, spacing_mm (z, y, x).

    Args:
        case: the pair with fixed labels.
        registration: the displacement to be evaluated, on the pair's grid.
        ids: the N vertebrae that are evaluated, VerSe ids.
    """

    case: Case
    registration: Registration
    ids: Sequence[int]

    @cached_property
    def spacing_mm(self) -> tuple[float, float, float]:
        """Voxel size (z, y, x)."""
        return spacing_zyx(self.case.pair.grid)

    @cached_property
    def displacement(self) -> Tensor:
        """The registration's field, (1, 3, D, H, W) in voxels."""
        return to_voxels(self.registration.displacement_mm, self.case.pair.grid)

    @cached_property
    def true_displacement(self) -> Tensor | None:
        """The true field, (1, 3, D, H, W) in voxels; None where no truth is known."""
        truth = self.case.true_displacement_mm
        return None if truth is None else to_voxels(truth, self.case.pair.grid)

    @cached_property
    def moving(self) -> Tensor:
        """The moving labels that are compared with the fixed ones, (D, H, W)."""
        return label_tensor(self.case.compared_labels)

    @cached_property
    def fixed(self) -> Tensor:
        """The fixed labels, (D, H, W)."""
        return label_tensor(self.case.pair.fixed.labels)

    @cached_property
    def moving_boxes(self) -> dict[int, boxes.Box | None]:
        """The bounding box of every vertebra of the moving labels, also of those that are not evaluated."""
        every = [v for v, (moving, _) in self.case.voxels.items() if moving]
        return dict(zip(every, boxes.label_boxes(self.moving, every), strict=True))

    @cached_property
    def warped_boxes(self) -> list[boxes.Box | None]:
        """The bounding box of each of `ids` in the hard warped labels."""
        return boxes.label_boxes(self.warped, self.ids)

    @cached_property
    def fixed_boxes(self) -> list[boxes.Box | None]:
        """The bounding box of each of `ids` in the fixed labels."""
        return boxes.label_boxes(self.fixed, self.ids)

    def with_moving(self, warped: Sequence[boxes.Box | None]) -> list[tuple[boxes.Box, boxes.Box] | None]:
        """The box of each of `ids` in the moving labels and its box in `warped`; None where either is None."""
        return boxes.pair_boxes([self.moving_boxes.get(v) for v in self.ids], warped)

    @property
    def warped(self) -> Tensor:
        """The hard warped moving labels, (D, H, W). Every vertebra is warped: neighbours compete for a voxel."""
        return self._warped_both[0]

    @property
    def warped_crops(self) -> SoftLabels:
        """The linearly warped one-hot moving labels of `ids`, as crops."""
        return self._warped_both[1]

    @cached_property
    def warped_soft(self) -> Tensor:
        """`warped_crops` on the whole grid, (N, D, H, W) in [0, 1]: for a large case gigabytes and seconds."""
        return self.warped_crops.whole()

    @cached_property
    def _warped_both(self) -> tuple[Tensor, SoftLabels]:
        every, known = list(self.moving_boxes), list(self.moving_boxes.values())
        return label_warping.warp_labels_and_crops(self.moving, self.displacement, every, self.ids, known)

    @cached_property
    def determinant(self) -> Tensor:
        """The Jacobian determinant |J| of the transformation, (1, D, H, W)."""
        return fields.jacobian_determinant(fields.jacobian(self.displacement, self.spacing_mm))

    @cached_property
    def rigidity(self) -> tuple[Tensor, Tensor]:
        """Properness (eq. 6) and orthonormality (eq. 7) of each of `ids`, (1, N) each."""
        return regularity.rigidity_of_crops(self.displacement, self.warped_crops, self.spacing_mm)

    @cached_property
    def closest_rigid(self) -> rigid.RigidFit:
        """The closest rigid transform of each of `ids`.

        It is fitted to the soft warped label: rounding to a hard label shifts the surface by up to half a voxel.
        """
        return rigid.closest_rigid(
            self.moving, self.warped_crops, self.ids, self.spacing_mm, self.displacement,
            boxes=self.with_moving(self.warped_crops.boxes),
        )  # fmt: skip

    @cached_property
    def volume_change_pct(self) -> Tensor:
        """Signed volume change of each of `ids` from its soft warped label, percent."""
        return volume.soft_volume_change_pct(self.moving, self.warped_crops, self.ids)

    @cached_property
    def lost(self) -> Tensor:
        """Which of `ids` are lost: their hard warped label has no voxel. bool (N,)."""
        return volume.voxel_counts(self.warped, self.ids) == 0

    @cached_property
    def largest_distance_mm(self) -> float:
        """The diagonal of the fixed grid: the distance that counts for a lost vertebra."""
        return math.dist((0.0,) * 3, [n * s for n, s in zip(self.fixed.shape, self.spacing_mm, strict=True)])

    @cached_property
    def neighbours(self) -> list[tuple[int, int]]:
        """The places in `ids` of each vertebra and of the next one below it, where both are evaluated."""
        places = {v: k for k, v in enumerate(self.ids)}
        present = [v for v in VERTEBRAE if v in self.case.voxels]
        return [(places[v], places[w]) for v, w in pairwise(present) if v in places and w in places]

    def by_upper(self, values: Tensor) -> Tensor:
        """A value for each of `ids` from one for each of `neighbours`; NaN for a vertebra that none follows."""
        result = torch.full((len(self.ids),), torch.nan, dtype=torch.float64)
        for (upper, _), value in zip(self.neighbours, values, strict=True):
            result[upper] = value
        return result

    @cached_property
    def gaps_mm(self) -> Tensor:
        """The least distance of each of `neighbours`, warped labels, mm."""
        return neighbours.gaps_mm(self.warped_crops, self.neighbours, self.spacing_mm, self.warped_crops.boxes)

    @cached_property
    def true_gaps_mm(self) -> Tensor | None:
        """The least distance of each of `neighbours`, labels warped by the true field, mm; None without a truth."""
        if self.true_displacement is None:
            return None
        moving_boxes = [self.moving_boxes.get(v) for v in self.ids]
        soft = label_warping.warp_crops(self.moving, self.true_displacement, self.ids, moving_boxes)
        return neighbours.gaps_mm(soft, self.neighbours, self.spacing_mm, soft.boxes)

    @cached_property
    def surface_distances(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Distances in mm from warped to fixed surface and back, for each of `ids`."""
        known = self.warped_boxes, self.fixed_boxes
        return overlap.surface_distances_mm(self.warped, self.fixed, self.ids, self.spacing_mm, known)

    @cached_property
    def pose_errors(self) -> dict[str, list[float]]:
        """Errors against the true field in the rigid core of each fixed label, by column; NaN where none is known."""
        names = ("rotation_error_deg", "translation_error_mm", "tre_mm")
        errors: dict[str, list[float]] = {name: [] for name in names}
        truth, core = self.true_displacement, self.case.true_core
        for v, box in zip(self.ids, self.fixed_boxes, strict=True):
            values = [np.nan] * 3
            if truth is not None and box is not None:
                mask = self.fixed[box] == v
                if core is not None:
                    mask &= torch.from_numpy(core[box])
                estimated, true = self.displacement[..., *box], truth[..., *box]
                values = [float(e) for e in rigid.pose_error(estimated, true, mask, self.spacing_mm)]
            for name, value in zip(names, values, strict=True):
                errors[name].append(value)
        return errors


def label_tensor(labels: np.ndarray | None) -> Tensor:
    """Convert a label map to a tensor.

    Args:
        labels: (D, H, W), VerSe ids, 0 = background.

    Returns:
        int32 (D, H, W).

    Raises:
        ValueError: there are no labels.
    """
    if labels is None:
        raise ValueError("labels: expected a label map, got None; this case cannot be evaluated")
    return torch.from_numpy(labels.astype(np.int32))


class MetricError(RuntimeError):
    """A metric raised an error or returned something else than its column declares. The message names the metric."""


def evaluate(
    case: Case, registration: Registration, columns: Collection[str] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]], np.ndarray]:
    """Compute the registered metrics of one registration.

    Args:
        case: the pair with fixed labels.
        registration: the displacement to be evaluated, on the pair's grid.
        columns: the names of the metrics to compute; None: all.

    Returns:
        The case's values by column; for each evaluated vertebra its id as `vertebra` and its values by column; the
        hard warped labels, uint16 (z, y, x). A value that cannot be computed is None.

    Raises:
        ValueError: no metric has a name of `columns`; the case has no fixed labels.
        MetricError: a metric failed.
    """
    ids = case.counted
    evaluation = Evaluation(case, registration, ids)
    values, vertebrae = compute(evaluation, columns)
    return values, vertebrae, evaluation.warped.numpy().astype(np.uint16)


def compute(
    evaluation: Evaluation, columns: Collection[str] | None = None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Compute registered metrics and nothing else.

    Args:
        evaluation: one registration of one case.
        columns: the names of the metrics to compute; None: all.

    Returns:
        As `evaluate`, without warped labels.

    Raises:
        ValueError: no metric has a name of `columns`.
        MetricError: a metric failed.
    """
    unknown = [name for name in columns or () if name not in METRICS]
    if unknown:
        known = ", ".join(entry.name for entry in METRICS)
        raise ValueError(f"columns: expected names of metrics, got {unknown[0]!r}; known: {known}")
    values: dict[str, Any] = {}
    vertebrae: list[dict[str, Any]] = [{"vertebra": v} for v in evaluation.ids]
    for entry in METRICS:
        if columns is not None and entry.name not in columns:
            continue
        try:
            value = entry.load()(evaluation)
            column: Column = entry.settings["column"]
            if column.per == "case":
                values[entry.name] = _number(value, column.dtype)
                continue
            if len(value) != len(vertebrae):
                raise ValueError(f"expected {len(vertebrae)} values, one for each vertebra, got {len(value)}")
            for row, v in zip(vertebrae, value, strict=True):
                row[entry.name] = _number(v, column.dtype)
        except Exception as error:
            message = " ".join(str(error).split())
            raise MetricError(f"metric {entry.name}: {type(error).__name__}: {message}") from error
    return values, vertebrae


def describe_pair(case: Case, rigid_fit: bool = True) -> list[dict[str, Any]]:
    """Describe a pair before any registration.

    Args:
        case: the pair with fixed labels.
        rigid_fit: also fit each moving label rigidly to its fixed label, which takes a second or two, and evaluate the
            true field where one is known.

    Returns:
        A line of pairs.parquet, without the identity of the case, for each vertebra of either label map.
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
            "touches_border": v in case.cut or _touches_border(moving == v) or _touches_border(fixed == v),
            "excluded_reason": case.not_counted.get(v),
        })  # fmt: skip
    kept = case.counted
    known = {**_rigid_fits(moving, fixed, kept, spacing_mm), **_true_values(case, kept)} if rigid_fit and kept else {}
    for row in rows:
        place = kept.index(row["vertebra"]) if row["vertebra"] in kept else None
        row["rigid_fit_dsc"] = None
        for name, values in known.items():
            row[name] = values[place] if place is not None else None
    return rows


def _rigid_fits(moving: Tensor, fixed: Tensor, ids: Sequence[int], spacing_mm: Sequence[float]) -> dict[str, list[Any]]:
    """Dice of each fixed label and the moving label under its SSD-closest rigid transform, by column."""
    fit = rigid.closest_rigid(moving, fixed, ids, spacing_mm)
    scales = {"rigid_fit_dsc": rigid.rigid_dice, "soft_rigid_fit_dsc": rigid.soft_rigid_dice}
    return {name: scale(moving, fixed, ids, spacing_mm, fit=fit).tolist() for name, scale in scales.items()}


def _true_values(case: Case, ids: Sequence[int]) -> dict[str, list[Any]]:
    """The true field's values by column of pairs.parquet, in the order of `ids`; none where no truth is known."""
    if case.true_displacement_mm is None:
        return {}
    true = Evaluation(case, Registration(case.true_displacement_mm), ids)
    _, vertebrae = compute(true, ("dsc", "soft_dsc", "rigid_dsc", "soft_rigid_dsc", "volume_change_pct"))
    return {f"true_{name}": [row[name] for row in vertebrae] for name in vertebrae[0] if name != "vertebra"}


def _touches_border(mask: Tensor) -> bool:
    return any(bool(mask.select(axis, end).any()) for axis in range(3) for end in (0, -1))


def _number(value: Any, dtype: str) -> float | int | None:
    """A plain number for JSON; None for what cannot be computed. Raises ValueError for one that `dtype` cannot hold."""
    number = value.item() if hasattr(value, "item") else value
    if number is None or not np.isfinite(number):
        return None
    if (dtype == "Int64" and number != int(number)) or (dtype == "boolean" and number not in (0, 1)):
        raise ValueError(f"expected a value of the column's dtype {dtype}, got {number}")
    return number
