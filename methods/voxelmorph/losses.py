"""What the network is trained on: similarity in both directions, smoothness, and penalties by name (eq. 1).

A penalty is one registered function of a `Warped`::

    @PENALTIES.register("my-penalty")
    def my_penalty(warped: Warped) -> Tensor: ...

and then a YAML line, `penalties: {my-penalty: 0.1}`. The equations themselves stand in `metrics/`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from math import prod

import torch
from torch import Tensor

from methods.registry import PENALTIES
from methods.voxelmorph.network import flow
from metrics.boxes import Box, bounding_box, label_boxes, pair_boxes
from metrics.fields import warp, warp_soft
from metrics.regularity import diffusion, rigidity
from metrics.rigid import closest_rigid, rigid_dice, rigid_field
from metrics.similarity import mind_loss, ngf, nmi, seen_in_both
from metrics.volume import volume_loss

SMALLEST_IN_RIGID_DICE_MM3 = 100.0  # as in the released code: of so few voxels every rotation is as good
# So that one smoothness weight means about the same to all three: on phantoms at 2 mm, smoothed over 5 voxels as a
# smooth field feels it, the gradient by the velocity is as long as that of MIND in the geometric mean (0.7 to 2.8).
SCALES = {"nmi": 1.4, "ngf": 1.2}
Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class Warped:
    """What a penalty may look at: the displacement and the moving labels, never the fixed ones.

    displacement: (1, 3, D, H, W) in voxels. labels: moving labels (D, H, W). ids: the vertebrae that count.
    spacing_mm: (z, y, x).
    """

    displacement: Tensor
    labels: Tensor
    ids: Sequence[int]
    spacing_mm: Millimetres = (1.0, 1.0, 1.0)

    @cached_property
    def moving_soft(self) -> Tensor:
        """One-hot moving labels (N, D, H, W)."""
        return torch.stack([self.labels == v for v in self.ids]).to(self.displacement.dtype)

    @cached_property
    def warped_soft(self) -> Tensor:
        """The linearly warped one-hot labels (N, D, H, W), with gradient."""
        return warp_soft(self.labels, self.displacement, self.ids, self.boxes)

    @cached_property
    def boxes(self) -> list[Box | None]:
        """The bounding box of each moving label."""
        return label_boxes(self.labels, self.ids)

    @cached_property
    def warped_boxes(self) -> list[Box | None]:
        """The bounding box of each soft warped label."""
        return [bounding_box(label) for label in self.warped_soft.detach()]

    @cached_property
    def rigidity(self) -> tuple[Tensor, Tensor]:
        """Properness and orthonormality (1, N), the label detached: the field must straighten, not the label flee."""
        return rigidity(self.displacement, self.warped_soft.detach(), self.spacing_mm, self.warped_boxes)


@dataclass(frozen=True)
class Loss:
    """The terms of one step; `total` is what is minimised."""

    total: Tensor
    terms: Mapping[str, float]


def training_loss(
    velocity: Tensor,
    moving: Tensor,
    fixed: Tensor,
    labels: Tensor,
    ids: Sequence[int],
    smoothness: float,
    penalties: Mapping[str, float],
    spacing_mm: Millimetres = (1.0, 1.0, 1.0),
    similarity: str = "mind",
    moving_inside: Tensor | None = None,
    fixed_inside: Tensor | None = None,
) -> Loss:
    """Eq. 1 of the paper for one pair.

    velocity: (1, 3, D/2, H/2, W/2). moving, fixed: (1, 1, D, H, W). labels: moving labels (D, H, W).
    ids: the vertebrae that the penalties, weights by name, are taken over; without any, none enters.
    smoothness: weight of the velocity's diffusion, times two for the half resolution as in the released code.
    spacing_mm: (z, y, x), of the full voxels. similarity: mind, nmi or ngf.
    moving_inside, fixed_inside: (1, 1, D, H, W), True where each scan saw the voxel; None: everywhere.
    """
    forward, inverse = flow(velocity), flow(-velocity)
    there = _unlikeness(moving, fixed, forward, similarity, spacing_mm, moving_inside, fixed_inside)
    back = _unlikeness(fixed, moving, inverse, similarity, spacing_mm, fixed_inside, moving_inside)
    unlike = (there + back).sum()
    roughness = 2 * diffusion(velocity).sum()
    total = unlike + smoothness * roughness
    terms = {"similarity": unlike.item(), "smoothness": roughness.item()}
    warped = Warped(forward, labels, ids, spacing_mm)
    for name, weight in penalties.items() if len(ids) else ():
        value = PENALTIES[name].load()(warped)
        total = total + weight * value
        terms[name] = value.item()
    return Loss(total, terms)


def _unlikeness(
    image: Tensor, target: Tensor, displacement: Tensor, similarity: str, spacing_mm: Millimetres,
    image_inside: Tensor | None, target_inside: Tensor | None,
) -> Tensor:  # fmt: skip
    """How unlike the warped image and the target are, (1,), where the displacement leads into the image and both
    scans saw something; 0 where that is nowhere.

    Its border continued and the rest left out: with zeros outside, the edge of the field of view is the sharpest one in
    both images, it lies in the same place in both, and the network learns to hold it there.
    """
    warped = warp(image, displacement, padding="border")
    inside = seen_in_both(displacement, image.shape[2:], image_inside, target_inside)
    if not inside.any():
        return displacement.new_zeros(1)
    match similarity:
        case "mind":
            return mind_loss(warped, target, inside)
        case "nmi":
            return SCALES["nmi"] * (2 - nmi(warped, target, weights=inside))
        case "ngf":
            return SCALES["ngf"] * ngf(warped, target, spacing_mm=spacing_mm, weights=inside)
    raise ValueError(f"similarity: expected mind, nmi or ngf, got {similarity!r}")


def _mean_in_view(values: Tensor) -> Tensor:
    """The mean over the vertebrae still in view; 0 where the patch shows none of them any more.

    What is NaN for another reason makes the smoothness NaN too, so that no fault hides here.
    """
    known = values[values.isfinite()]
    return known.mean() if len(known) else values.new_zeros(())


@PENALTIES.register("pc")
def pc(warped: Warped) -> Tensor:
    """Properness condition (eq. 6), mean over the vertebrae still in view."""
    return _mean_in_view(warped.rigidity[0])


@PENALTIES.register("oc")
def oc(warped: Warped) -> Tensor:
    """Orthonormal condition (eq. 7), mean over the vertebrae still in view."""
    return _mean_in_view(warped.rigidity[1])


@PENALTIES.register("rigid-dice")
def rigid_dice_loss(warped: Warped) -> Tensor:
    """1 - rigid dice (eq. 3) of soft labels, mean over the vertebrae of 100 mm3 or more in either label.

    The closest rigid transform is held fixed; the gradient flows through the warped label.
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
    """Rigid field loss (eq. 4), mm, mean over the vertebrae still in view, the label detached as in pc and oc."""
    return _mean_in_view(rigid_field(warped.displacement, warped.warped_soft.detach(), warped.spacing_mm))


@PENALTIES.register("volume")
def volume(warped: Warped) -> Tensor:
    """Direct volume loss, mean over vertebrae."""
    return volume_loss(warped.moving_soft, warped.warped_soft).mean()
