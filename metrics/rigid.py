"""How far the motion of each vertebra is from a rigid motion, and its pose from the true pose.

A rigid transform maps x to R x + t, where x is voxel index * spacing, mm in axis order (z, y, x). The grid's direction
matrix and origin move both scans alike and have no effect on these values. Vertebrae are the batch: their crops have
one size and are solved together.

References:
    [1] Jian et al., Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine, MICCAI 2022,
        equations (2) to (4). https://arxiv.org/abs/2205.07568
    [2] Marquardt, An algorithm for least-squares estimation of nonlinear parameters, J. SIAM 11(2), 1963.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from metrics._closest_rigid import RigidFit, Vertebrae, both_boxes, is_hard, lower_residual
from metrics._crops import transform
from metrics.boxes import Box
from metrics.overlap import soft_dice
from metrics.procrustes import fit_rigid
from metrics.soft_labels import SoftLabels
from metrics.volume import voxel_counts

__all__ = [
    "RigidFit",
    "closest_rigid",
    "pose_error",
    "rigid_dice",
    "rigid_field",
    "rigid_resample",
    "soft_rigid_dice",
]

# The first steps use every third voxel of a large label.
_STRIDE, _LARGE_VOXELS = 3, 4000
_ITERATIONS = 40


@torch.no_grad()
def closest_rigid(
    labels: Tensor,
    warped: Tensor | SoftLabels,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    iterations: int = _ITERATIONS,
    thorough: bool = True,
    boxes: Sequence[tuple[Box, Box] | None] | None = None,
) -> RigidFit:
    """Find the rigid transform of each moving label that comes closest to its warped label: eq. 2.

    Minimises the sum over x of (s(T(x)) - w(x))^2, where s is the moving label, linearly resampled and 0 outside its
    grid, w is the warped label, and x runs over the fixed grid. What a warped label lost outside the fixed grid does
    not count against a transform. Source: [1], eq. 2 (there 50 Adam steps on Euler angles); solver: [2].

    Args:
        labels: integer moving map (D, H, W).
        warped: soft labels (N, d, h, w), in [0, 1], whole or as crops, or a hard map, integer (d, h, w).
        ids: N label values, positive.
        spacing_mm: (z, y, x), of both grids.
        displacement: the field that warped the labels, (1, 3, d, h, w), voxels. The solver starts from its
            least-squares rigid fit over the warped label. None: the solver starts from the centroids, with the identity
            and with six rotations of +-10 degrees, and keeps the best.
        iterations: the most Levenberg-Marquardt steps for each start.
        thorough: with a displacement, also start beside its fit, where eq. 2 may have a lower minimum. For small labels
            this takes several times as long and changes their rigid Dice by less than 0.001; a training loss can omit
            it.
        boxes: `metrics.boxes.pair_boxes` of the labels in both maps; None computes them.

    Returns:
        The N transforms, detached: rotation (N, 3, 3), translation (N, 3) in mm; see `RigidFit` for missing labels.

    Raises:
        ValueError: the displacement is not on the grid of `warped`, or an id is below 1.
    """
    boxes = both_boxes(labels, warped, ids) if boxes is None else boxes
    return _closest(labels, warped, ids, spacing_mm, boxes, displacement, iterations, thorough)


@torch.no_grad()
def _closest(
    labels: Tensor,
    warped: Tensor | SoftLabels,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    boxes: Sequence[tuple[Box, Box] | None],
    displacement: Tensor | None,
    iterations: int = _ITERATIONS,
    thorough: bool = True,
) -> RigidFit:
    """`closest_rigid` with known boxes."""
    if displacement is not None:
        _check_grid("displacement", displacement, warped.shape[-3:])
    size = voxel_counts(labels, ids)
    if isinstance(warped, SoftLabels):
        size = size.minimum(warped.sums().long())
    else:
        size = size.minimum(voxel_counts(warped, ids) if is_hard(warped) else warped.sum(dim=(1, 2, 3)).long())
    large = (size > _LARGE_VOXELS).tolist()
    # Large and small labels are separate batches, so that the result of a label does not depend on the others.
    groups = [(large, _STRIDE), ([not v for v in large], 1)]
    fits = [
        Vertebrae(labels, warped, ids, spacing_mm, boxes, chosen, stride).closest(displacement, iterations, thorough)
        for chosen, stride in groups
        if any(chosen) or not large
    ]
    return reduce(lower_residual, fits)


def rigid_resample(
    labels: Tensor, fit: RigidFit, ids: Sequence[int], spacing_mm: Sequence[float], shape: Sequence[int] | None = None
) -> Tensor:
    """Resample the moving labels under rigid transforms, s(T(x)), on the fixed grid.

    Args:
        labels: integer moving map (D, H, W).
        fit: N transforms, from `closest_rigid`.
        ids: N label values, positive.
        spacing_mm: (z, y, x), of both grids.
        shape: (d, h, w) of the fixed grid; None: that of the labels.

    Returns:
        (N, d, h, w), in [0, 1], linearly resampled; > 0.5 is the hard label. NaN where the transform is NaN; 0 for a
        label that is absent or mapped completely out of the grid.
    """
    size = tuple(shape or labels.shape)
    one_hot = torch.stack([labels == i for i in ids])[:, None].to(fit.rotation.dtype)
    origin = torch.zeros(len(ids), 3, device=labels.device, dtype=fit.rotation.dtype)
    spacing = origin.new_tensor(tuple(spacing_mm))
    resampled = transform(one_hot, origin, fit.rotation, fit.translation, origin, size, spacing)[:, 0]
    # A sample at NaN is background, but the label of an unknown transform is unknown.
    return resampled.masked_fill(fit.translation.isnan().any(dim=1).view(-1, 1, 1, 1), torch.nan)


def rigid_dice(
    labels: Tensor,
    warped: Tensor | SoftLabels,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    fit: RigidFit | None = None,
    boxes: Sequence[tuple[Box, Box] | None] | None = None,
) -> Tensor:
    """Compute the rigid Dice, the overlap of each warped label with its closest rigid copy: 1 - eq. 3.

    A hard map, as in the table, gives the hard Dice of the warped label and the rigid copy above 0.5. Pass the fit of
    the soft labels: an exactly rigid motion then has 1. With a fit of the hard labels it loses 0.002 to 0.04, most for
    small labels. Soft labels, as in the loss, give `soft_dice` with squares, which is 1 only where both agree in every
    voxel; it is differentiable through `warped` only, since the transform is held fixed, as in the authors' code.
    Source: [1], eq. 3.

    Args:
        labels: integer moving map (D, H, W).
        warped: soft labels (N, d, h, w), in [0, 1], whole or as crops, or a hard map, integer (d, h, w).
        ids: N label values, positive.
        spacing_mm: (z, y, x), of both grids.
        displacement: as in `closest_rigid`, which is called where `fit` is None.
        fit: the result of `closest_rigid`; None computes it.
        boxes: `metrics.boxes.pair_boxes` of the labels in both maps; None computes them.

    Returns:
        (N,), in [0, 1], without unit; NaN where `closest_rigid` has no transform.

    Raises:
        ValueError: the displacement is not on the grid of `warped`, or an id is below 1.
    """
    return _rigid_overlap(labels, warped, ids, spacing_mm, displacement, fit, boxes, soft=not is_hard(warped))


def soft_rigid_dice(
    labels: Tensor,
    warped: Tensor | SoftLabels,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    fit: RigidFit | None = None,
    boxes: Sequence[tuple[Box, Box] | None] | None = None,
) -> Tensor:
    """Compute the rigid Dice on the scale of the authors' released code: soft labels, and no squares.

        2 sum r w / (sum r + sum w), with r the closest rigid copy, linearly resampled, and w the warped label

    The code calls MONAI's DiceLoss with its defaults. An exactly rigid motion does not reach 1 on this scale, since a
    voxel that is neither 0 nor 1 does not match itself: sum w^2 / sum w remains, about 0.94 for a vertebra at 1 mm.
    Table 1 of [1] is on this scale; `rigid_dice` is not. The row "Initial" compares with a hard map, which has no such
    voxels: pass the fixed labels as `warped`. Source: [1], eq. 3, and its released code.

    Args:
        labels: as in `rigid_dice`.
        warped: as in `rigid_dice`; the values of a hard map are 0 and 1, and the rigid copy stays soft.
        ids: as in `rigid_dice`.
        spacing_mm: as in `rigid_dice`.
        displacement: as in `rigid_dice`.
        fit: as in `rigid_dice`.
        boxes: as in `rigid_dice`.

    Returns:
        (N,), in [0, 1], without unit; NaN where `closest_rigid` has no transform.

    Raises:
        ValueError: the displacement is not on the grid of `warped`, or an id is below 1.
    """
    return _rigid_overlap(labels, warped, ids, spacing_mm, displacement, fit, boxes, soft=True, squares=False)


def _rigid_overlap(
    labels: Tensor,
    warped: Tensor | SoftLabels,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None,
    fit: RigidFit | None,
    boxes: Sequence[tuple[Box, Box] | None] | None,
    soft: bool,
    squares: bool = True,
) -> Tensor:
    """Dice of each warped label and its closest rigid copy, which is rounded unless `soft`."""
    boxes = both_boxes(labels, warped, ids) if boxes is None else boxes
    fit = fit or _closest(labels, warped, ids, spacing_mm, boxes, displacement)
    vertebrae = Vertebrae(labels, warped, ids, spacing_mm, boxes, chosen=fit.residual.isfinite().tolist())
    result = torch.full((len(ids),), torch.nan, device=labels.device, dtype=vertebrae.dtype)
    if not vertebrae.index:
        return result
    index = torch.tensor(vertebrae.index, device=labels.device)
    rotation, translation = fit.rotation[index].to(result.dtype), fit.translation[index].to(result.dtype)
    values, origin = vertebrae.fixed_crops(rotation, translation)
    rigid = vertebrae.resample(rotation, translation, origin, values.shape[2:])
    if not soft:
        rigid = (rigid > 0.5).to(rigid.dtype)
    return result.index_put((index,), soft_dice(rigid, values, squares)[:, 0])


def rigid_field(displacement: Tensor, weights: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Compute the rigid field loss: the mean distance of the displacement from its best rigid fit over each vertebra.

    The fit is weighted by all voxels of the label instead of 256 drawn points, and held fixed: the gradient acts on the
    displacement and the weights. The distance is not squared, as in the authors' code and unlike the printed eq. 4.
    Source: [1], eq. 4.

    Args:
        displacement: (1, 3, D, H, W), voxels.
        weights: warped soft labels (N, D, H, W), at least 0.
        spacing_mm: (z, y, x).

    Returns:
        (N,), mm, at least 0; 0 for a rigid motion and for a label of one voxel; NaN for an empty label, or where the
        field is not finite in the label.

    Raises:
        ValueError: the displacement is on another grid than the weights.
    """
    _check_grid("displacement", displacement, weights.shape[1:])
    occupied = weights.detach().flatten(1).nonzero()
    counts = occupied[:, 0].bincount(minlength=len(weights))
    present = counts.nonzero()[:, 0]
    result = displacement.new_full((len(weights),), torch.nan)
    if not len(present):
        return result
    # The voxels of each label, (K, P); a shorter row is filled with its last voxel at weight 0.
    count, first = (c[present].unsqueeze(-1) for c in (counts, counts.cumsum(0) - counts))
    place = torch.arange(int(count.max()), device=occupied.device)
    index = occupied[:, 1][first + place.minimum(count - 1)]
    w = weights.flatten().index_select(0, (present.unsqueeze(-1) * weights[0].numel() + index).flatten())
    w = w.view(index.shape).to(displacement.dtype).masked_fill(place >= count, 0.0)
    spacing = displacement.new_tensor(tuple(spacing_mm)).unsqueeze(-1)
    u = displacement[0].flatten(1).index_select(1, index.flatten()).view(3, *index.shape).transpose(0, 1)
    _, height, width = weights.shape[1:]
    voxels = torch.stack([index // (height * width), index // width % height, index % width], dim=1)
    # Positions relative to the label keep float32 exact to a nanometre.
    points, motion = (voxels - voxels[..., :1]) * spacing, u * spacing
    rotation, translation = fit_rigid(points.mT, (points + motion.detach()).mT, w.detach())
    difference = points + motion - rotation @ points - translation.unsqueeze(-1)
    squared = difference.square().sum(dim=1)
    # sqrt has an infinite gradient at 0, so the root is taken of 1 there and replaced by 0.
    length = squared.where(squared != 0, 1).sqrt().where(squared != 0, 0)
    return result.index_put((present,), (w * length).sum(dim=-1) / w.sum(dim=-1))


def pose_error(
    displacement: Tensor, true_displacement: Tensor, mask: Tensor, spacing_mm: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the error of one vertebra's pose.

    Each pose is the rigid fit of a displacement over the mask. The rotation error is the angle between the two
    rotations. The translation error is the distance between the two images of the mask's centroid. TRE, the target
    registration error, is the mean distance of the two displacements over the mask, rigid or not.

    Args:
        displacement: (1, 3, D, H, W), voxels.
        true_displacement: (1, 3, D, H, W), voxels.
        mask: bool (D, H, W), the true fixed label.
        spacing_mm: (z, y, x).

    Returns:
        rotation error in degrees, in [0, 180], translation error in mm and TRE in mm, at least 0, each a float64
        scalar. All are NaN for an empty mask, and not finite where a field is not finite in the mask. One voxel has
        rotation error 0.

    Raises:
        ValueError: a displacement is on another grid than the mask.
    """
    _check_grid("displacement", displacement, mask.shape)
    _check_grid("true_displacement", true_displacement, mask.shape)
    voxels = mask.nonzero()
    spacing = torch.tensor(tuple(spacing_mm), dtype=torch.float64, device=mask.device)
    points = voxels.double() * spacing
    z, y, x = voxels.unbind(dim=1)
    both = [u[0, :, z, y, x].T.double() * spacing for u in (displacement, true_displacement)]
    (rotation, _), (true_rotation, _) = (fit_rigid(points, points + u) for u in both)
    # The angle is computed from the chord: arccos of the trace loses every digit of a small angle.
    chord = (rotation - true_rotation).norm() / math.sqrt(8)
    difference = both[0] - both[1]
    return torch.rad2deg(2 * chord.clamp(max=1).asin()), difference.mean(dim=0).norm(), difference.norm(dim=1).mean()


def _check_grid(name: str, displacement: Tensor, shape: Sequence[int]) -> None:
    if displacement.shape != (1, 3, *shape):
        raise ValueError(f"{name}: expected {(1, 3, *shape)}, got {tuple(displacement.shape)}")
