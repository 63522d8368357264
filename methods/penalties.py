"""The penalties of eq. 1 for every row that minimises it: the networks' training and the optimisation of single pairs.

A penalty is a registered function of a `Warped`::

    @PENALTIES.register("my-penalty")
    def my_penalty(warped: Warped) -> Tensor: ...

A YAML line such as `penalties: {my-penalty: 0.1}` selects it. The equations are in `metrics/`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from methods.registry import PENALTIES
from metrics.boxes import Box, bounding_box, label_boxes, pair_boxes
from metrics.label_warping import warp_soft
from metrics.regularity import LabelVoxels
from metrics.rigid import closest_rigid, rigid_dice, rigid_field
from metrics.volume import volume_loss

SMALLEST_IN_RIGID_DICE_MM3 = 100.0  # as in the released code: fewer voxels do not determine a rotation
Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class Warped:
    """The input of a penalty: a displacement and the moving labels, never the fixed labels.

    Attributes:
        displacement: (1, 3, D, H, W) in voxels, components (z, y, x), with gradient.
        labels: moving labels (D, H, W), integers.
        ids: the N vertebrae to penalise.
        spacing_mm: (z, y, x).
        earlier: the same pair some iterations ago, whose warped labels `weights` repeats; None: `weights` are new.
    """

    displacement: Tensor
    labels: Tensor
    ids: Sequence[int]
    spacing_mm: Millimetres = (1.0, 1.0, 1.0)
    earlier: Warped | None = None

    @cached_property
    def moving_soft(self) -> Tensor:
        """The one-hot moving labels (N, D, H, W)."""
        return torch.stack([self.labels == v for v in self.ids]).to(self.displacement.dtype)

    @cached_property
    def warped_soft(self) -> Tensor:
        """The linearly warped one-hot labels (N, D, H, W), in [0, 1], with gradient."""
        return warp_soft(self.labels, self.displacement, self.ids, self.boxes)

    @cached_property
    def weights(self) -> Tensor:
        """The warped labels (N, D, H, W) without gradient: the voxels over which a penalty of the field is averaged."""
        return self.warped_soft.detach() if self.earlier is None else self.earlier.weights

    @cached_property
    def boxes(self) -> list[Box | None]:
        """The bounding box of each moving label."""
        return label_boxes(self.labels, self.ids) if self.earlier is None else self.earlier.boxes

    @cached_property
    def warped_boxes(self) -> list[Box | None]:
        """The bounding box of each soft warped label."""
        return [bounding_box(label) for label in self.warped_soft.detach()]

    @cached_property
    def weight_boxes(self) -> list[Box | None]:
        """The bounding box of each label of `weights`."""
        return self.warped_boxes if self.earlier is None else self.earlier.weight_boxes

    @cached_property
    def weight_voxels(self) -> LabelVoxels:
        """The voxels of `weights`."""
        if self.earlier is not None:
            return self.earlier.weight_voxels
        return LabelVoxels(self.weights, self.spacing_mm, self.weight_boxes)

    @cached_property
    def rigidity(self) -> tuple[Tensor, Tensor]:
        """Properness and orthonormality, (1, N) each. Labels are detached: the gradient acts on the field only."""
        return self.weight_voxels.rigidity(self.displacement)


def _mean_in_view(values: Tensor) -> Tensor:
    """The mean over the vertebrae in view, which have finite values; 0 if no vertebra is in view.

    A NaN from another cause makes the smoothness NaN too, so that this function hides no error.
    """
    finite = values[values.isfinite()]
    return finite.mean() if len(finite) else values.new_zeros(())


@PENALTIES.register("pc")
def pc(warped: Warped) -> Tensor:
    """Properness condition (eq. 6), mean over the vertebrae in view."""
    return _mean_in_view(warped.rigidity[0])


@PENALTIES.register("oc")
def oc(warped: Warped) -> Tensor:
    """Orthonormal condition (eq. 7), mean over the vertebrae in view."""
    return _mean_in_view(warped.rigidity[1])


@PENALTIES.register("rigid-dice")
def rigid_dice_loss(warped: Warped) -> Tensor:
    """1 - rigid Dice (eq. 3) of soft labels, mean over the vertebrae with at least 100 mm3 in both labels.

    The closest rigid transform is constant; the gradient passes through the warped labels.
    """
    voxel = prod(warped.spacing_mm)
    sizes = torch.minimum(warped.moving_soft.sum((1, 2, 3)), warped.warped_soft.detach().sum((1, 2, 3))) * voxel
    large = (sizes >= SMALLEST_IN_RIGID_DICE_MM3).nonzero()[:, 0]
    kept = large.tolist()
    ids = [warped.ids[k] for k in kept]
    if not ids:
        return warped.displacement.new_zeros(())
    soft, spacing_mm = warped.warped_soft.index_select(0, large), warped.spacing_mm
    boxes = pair_boxes([warped.boxes[k] for k in kept], [warped.warped_boxes[k] for k in kept])
    fit = closest_rigid(
        warped.labels, soft.detach(), ids, spacing_mm, warped.displacement.detach(), thorough=False, boxes=boxes
    )
    return _mean_in_view(1 - rigid_dice(warped.labels, soft, ids, spacing_mm, fit=fit, boxes=boxes))


@PENALTIES.register("rigid-field")
def rigid_field_loss(warped: Warped) -> Tensor:
    """Rigid field loss (eq. 4) in mm, mean over the vertebrae in view. Labels are detached as in pc and oc."""
    return _mean_in_view(rigid_field(warped.displacement, warped.weights, warped.spacing_mm))


@PENALTIES.register("volume")
def volume(warped: Warped) -> Tensor:
    """Direct volume loss, mean over the vertebrae."""
    return volume_loss(warped.moving_soft, warped.warped_soft).mean()
