"""The training loss (eq. 1 of the paper): similarity in both directions, smoothness, and the penalties of a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from methods.penalties import Millimetres, Warped
from methods.registry import PENALTIES
from methods.voxelmorph.network import flow
from metrics.fields import warp
from metrics.regularity import diffusion
from metrics.similarity import mind_loss, ngf, nmi, seen_in_both

# Factors of the similarities, so that one smoothness weight has about the same effect with all three. With them the
# gradient with respect to the velocity, smoothed over 5 voxels, is as long as that of MIND: over phantoms at 2 mm the
# ratio of the lengths has a geometric mean of 1 and a range of 0.7 to 2.8.
SCALES = {"nmi": 1.4, "ngf": 1.2}


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
    squares: bool = True,
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
        squares: of `methods.penalties.Warped`.
    """
    forward, inverse = flow(velocity), flow(-velocity)
    forward_distance = _image_distance(moving, fixed, forward, similarity, spacing_mm, moving_inside, fixed_inside)
    inverse_distance = _image_distance(fixed, moving, inverse, similarity, spacing_mm, fixed_inside, moving_inside)
    distance = (forward_distance + inverse_distance).sum()
    roughness = 2 * diffusion(velocity).sum()
    total = distance + smoothness * roughness
    terms = {"similarity": distance.item(), "smoothness": roughness.item()}
    warped = Warped(forward, labels, ids, spacing_mm, squares=squares)
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
