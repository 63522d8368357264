"""The training loss (eq. 1 of the paper): similarity in both directions, smoothness, and the registered penalties.

A penalty is a registered function of a `Warped`::

    @PENALTIES.register("my-penalty")
    def my_penalty(warped: Warped) -> Tensor: ...

A YAML line such as `penalties: {my-penalty: 0.1}` selects it. The equations are in `metrics/`.
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
from metrics.fields import warp
from metrics.label_warping import warp_soft
from metrics.regularity import diffusion, rigidity
from metrics.rigid import closest_rigid, rigid_dice, rigid_field
from metrics.similarity import mind_loss, ngf, nmi, seen_in_both
from metrics.volume import volume_loss

SMALLEST_IN_RIGID_DICE_MM3 = 100.0  # as in the released code: fewer voxels do not determine a rotation
# Factors of the similarities, so that one smoothness weight has about the same effect with all three. With them the
# gradient with respect to the velocity, smoothed over 5 voxels, is as long as that of MIND: over phantoms at 2 mm the
# ratio of the lengths has a geometric mean of 1 and a range of 0.7 to 2.8.
SCALES = {"nmi": 1.4, "ngf": 1.2}
Millimetres = tuple[float, float, float]


@dataclass(frozen=True)
class Warped:
    """The input of a penalty: a displacement and the moving labels, never the fixed labels.

    Attributes:
        displacement: (1, 3, D, H, W) in voxels, components (z, y, x), with gradient.
        labels: moving labels (D, H, W), integers.
        ids: the N vertebrae to penalise.
        spacing_mm: (z, y, x).
    """

    displacement: Tensor
    labels: Tensor
    ids: Sequence[int]
    spacing_mm: Millimetres = (1.0, 1.0, 1.0)

    @cached_property
    def moving_soft(self) -> Tensor:
        """The one-hot moving labels (N, D, H, W)."""
        return torch.stack([self.labels == v for v in self.ids]).to(self.displacement.dtype)

    @cached_property
    def warped_soft(self) -> Tensor:
        """The linearly warped one-hot labels (N, D, H, W), in [0, 1], with gradient."""
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
        """Properness and orthonormality, (1, N) each. Labels are detached: the gradient acts on the field only."""
        return rigidity(self.displacement, self.warped_soft.detach(), self.spacing_mm, self.warped_boxes)


@dataclass(frozen=True)
class Loss:
    """The loss of one step.

    Attributes:
        total: scalar to minimise, with gradient.
        terms: each term by name, without its weight.
    """

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
    """The loss of one pair, eq. 1 of the paper.

    Args:
        velocity: (1, 3, D/2, H/2, W/2), voxels of the half resolution.
        moving: moving image (1, 1, D, H, W), in [0, 1].
        fixed: fixed image (1, 1, D, H, W), in [0, 1].
        labels: moving labels (D, H, W).
        ids: the vertebrae to penalise; without any, no penalty is added.
        smoothness: weight of twice the velocity's diffusion; the factor 2 is the released code's, for the half
            resolution.
        penalties: weights by name.
        spacing_mm: (z, y, x) of the images.
        similarity: mind, nmi or ngf.
        moving_inside: bool (1, 1, D, H, W), True where the moving scan saw the voxel; None: everywhere.
        fixed_inside: the same for the fixed scan.
    """
    forward, inverse = flow(velocity), flow(-velocity)
    forward_distance = _image_distance(moving, fixed, forward, similarity, spacing_mm, moving_inside, fixed_inside)
    inverse_distance = _image_distance(fixed, moving, inverse, similarity, spacing_mm, fixed_inside, moving_inside)
    distance = (forward_distance + inverse_distance).sum()
    roughness = 2 * diffusion(velocity).sum()
    total = distance + smoothness * roughness
    terms = {"similarity": distance.item(), "smoothness": roughness.item()}
    warped = Warped(forward, labels, ids, spacing_mm)
    for name, weight in penalties.items() if len(ids) else ():
        value = PENALTIES[name].load()(warped)
        total = total + weight * value
        terms[name] = value.item()
    return Loss(total, terms)


def _image_distance(
    image: Tensor, target: Tensor, displacement: Tensor, similarity: str, spacing_mm: Millimetres,
    image_inside: Tensor | None, target_inside: Tensor | None,
) -> Tensor:  # fmt: skip
    """The distance (1,) between the warped image and the target, where both scans saw the voxel; 0 if they do nowhere.

    The image is continued by its border. With zeros outside, the edge of the field of view would be the sharpest edge
    of both images, at the same place in both, and the network would learn to keep it there.
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
    return _mean_in_view(rigid_field(warped.displacement, warped.warped_soft.detach(), warped.spacing_mm))


@PENALTIES.register("volume")
def volume(warped: Warped) -> Tensor:
    """Direct volume loss, mean over the vertebrae."""
    return volume_loss(warped.moving_soft, warped.warped_soft).mean()
