"""How far each vertebra's motion is from a rigid one, and how far its pose is from the truth.

A rigid transform here maps x to R x + t, where x is voxel index * spacing, millimetres in axis order (z, y, x). An
oblique direction matrix or another origin would turn both sides alike, so nothing here depends on them. Vertebrae are
the batch: their crops are cut to one size and solved together.

References:
    [1] Jian et al., Weakly-supervised Biomechanically-constrained CT/MRI Registration of the Spine, MICCAI 2022,
        equations (2) to (4). https://arxiv.org/abs/2205.07568
    [2] Arun, Huang, Blostein, Least-squares fitting of two 3-D point sets, IEEE TPAMI 9(5), 1987.
    [3] Umeyama, Least-squares estimation of transformation parameters between two point patterns, TPAMI 13(4), 1991.
    [4] Marquardt, An algorithm for least-squares estimation of nonlinear parameters, J. SIAM 11(2), 1963.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import reduce

import torch
from torch import Tensor

from metrics._closest_rigid import RigidFit, Vertebrae, both_boxes, lower
from metrics._crops import transform
from metrics.boxes import Box
from metrics.overlap import soft_dice
from metrics.procrustes import fit_rigid
from metrics.volume import voxel_counts

__all__ = [
    "RigidFit",
    "closest_rigid",
    "pose_error",
    "rigid_dice",
    "rigid_field",
    "rigid_resample",
]

# The first steps look at every third voxel; a label of fewer voxels than this is too small for that.
_STRIDE, _LARGE = 3, 4000
_ITERATIONS = 40


@torch.no_grad()
def closest_rigid(
    labels: Tensor,
    warped: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    iterations: int = _ITERATIONS,
    thorough: bool = True,
    boxes: Sequence[tuple[Box, Box] | None] | None = None,
) -> RigidFit:
    """The rigid transform of each moving label that comes closest to its warped label: eq. 2.

    Minimises sum over x of (s(T(x)) - w(x))^2, s the moving label, linearly resampled and 0 outside of its grid, w the
    warped label, x over the fixed grid.

    labels: integer moving map (D, H, W). warped: soft labels (N, d, h, w), or a hard map, integer (d, h, w).
    ids: N label values, positive. spacing_mm: z, y, x, of both grids.
    displacement: (1, 3, d, h, w), voxels, the field that warped the label; the solver starts from its least-squares
        rigid fit over the warped label. None, where no field exists, starts from the centroids with the identity and
        with six rotations of +-10 degrees, and keeps the best.
    iterations: at most, of Levenberg-Marquardt, per start.
    thorough: with a displacement, also try starts beside its fit, where eq. 2 may have a lower minimum. A training loss
        need not: it costs several times as much for small labels, and changes their rigid Dice by less than 0.001.
    boxes: of each label in both maps, if known (`metrics.boxes.pair_boxes`).
    Returns a RigidFit, detached. What a warped label lost beyond the fixed grid does not count against a transform.
    Raises ValueError for a displacement on another grid than warped.
    Source: [1], eq. 2 (there 50 Adam steps on Euler angles); solver: [4].
    """
    found = both_boxes(labels, warped, ids) if boxes is None else boxes
    return _closest(labels, warped, ids, spacing_mm, found, displacement, iterations, thorough)


@torch.no_grad()
def _closest(
    labels: Tensor,
    warped: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    found: Sequence[tuple[Box, Box] | None],
    displacement: Tensor | None,
    iterations: int = _ITERATIONS,
    thorough: bool = True,
) -> RigidFit:
    """`closest_rigid` where the boxes are known."""
    if displacement is not None:
        _check_grid("displacement", displacement, warped.shape[-3:])
    hard = not warped.is_floating_point()
    size = voxel_counts(labels, ids).minimum(voxel_counts(warped, ids) if hard else warped.sum(dim=(1, 2, 3)).long())
    large = (size > _LARGE).tolist()
    # Large and small labels apart: neither the batch nor its order changes what is found for one of them.
    groups = [(large, _STRIDE), ([not v for v in large], 1)]
    fits = [
        Vertebrae(labels, warped, ids, spacing_mm, found, wanted, stride).closest(displacement, iterations, thorough)
        for wanted, stride in groups
        if any(wanted) or not large
    ]
    return reduce(lower, fits)


def rigid_resample(
    labels: Tensor, fit: RigidFit, ids: Sequence[int], spacing_mm: Sequence[float], shape: Sequence[int] | None = None
) -> Tensor:
    """The rigidly transformed moving labels s(T(x)) on the fixed grid: what the warped label would be, were it rigid.

    labels: integer moving map (D, H, W). fit: N transforms. ids: N label values, positive. spacing_mm: z, y, x.
    shape: (d, h, w) of the fixed grid, by default that of the labels.
    Returns (N, d, h, w) in [0, 1], linearly resampled; > 0.5 is the hard label. NaN where the transform is;
    0 for a label that is absent or taken wholly out of the grid.
    """
    size = tuple(shape or labels.shape)
    one_hot = torch.stack([labels == i for i in ids])[:, None].to(fit.rotation.dtype)
    nowhere = torch.zeros(len(ids), 3, device=labels.device, dtype=fit.rotation.dtype)
    spacing = nowhere.new_tensor(tuple(spacing_mm))
    found = transform(one_hot, nowhere, fit.rotation, fit.translation, nowhere, size, spacing)[:, 0]
    # What is sampled at NaN is background, which an unknown transform is not.
    return found.masked_fill(fit.translation.isnan().any(dim=1).view(-1, 1, 1, 1), torch.nan)


def rigid_dice(
    labels: Tensor,
    warped: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    fit: RigidFit | None = None,
    boxes: Sequence[tuple[Box, Box] | None] | None = None,
) -> Tensor:
    """Rigid Dice: the overlap of each warped label with its own closest rigid copy. The loss of eq. 3 is 1 - this.

    Arguments as in `closest_rigid`; fit: its result, if known. warped decides between the two readings:
    integer (the table): hard Dice of the warped label with the rigid copy above 0.5. Give the `fit` of the soft warped
        label: an exactly rigid motion then scores 1. Fitted to the hard one it loses 0.002 to 0.04, small labels most;
    soft (the loss): `soft_dice` with squares, 1 only where both agree in every voxel. Differentiable through `warped`
        alone, the transform is held fixed, as in the authors' code.
    Returns (N,), in [0, 1], without unit; NaN where `closest_rigid` has no transform. Source: [1], eq. 3.
    """
    found = both_boxes(labels, warped, ids) if boxes is None else boxes
    fit = fit or _closest(labels, warped, ids, spacing_mm, found, displacement)
    vertebrae = Vertebrae(labels, warped, ids, spacing_mm, found, wanted=fit.residual.isfinite().tolist())
    result = torch.full((len(ids),), torch.nan, device=labels.device, dtype=vertebrae.dtype)
    if not vertebrae.index:
        return result
    index = torch.tensor(vertebrae.index, device=labels.device)
    rotation, translation = fit.rotation[index].to(result.dtype), fit.translation[index].to(result.dtype)
    values, origin = vertebrae.fixed(rotation, translation)
    rigid = vertebrae.resample(rotation, translation, origin, values.shape[2:])
    if not warped.is_floating_point():
        rigid = (rigid > 0.5).to(rigid.dtype)
    return result.index_put((index,), soft_dice(rigid, values)[:, 0])


def rigid_field(displacement: Tensor, weights: Tensor, spacing_mm: Sequence[float]) -> Tensor:
    """Rigid field loss: mean distance between the displacement and its own best rigid fit over each vertebra.

    displacement: (1, 3, D, H, W), voxels. weights: warped soft labels (N, D, H, W), at least 0. spacing_mm: z, y, x.
    Returns (N,), millimetres, at least 0, 0 for a rigid motion (as any of one voxel is); NaN for an empty label or a
    field that is not finite inside it. The fit, weighted by the whole label instead of 256 drawn points, is held fixed:
    the gradient flows through displacement and weights. The length is not squared, which follows the authors' code, not
    eq. 4's print. Raises ValueError for another grid. Source: [1], eq. 4.
    """
    _check_grid("displacement", displacement, weights.shape[1:])
    found = weights.detach().flatten(1).nonzero()
    counts = found[:, 0].bincount(minlength=len(weights))
    present = counts.nonzero()[:, 0]
    result = displacement.new_full((len(weights),), torch.nan)
    if not len(present):
        return result
    # The voxels of each label, (K, P); shorter rows repeat their last one with weight 0.
    count, first = (c[present].unsqueeze(-1) for c in (counts, counts.cumsum(0) - counts))
    place = torch.arange(int(count.max()), device=found.device)
    index = found[:, 1][first + place.minimum(count - 1)]
    w = weights.flatten().index_select(0, (present.unsqueeze(-1) * weights[0].numel() + index).flatten())
    w = w.view(index.shape).to(displacement.dtype).masked_fill(place >= count, 0.0)
    spacing = displacement.new_tensor(tuple(spacing_mm)).unsqueeze(-1)
    u = displacement[0].flatten(1).index_select(1, index.flatten()).view(3, *index.shape).transpose(0, 1)
    _, height, width = weights.shape[1:]
    voxels = torch.stack([index // (height * width), index // width % height, index % width], dim=1)
    # Positions counted from the label, not the grid, keep float32 exact to a nanometre.
    points, motion = (voxels - voxels[..., :1]) * spacing, u * spacing
    rotation, translation = fit_rigid(points.mT, (points + motion.detach()).mT, w.detach())
    difference = points + motion - rotation @ points - translation.unsqueeze(-1)
    squared = difference.square().sum(dim=1)
    # The root of 1 in place of 0 has a gradient, which the zero then takes out.
    length = squared.where(squared != 0, 1).sqrt().where(squared != 0, 0)
    return result.index_put((present,), (w * length).sum(dim=-1) / w.sum(dim=-1))


def pose_error(
    displacement: Tensor, true_displacement: Tensor, mask: Tensor, spacing_mm: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """How far one vertebra's pose is from the truth: (rotation error deg, translation error mm, TRE mm).

    displacement, true_displacement: (1, 3, D, H, W), voxels. mask: (D, H, W), bool, the true fixed label.
    spacing_mm: z, y, x.
    A rigid fit over the mask stands for each pose: the angle between the two rotations, in [0, 180], and the distance
    between the two images of the mask's centroid. TRE: mean distance of the two displacements over the mask, rigid or
    not. Each a float64 scalar; all NaN for an empty mask, none finite for a field that is not finite in it. One voxel
    has no rotation: 0. Raises ValueError for another grid.
    """
    _check_grid("displacement", displacement, mask.shape)
    _check_grid("true_displacement", true_displacement, mask.shape)
    voxels = mask.nonzero()
    spacing = torch.tensor(tuple(spacing_mm), dtype=torch.float64, device=mask.device)
    points = voxels.double() * spacing
    z, y, x = voxels.unbind(dim=1)
    both = [u[0, :, z, y, x].T.double() * spacing for u in (displacement, true_displacement)]
    (found, _), (truth, _) = (fit_rigid(points, points + u) for u in both)
    # Through the chord: arccos of the trace loses every digit of a small angle.
    chord = (found - truth).norm() / math.sqrt(8)
    difference = both[0] - both[1]
    return torch.rad2deg(2 * chord.clamp(max=1).asin()), difference.mean(dim=0).norm(), difference.norm(dim=1).mean()


def _check_grid(name: str, displacement: Tensor, shape: Sequence[int]) -> None:
    if displacement.shape != (1, 3, *shape):
        raise ValueError(f"{name}: expected {(1, 3, *shape)}, got {tuple(displacement.shape)}")
