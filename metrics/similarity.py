"""Similarity of images of different contrast: MIND-SSC, mutual information, normalised gradient fields.

References:
    [1] Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
        MICCAI 2013. Of the six neighbours at `dilation` voxels, the twelve pairs that are sqrt(2) dilations apart are
        compared by the mean squared difference D of the patches around them. The descriptor is exp(-(D - min D) / V),
        where V is the mean of D - min D over the twelve pairs.
    [2] Mattes et al., PET-CT image registration in the chest using free-form deformations, IEEE TMI 22(1), 2003. The
        joint histogram is smoothed by a cubic B-spline window for the moving image and a box for the fixed one. Here
        the window is cubic for both, so that the measure is symmetric and differentiable in either image.
    [3] Studholme, Hill, Hawkes, An overlap invariant entropy measure of 3D medical image alignment, Pattern
        Recognition 32(1), 1999.
    [4] Haber, Modersitzki, Intensity gradient based registration and fusion of multi-modal images, MICCAI 2006.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from metrics._histogram import JointSums, Limits
from metrics._mind import MindLoss, MindSSC, descriptors_at
from metrics.fields import gradient, lands_inside, warp


def _check_image(name: str, image: Tensor) -> None:
    if image.ndim != 5 or image.shape[1] != 1:
        raise ValueError(f"{name}: expected (B, 1, D, H, W), got {tuple(image.shape)}")


def _check_pair(a: Tensor, b: Tensor) -> None:
    _check_image("a", a)
    if a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The weighted mean (B,) of each item of a map (B, 1, D, H, W); NaN where the weights sum to 0."""
    if weights is None:
        return values.mean(dim=(1, 2, 3, 4))
    weights = weights.to(values.dtype)
    return (values * weights).sum(dim=(1, 2, 3, 4)) / weights.sum(dim=(1, 2, 3, 4))


def seen_in_both(
    displacement: Tensor, shape: Sequence[int], moving_inside: Tensor | None = None, fixed_inside: Tensor | None = None
) -> Tensor:
    """The fixed voxels that a similarity of the fixed and the warped moving image may compare.

    Args:
        displacement: (B, 3, d, h, w), voxels.
        shape: (D, H, W) of the moving image.
        moving_inside: (B, 1, D, H, W), above 0 where the moving scan saw the voxel; None: everywhere.
        fixed_inside: (B, 1, d, h, w), the same for the fixed scan.

    Returns:
        (B, 1, d, h, w), 0 or 1, without gradient: 1 where p + u(p) lies in the moving volume, both scans saw the voxel
        and u is finite.
    """
    weights = lands_inside(displacement, shape)
    if moving_inside is not None:
        # Linear: 0.5 is half of the eight neighbours' weight. A nearest voxel would hide a rim of unseen neighbours.
        warped = warp(moving_inside.to(displacement.dtype), displacement.detach(), padding="border")
        weights = weights * (warped > 0.5).to(weights.dtype)
    return weights if fixed_inside is None else weights * (fixed_inside > 0).to(weights.dtype)


def mind_ssc(image: Tensor, radius: int = 2, dilation: int = 2) -> Tensor:
    """Compute MIND-SSC descriptors of images. Source: [1].

    The image is continued by its border value. The descriptor is invariant to a * image + b, except in flat regions: V
    is clipped to [0.001, 1000] times its mean over the item, and that mean has no gradient. Differentiable.

    Args:
        image: (B, 1, D, H, W).
        radius: of the patch, voxels.
        dilation: distance of the six neighbours, voxels.

    Returns:
        (B, 12, D, H, W), in [0, 1], without unit; 1 everywhere for an image of one value; NaN for an item with a value
        that is not finite.

    Raises:
        ValueError: the image has another shape.
    """
    _check_image("image", image)
    result: Tensor = MindSSC.apply(_padded(image, radius + dilation), radius, dilation)
    return result


@torch.no_grad()
def mind_ssc_at(image: Tensor, chosen: Tensor, radius: int = 2, dilation: int = 2) -> Tensor:
    """Compute MIND-SSC descriptors at some voxels, without gradient. Source: [1].

    The image is continued by its border value. As in `mind_ssc`, except that V is clipped by its mean over the chosen
    voxels. The time is that of the box around the chosen voxels of each slab.

    Args:
        image: (1, 1, D, H, W).
        chosen: bool (D, H, W).
        radius: of the patch, voxels.
        dilation: distance of the six neighbours, voxels.

    Returns:
        (P, 12), in [0, 1], without unit, a row for each chosen voxel in the order of `chosen.nonzero()`.

    Raises:
        ValueError: the image has another shape than (1, 1, *chosen.shape).
    """
    if image.shape != (1, 1, *chosen.shape):
        raise ValueError(f"image: expected {(1, 1, *chosen.shape)}, got {tuple(image.shape)}")
    return descriptors_at(_padded(image, radius + dilation), chosen, radius, dilation)


def mind_loss(a: Tensor, b: Tensor, weights: Tensor | None = None, radius: int = 2, dilation: int = 2) -> Tensor:
    """Compute the mean squared difference of the MIND-SSC descriptors of two images. Source: [1].

    Only a part of the descriptors is in memory at a time. Differentiable in both images.

    Args:
        a: (B, 1, D, H, W).
        b: (B, 1, D, H, W).
        weights: of each voxel, (B, 1, D, H, W), at least 0, without gradient; None: all equal.
        radius: of the patch, voxels.
        dilation: distance of the six neighbours, voxels.

    Returns:
        (B,), in [0, 1], without unit; NaN where the weights sum to 0 or an image is not finite.

    Raises:
        ValueError: an image has another shape.
    """
    _check_pair(a, b)
    weights = a.new_ones(()).expand_as(a) if weights is None else weights.detach().to(a.dtype).expand_as(a)
    share = weights[:, 0] / weights.sum(dim=(1, 2, 3, 4)).view(-1, 1, 1, 1)
    reach = radius + dilation
    result: Tensor = MindLoss.apply(_padded(a, reach), _padded(b, reach), share, radius, dilation)
    return result


def _padded(image: Tensor, reach: int) -> Tensor:
    """An image (B, 1, D, H, W) without its channel axis, continued by its border value."""
    return F.pad(image, (reach,) * 6, mode="replicate")[:, 0]


def _joint_histogram(
    a: Tensor, b: Tensor, bins: int, weights: Tensor | None, limits: tuple[Limits, Limits] | None = None
) -> Tensor:
    """The joint probability of the bins of both images, float64 (B, bins, bins), which sums to 1."""
    _check_pair(a, b)
    if bins < 4:
        raise ValueError(f"bins: expected at least 4, the reach of the window, got {bins}")
    weights = a.new_ones(()).expand_as(a) if weights is None else weights.expand_as(a)
    flat = (a.flatten(1), b.flatten(1), weights.flatten(1).to(a.dtype))
    joint: Tensor = JointSums.apply(*flat, bins, limits or (None, None))
    return joint / joint.sum(dim=(1, 2), keepdim=True)


def _entropies(
    a: Tensor, b: Tensor, bins: int, weights: Tensor | None, limits: tuple[Limits, Limits] | None = None
) -> tuple[Tensor, Tensor, Tensor]:
    """H(A), H(B) and H(A, B) in nats, each float64 (B,)."""
    joint = _joint_histogram(a, b, bins, weights, limits)
    tiny = torch.finfo(joint.dtype).tiny  # 0 log 0 = 0, with a finite gradient
    h_a, h_b, h_ab = (-(p * p.clamp(min=tiny).log()).sum(dim=1) for p in (joint.sum(2), joint.sum(1), joint.flatten(1)))
    return h_a, h_b, h_ab


def mutual_information(a: Tensor, b: Tensor, bins: int = 64, weights: Tensor | None = None) -> Tensor:
    """Compute H(A) + H(B) - H(A, B) of the smoothed joint histogram of two images.

    Source: [2], with the cubic window for both images. Differentiable in both images; the range of the bins has no
    gradient.

    Args:
        a: (B, 1, D, H, W).
        b: (B, 1, D, H, W).
        bins: of each axis of the histogram, at least 4, over the range of each item's image.
        weights: of each voxel, (B, 1, D, H, W), at least 0; None: all equal. A voxel of weight 0 does not affect the
            range.

    Returns:
        (B,), nats, at least 0, 0 for an image of one value. NaN where an image has a NaN (also one of weight 0) or an
        infinity of positive weight, or the weights sum to 0.

    Raises:
        ValueError: an image has another shape, or there are fewer than 4 bins.
    """
    h_a, h_b, h_ab = _entropies(a, b, bins, weights)
    return (h_a + h_b - h_ab).to(a.dtype)


def nmi(
    a: Tensor, b: Tensor, bins: int = 64, weights: Tensor | None = None, limits: tuple[Limits, Limits] | None = None
) -> Tensor:
    """Compute (H(A) + H(B)) / H(A, B) of the smoothed joint histogram of two images.

    Invariant to a * image + b up to rounding. Less than 2 also for an image with itself: the window spreads each value
    over up to 4 x 4 bins. Source: [3], on the histogram of [2].

    Args:
        a: (B, 1, D, H, W).
        b: (B, 1, D, H, W).
        bins: of each axis of the histogram, at least 4, over the range of each item's image.
        weights: of each voxel, (B, 1, D, H, W), at least 0; None: all equal. A voxel of weight 0 does not affect the
            range.
        limits: (of a, of b), the range of the bins of either image; values beyond it count as its ends. None: the range
            of each item's values. Fixed limits keep the measure from changing with the voxels that are drawn.

    Returns:
        (B,), in [1, 2], without unit; 1 for independent images and for an image of one value; NaN as in
        `mutual_information`.

    Raises:
        ValueError: an image has another shape, or there are fewer than 4 bins.
    """
    h_a, h_b, h_ab = _entropies(a, b, bins, weights, limits)
    return ((h_a + h_b) / h_ab).to(a.dtype)


def _normalised_gradient(
    image: Tensor, epsilon: float | None, spacing_mm: Sequence[float], weights: Tensor | None
) -> Tensor:
    """grad / sqrt(|grad|^2 + epsilon^2) of images (B, 1, D, H, W): (B, 3, D, H, W), of length below 1."""
    slope = gradient(image, spacing_mm)[:, 0]
    if epsilon is None:
        mean = _mean(slope.detach().norm(dim=1, keepdim=True), weights).view(-1, 1, 1, 1, 1)
        slope = slope / mean.where(mean > 0, 1)  # an image without gradient is 0 for every epsilon
    else:
        slope = slope / epsilon
    return slope * (slope.square().sum(dim=1, keepdim=True) + 1).rsqrt()


def ngf(
    a: Tensor,
    b: Tensor,
    epsilon: tuple[float, float] | None = None,
    spacing_mm: Sequence[float] = (1.0, 1.0, 1.0),
    weights: Tensor | None = None,
) -> Tensor:
    """Compute the distance of the normalised gradient fields of two images.

    The mean over voxels of 1 - <grad a, grad b>^2 / ((|grad a|^2 + eps_a^2) (|grad b|^2 + eps_b^2)). Parallel edges
    have a distance near 0, whichever side is brighter; edges at a right angle and flat regions have 1. An image with
    itself has more than 0, due to epsilon. Source: [4]; some later authors also add epsilon to the product in the
    numerator, which makes the measure depend on the sign of the contrast.

    Args:
        a: (B, 1, D, H, W).
        b: (B, 1, D, H, W).
        epsilon: (of a, of b), above 0, intensity per mm: the gradient below which an edge is noise. None uses each
            item's mean of |grad|, without gradient; the distance is then invariant to scale, sign and offset of the
            contrast.
        spacing_mm: (z, y, x).
        weights: of each voxel, (B, 1, D, H, W), at least 0; None: all equal.

    Returns:
        (B,), in [0, 1], without unit; NaN where an image is not finite or the weights sum to 0. Differences are those
        of `metrics.fields.gradient`, 0 along an axis of one voxel.

    Raises:
        ValueError: an image has another shape, or an epsilon is not above 0.
    """
    _check_pair(a, b)
    if epsilon is not None and not all(e > 0 for e in epsilon):
        raise ValueError(f"epsilon: expected (of a, of b) above 0, got {epsilon}")
    eps_a, eps_b = epsilon or (None, None)
    fields = (_normalised_gradient(v, e, spacing_mm, weights) for v, e in ((a, eps_a), (b, eps_b)))
    cosine = torch.mul(*fields).sum(dim=1, keepdim=True)
    return _mean(1 - cosine.square(), weights)
