"""Similarity of images of different contrast: MIND-SSC, mutual information, normalised gradient fields.

References:
    [1] Heinrich et al., Towards realtime multimodal fusion for image-guided interventions using self-similarities,
        MICCAI 2013. Of the six neighbours at `dilation` voxels, the twelve pairs that are sqrt(2) dilations apart are
        compared by the mean squared difference D of the patches around them; the descriptor is exp(-(D - min D) / V)
        with V the mean of D - min D over the twelve.
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

from metrics._mind import MindLoss, MindSSC
from metrics.fields import gradient, lands_inside, warp


def _check_image(name: str, image: Tensor) -> None:
    if image.ndim != 5 or image.shape[1] != 1:
        raise ValueError(f"{name}: expected (B, 1, D, H, W), got {tuple(image.shape)}")


def _check_pair(a: Tensor, b: Tensor) -> None:
    _check_image("a", a)
    if a.shape != b.shape:
        raise ValueError(f"b: expected the shape of a, {tuple(a.shape)}, got {tuple(b.shape)}")


def _mean(values: Tensor, weights: Tensor | None) -> Tensor:
    """The weighted mean of each item of a map (B, 1, D, H, W), (B,); NaN where the weights sum to 0."""
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
    """MIND-SSC descriptors (B, 12, D, H, W) in [0, 1] of images (B, 1, D, H, W).

    radius: of the patch, voxels. dilation: distance of the six neighbours, voxels. The image is continued by its
    border value. Invariant to a * image + b, but for the guard of flat regions: V is kept within 0.001 and 1000 times
    its mean over the item, without gradient; an image of one value gives 1 everywhere. Differentiable. A value
    that is not finite makes its whole item NaN. Raises ValueError for another shape. Source: [1].
    """
    _check_image("image", image)
    result: Tensor = MindSSC.apply(_padded(image, radius + dilation), radius, dilation)
    return result


def mind_loss(a: Tensor, b: Tensor, weights: Tensor | None = None, radius: int = 2, dilation: int = 2) -> Tensor:
    """The mean squared difference of the MIND-SSC descriptors of two images (B, 1, D, H, W): (B,), in [0, 1].

    weights: (B, 1, D, H, W), at least 0, of each voxel, or None for all equal; without gradient. NaN where they sum to
    0 or an image is not finite. radius, dilation: as in `mind_ssc`, whose descriptors are never held as a whole here.
    Differentiable in both images. Raises ValueError for another shape. Source: [1].
    """
    _check_pair(a, b)
    weights = a.new_ones(()).expand_as(a) if weights is None else weights.detach().to(a.dtype).expand_as(a)
    share = weights[:, 0] / weights.sum(dim=(1, 2, 3, 4)).view(-1, 1, 1, 1)
    reach = radius + dilation
    result: Tensor = MindLoss.apply(_padded(a, reach), _padded(b, reach), share, radius, dilation)
    return result


def _padded(image: Tensor, reach: int) -> Tensor:
    """(B, D, H, W), continued by its border value."""
    return F.pad(image, (reach,) * 6, mode="replicate")[:, 0]


def _parzen_window(image: Tensor, weights: Tensor, bins: int) -> tuple[Tensor, list[Tensor]]:
    """The first of the four bins a voxel touches, int64 (B, V), and the cubic B-spline at the four, each (B, V).

    The least and the greatest value that count lie on the centres of the second and the last but one bin, as in
    elastix: the window ends on a bin of its own. The range is held without gradient, as there.
    """
    values, counts = image.flatten(1), weights.flatten(1) > 0
    low = values.detach().where(counts, torch.inf).amin(dim=1, keepdim=True)
    width = values.detach().where(counts, -torch.inf).amax(dim=1, keepdim=True) - low
    # An image of one value has no scale: over infinity it lies on one bin, without gradient.
    place = ((values - low) / width.where(width > 0, torch.inf)).clamp(0, 1) * (bins - 3)
    first = place.floor().long().clamp(0, bins - 4)  # NaN becomes some bin; its weights are NaN
    right = place - first
    left = 1 - right
    inner = [(4 - 6 * t.square() + 3 * t**3) / 6 for t in (right, left)]
    return first, [left**3 / 6, *inner, right**3 / 6]


def _joint_histogram(a: Tensor, b: Tensor, bins: int, weights: Tensor | None) -> Tensor:
    """The joint probability of the bins of both images, (B, bins, bins), in float64: it sums to 1 for each item."""
    _check_pair(a, b)
    if bins < 4:
        raise ValueError(f"bins: expected at least 4, the reach of the window, got {bins}")
    weights = a.new_ones(()).expand_as(a) if weights is None else weights.expand_as(a)
    first_a, window_a = _parzen_window(a, weights, bins)
    first_b, window_b = _parzen_window(b, weights, bins)
    starts = bins - 3
    item = torch.arange(len(a), device=a.device)[:, None]
    cell = ((item * starts + first_a) * starts + first_b).flatten()
    # One sum over the voxels for each of the 4 x 4 bins of a window, all by the same index, then each moved to its bin.
    # In float64: a large background added up in float32 is off by per cents.
    empty = torch.zeros(len(a) * starts**2, device=a.device, dtype=torch.float64)
    weighted = [u * weights.flatten(1) for u in window_a]
    sums = torch.stack([empty.index_add(0, cell, (u * v).flatten().double()) for u in weighted for v in window_b])
    joint = F.fold(sums.view(16, len(a), -1).transpose(0, 1), (bins, bins), kernel_size=4)[:, 0]
    return joint / joint.sum(dim=(1, 2), keepdim=True)


def _entropies(a: Tensor, b: Tensor, bins: int, weights: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """H(A), H(B) and H(A, B) in nats, each float64 (B,)."""
    joint = _joint_histogram(a, b, bins, weights)
    tiny = torch.finfo(joint.dtype).tiny  # 0 log 0 = 0, and its gradient is finite
    h_a, h_b, h_ab = (-(p * p.clamp(min=tiny).log()).sum(dim=1) for p in (joint.sum(2), joint.sum(1), joint.flatten(1)))
    return h_a, h_b, h_ab


def mutual_information(a: Tensor, b: Tensor, bins: int = 64, weights: Tensor | None = None) -> Tensor:
    """H(A) + H(B) - H(A, B) of the smoothed joint histogram of two images (B, 1, D, H, W): (B,), nats, at least 0.

    bins: of each axis of the histogram, over the range of each item's own image. weights: (B, 1, D, H, W), at least 0,
    of each voxel, or None for all equal; a voxel of weight 0 does not set the range either.
    Differentiable in both images, the range held fixed. 0 for an image of one value; NaN where an image has a NaN
    (even of weight 0), an infinity that counts, or the weights sum to 0. Raises ValueError for another shape or fewer
    than 4 bins. Source: [2], with the cubic window for both images.
    """
    h_a, h_b, h_ab = _entropies(a, b, bins, weights)
    return (h_a + h_b - h_ab).to(a.dtype)


def nmi(a: Tensor, b: Tensor, bins: int = 64, weights: Tensor | None = None) -> Tensor:
    """(H(A) + H(B)) / H(A, B) of the smoothed joint histogram of two images (B, 1, D, H, W): (B,), in [1, 2].

    Arguments, gradient, NaN and errors as in `mutual_information`. 1 for independent images and for an image of one
    value. Less than 2 even of an image with itself: the window spreads each value over up to 4 x 4 bins.
    Invariant to a * image + b but for rounding. Source: [3], on the histogram of [2].
    """
    h_a, h_b, h_ab = _entropies(a, b, bins, weights)
    return ((h_a + h_b) / h_ab).to(a.dtype)


def _normalised_gradient(
    image: Tensor, epsilon: float | None, spacing_mm: Sequence[float], weights: Tensor | None
) -> Tensor:
    """grad / sqrt(|grad|^2 + epsilon^2) of images (B, 1, D, H, W): (B, 3, D, H, W), shorter than 1."""
    slope = gradient(image, spacing_mm)[:, 0]
    if epsilon is None:
        mean = _mean(slope.detach().norm(dim=1, keepdim=True), weights).view(-1, 1, 1, 1, 1)
        slope = slope / mean.where(mean > 0, 1)  # without any gradient every epsilon serves
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
    """The distance of the normalised gradient fields of two images (B, 1, D, H, W): (B,), in [0, 1], without unit.

    The mean over voxels of 1 - <grad a, grad b>^2 / ((|grad a|^2 + eps_a^2) (|grad b|^2 + eps_b^2)): 0 where edges are
    parallel, whichever side is brighter; 1 where they are at a right angle, and where an image is flat.
    epsilon: (of a, of b), above 0, the gradient in intensity / mm below which an edge is noise; None takes the mean of
        |grad| of each item, without gradient: then the distance does not see scale, sign or offset of the contrast.
    spacing_mm: (z, y, x). weights: (B, 1, D, H, W), at least 0, of each voxel, or None for all equal.
    Differences as in `metrics.fields.gradient`; none along an axis of one voxel. An image with itself has more than 0,
    by what epsilon takes. NaN where an image is not finite or the weights sum to 0. Raises ValueError for another
    shape or an epsilon not above 0. Source: [4]; without the epsilon some later authors add to the product in the
    numerator, which would tell a contrast from its inverse.
    """
    _check_pair(a, b)
    if epsilon is not None and not all(e > 0 for e in epsilon):
        raise ValueError(f"epsilon: expected (of a, of b) above 0, got {epsilon}")
    eps_a, eps_b = epsilon or (None, None)
    fields = (_normalised_gradient(v, e, spacing_mm, weights) for v, e in ((a, eps_a), (b, eps_b)))
    cosine = torch.mul(*fields).sum(dim=1, keepdim=True)
    return _mean(1 - cosine.square(), weights)
