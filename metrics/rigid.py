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
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from metrics._cells import Cells
from metrics._crops import REACH, covering, cut, positions, transform
from metrics._solver import centroid, informative, largest_motion, minimise, rotation_matrix
from metrics.overlap import soft_dice
from metrics.volume import Box, bounding_box, label_boxes

_START_DEGREES = 10.0
# The first steps look at every third voxel; a label of fewer voxels than this is too small for that.
_STRIDE, _LARGE = 3, 4000
_ROUNDS = 4


@dataclass(frozen=True)
class RigidFit:
    """The closest rigid transforms of N vertebrae, x -> rotation x + translation, fixed to moving, in millimetres.

    rotation: (N, 3, 3), axes z, y, x. translation: (N, 3), mm, about voxel (0, 0, 0).
    residual: (N,), the summed squared difference of eq. 2 that is left. converged: (N,), bool.
    Where a label is missing on either side, or the field is not finite inside it, all are NaN and `converged` False.
    """

    rotation: Tensor
    translation: Tensor
    residual: Tensor
    converged: Tensor


class _NearestRotation(torch.autograd.Function):
    """The rotation R that maximises tr(R^T M): U diag(1, 1, +-1) V^T of M = U S V^T.

    Its own backward, since that of an SVD is infinite where two singular values agree, as for any cube or sphere; the
    polar factor's is infinite only where the best rotation itself is not unique.
    """

    @staticmethod
    def forward(ctx: Any, matrix: Tensor) -> Tensor:
        u, s, vt = torch.linalg.svd(matrix)
        sign = torch.ones_like(s)
        sign[..., -1] = torch.linalg.det(u @ vt).sign()
        ctx.save_for_backward(u, s * sign, vt, sign)
        return (u * sign.unsqueeze(-2)) @ vt

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        u, s, vt, sign = ctx.saved_tensors
        rotated = u * sign.unsqueeze(-2)
        inner = rotated.mT @ gradients[0] @ vt.mT
        skew = (inner - inner.mT) / (s.unsqueeze(-1) + s.unsqueeze(-2))
        return rotated @ skew @ vt


def fit_rigid(source: Tensor, target: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """The rigid transform that takes `source` to `target` with the least weighted squared distance; no reflection.

    source, target: (..., N, 3), N >= 1, one unit and axis order. weights: (..., N), at least 0, or None for all equal.
    Returns (rotation (..., 3, 3), translation (..., 3)) with target = rotation source + translation. Where the points
    leave the rotation open (one point, a line) it is the one nearest to the identity. Batched; differentiable in all
    three. NaN where the weights sum to 0 or a weighted point is not finite. Source: [2], [3].
    """
    if weights is None:
        weights = torch.ones_like(source[..., 0])
    share = (weights / weights.sum(dim=-1, keepdim=True)).unsqueeze(-2)
    from_centre, to_centre = share @ source, share @ target
    covariance = ((target - to_centre).mT * share) @ (source - from_centre)
    known = covariance.detach().isfinite().flatten(-2).all(dim=-1) & (weights.detach().sum(dim=-1) > 0)
    known = known[..., None, None]
    # An SVD refuses NaN for the whole batch; a trace of the identity settles what the points leave open.
    identity = torch.eye(3, dtype=source.dtype, device=source.device)
    scale = covariance.detach().norm(dim=(-2, -1), keepdim=True) * torch.finfo(source.dtype).eps * 4
    settled = covariance + (scale + torch.finfo(source.dtype).tiny) * identity
    rotation = _NearestRotation.apply(torch.where(known, settled, identity))
    rotation = torch.where(known, rotation, torch.full_like(rotation, torch.nan))
    return rotation, (to_centre - from_centre @ rotation.mT).squeeze(-2)


@torch.no_grad()
def closest_rigid(
    labels: Tensor,
    warped: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    iterations: int = 40,
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
    Returns a RigidFit, detached. Source: [1], eq. 2 (there 50 Adam steps on Euler angles); solver: [4].
    """
    vertebrae = _Vertebrae(labels, warped, ids, spacing_mm)
    if not vertebrae.index:
        return vertebrae.spread()
    rotation, translation = vertebrae.starts(displacement)
    known = (rotation.isfinite().flatten(2).all(dim=2) & translation.isfinite().all(dim=2)).all(dim=0)
    # The identity in place of NaN: the rest of the batch goes on.
    rotation = rotation.where(known[:, None, None], torch.eye(3).to(rotation))
    fit = vertebrae.solve(*vertebrae.approach(rotation, translation.where(known[:, None], 0.0), iterations), iterations)
    return vertebrae.spread(fit, known & fit.residual.isfinite())


def rigid_resample(
    labels: Tensor, fit: RigidFit, ids: Sequence[int], spacing_mm: Sequence[float], shape: Sequence[int] | None = None
) -> Tensor:
    """The rigidly transformed moving labels s(T(x)) on the fixed grid: what the warped label would be, were it rigid.

    labels: integer moving map (D, H, W). fit: N transforms. ids: N label values, positive. spacing_mm: z, y, x.
    shape: (d, h, w) of the fixed grid, by default that of the labels.
    Returns (N, d, h, w) in [0, 1], linearly resampled; > 0.5 is the hard label. NaN where the transform is.
    """
    size = tuple(shape or labels.shape)
    one_hot = torch.stack([labels == i for i in ids])[:, None].to(fit.rotation.dtype)
    nowhere = torch.zeros(len(ids), 3, device=labels.device, dtype=fit.rotation.dtype)
    spacing = nowhere.new_tensor(tuple(spacing_mm))
    return transform(one_hot, nowhere, fit.rotation, fit.translation, nowhere, size, spacing)[:, 0]


def rigid_dice(
    labels: Tensor,
    warped: Tensor,
    ids: Sequence[int],
    spacing_mm: Sequence[float],
    displacement: Tensor | None = None,
    fit: RigidFit | None = None,
) -> Tensor:
    """Rigid Dice: the overlap of each warped label with its own closest rigid copy. The loss of eq. 3 is 1 - this.

    Arguments as in `closest_rigid`; fit: its result, if known. warped decides between the two readings:
    integer (the table): hard Dice of the warped label with the rigid copy above 0.5. Give the `fit` of the soft warped
        label: an exactly rigid motion then scores 1. Fitted to the hard one it loses 0.002 to 0.04, small labels most;
    soft (the loss): `soft_dice` with squares, 1 only where both agree in every voxel. Differentiable through `warped`
        alone, the transform is held fixed, as in the authors' code.
    Returns (N,), in [0, 1], without unit; NaN where `closest_rigid` has no transform. Source: [1], eq. 3.
    """
    fit = fit or closest_rigid(labels, warped, ids, spacing_mm, displacement)
    known = fit.residual.isfinite().tolist()
    vertebrae = _Vertebrae(labels, warped, ids, spacing_mm, known)
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
    Returns (N,), millimetres, at least 0, 0 for a rigid motion; NaN for an empty label or a field that is not finite
    inside it. The fit, weighted by the whole label instead of 256 drawn points, is held fixed: the gradient flows
    through displacement and weights. The length is not squared, which follows the authors' code, not eq. 4's print.
    Source: [1], eq. 4.
    """
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
    w = w.view(index.shape).masked_fill(place >= count, 0.0)
    spacing = displacement.new_tensor(tuple(spacing_mm)).unsqueeze(-1)
    u = displacement[0].flatten(1).index_select(1, index.flatten()).view(3, *index.shape).transpose(0, 1)
    _, height, width = weights.shape[1:]
    voxels = torch.stack([index // (height * width), index // width % height, index % width], dim=1)
    # Positions counted from the label, not the grid, keep float32 exact to a nanometre.
    points, motion = (voxels - voxels[..., :1]) * spacing, u * spacing
    rotation, translation = fit_rigid(points.mT, (points + motion.detach()).mT, w.detach())
    difference = points + motion - rotation @ points - translation.unsqueeze(-1)
    mean = (w * torch.linalg.vector_norm(difference, dim=1)).sum(dim=-1) / w.sum(dim=-1)
    return result.index_put((present,), mean)


def pose_error(
    displacement: Tensor, true_displacement: Tensor, mask: Tensor, spacing_mm: Sequence[float]
) -> tuple[Tensor, Tensor, Tensor]:
    """How far one vertebra's pose is from the truth: (rotation error deg, translation error mm, TRE mm).

    displacement, true_displacement: (1, 3, D, H, W), voxels. mask: (D, H, W), bool, the true fixed label.
    spacing_mm: z, y, x.
    A rigid fit over the mask stands for each pose: the angle between the two rotations, in [0, 180], and the distance
    between the two images of the mask's centroid. TRE: mean distance of the two displacements over the mask, rigid or
    not. Each a float64 scalar; all NaN for an empty mask or a field that is not finite in it.
    """
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


class _Vertebrae:
    """The vertebrae that both maps have, cut out: what eq. 2 is solved on and eq. 3 is taken over."""

    def __init__(
        self,
        labels: Tensor,
        warped: Tensor,
        ids: Sequence[int],
        spacing_mm: Sequence[float],
        wanted: Sequence[bool] | None = None,
    ) -> None:
        hard = not warped.is_floating_point()
        boxes = label_boxes(labels, ids)
        targets = label_boxes(warped, ids) if hard else [bounding_box(w) for w in warped.detach()]
        self.index: list[int] = []
        self.boxes: list[Box] = []
        self.targets: list[Box] = []
        for k, (box, target) in enumerate(zip(boxes, targets, strict=True)):
            if box is not None and target is not None and (wanted is None or wanted[k]):
                self.index.append(k)
                self.boxes.append(box)
                self.targets.append(target)
        self.warped, self.count, self.spacing_mm = warped, len(ids), tuple(spacing_mm)
        self.dtype = torch.float32 if hard else warped.dtype
        self.spacing = torch.tensor(self.spacing_mm, dtype=self.dtype, device=labels.device)
        self.keys = [ids[k] if hard else k for k in self.index]
        if self.index:
            self.moving, self.moving_origin = cut(labels, self.boxes, [ids[k] for k in self.index], self.dtype)
            self.cells = Cells(self.moving[:, 0], self.moving_origin, self.spacing)

    def starts(self, displacement: Tensor | None) -> tuple[Tensor, Tensor]:
        """Where to start, S rotations (S, K, 3, 3) and translations (S, K, 3).

        One, the field's own rigid fit; or seven, centroid on centroid in seven orientations.
        """
        values, origin = cut(self.warped, self.targets, self.keys, self.dtype)
        stride = self.stride(values)
        weights = values[..., ::stride, ::stride, ::stride].flatten(1)
        points = positions(origin, values.shape[2:], self.spacing, stride)
        self.centre = centroid(points, weights.nan_to_num())
        squares = (points - self.centre.unsqueeze(-1)).square().sum(dim=1, keepdim=True)
        self.radius = centroid(squares, weights.nan_to_num()).sqrt().clamp(min=min(self.spacing_mm))
        if displacement is not None:
            u, _ = cut(displacement, self.targets, self.keys, self.dtype)
            motion = u[..., ::stride, ::stride, ::stride].flatten(2) * self.spacing.unsqueeze(-1)
            # Where the weight is 0 the field may be anything, NaN included.
            motion = torch.where((weights > 0).unsqueeze(1), motion, 0.0)
            rotation, translation = fit_rigid(points.mT, (points + motion).mT, weights)
            return rotation[None], translation[None]
        moving_points = positions(self.moving_origin, self.moving.shape[2:], self.spacing)
        target = centroid(moving_points, self.moving.flatten(1))
        degrees = (_START_DEGREES, -_START_DEGREES)
        turns = torch.stack([torch.zeros(3), *(axis * math.radians(d) for axis in torch.eye(3) for d in degrees)])
        rotation = rotation_matrix(turns.to(points)).unsqueeze(1).expand(-1, len(self.index), 3, 3)
        return rotation, target - (rotation @ self.centre.unsqueeze(-1)).squeeze(-1)

    def stride(self, values: Tensor) -> int:
        """Which voxels the first steps look at."""
        return _STRIDE if bool((values.flatten(1).sum(dim=1) > _LARGE).all()) else 1

    def fixed(self, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Crops of the warped label, large enough for the moving label under the transform: (K, 1, d, h, w), origin."""
        entries = zip(self.boxes, self.targets, rotation.tolist(), translation.tolist(), strict=True)
        wide = [covering(b, t, r, o, self.spacing_mm, self.warped.shape[-3:]) for b, t, r, o in entries]
        return cut(self.warped, wide, self.keys, self.dtype)

    def resample(self, rotation: Tensor, translation: Tensor, origin: Tensor, size: Sequence[int]) -> Tensor:
        return transform(self.moving, self.moving_origin, rotation, translation, origin, size, self.spacing)

    def approach(self, rotation: Tensor, translation: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """The best of the starts (S, K, ...), each made better by a look at few voxels: (K, 3, 3), (K, 3)."""
        values, origin = self.fixed(rotation[0], translation[0])
        stride = self.stride(values)
        points = positions(origin, values.shape[2:], self.spacing, stride).repeat(len(rotation), 1, 1)
        target = values[..., ::stride, ::stride, ::stride].flatten(1).repeat(len(rotation), 1)
        centre, radius = self.centre.repeat(len(rotation), 1), self.radius.repeat(len(rotation), 1)
        found = minimise(
            self.cells, points, target, centre, radius, rotation.flatten(0, 1), translation.flatten(0, 1), iterations
        )
        rotations, translations, cost = (part.unflatten(0, rotation.shape[:2]) for part in found[:3])
        which, rows = cost.argmin(dim=0), torch.arange(rotation.shape[1], device=cost.device)
        return rotations[which, rows], translations[which, rows]

    def solve(self, rotation: Tensor, translation: Tensor, iterations: int) -> RigidFit:
        """Eq. 2 on all voxels that matter, which are looked for again when the transform leaves them."""
        for _ in range(_ROUNDS):
            before = rotation, translation
            values, origin = self.fixed(rotation, translation)
            points, target, constant = informative(self.cells, values, origin, rotation, translation)
            rotation, translation, cost, converged = minimise(
                self.cells, points, target, self.centre, self.radius, rotation, translation, iterations
            )
            stayed = largest_motion(points, before, (rotation, translation), self.spacing) < REACH
            if bool(stayed.all()):
                break
        return RigidFit(rotation, translation, cost + constant, converged & stayed)

    def spread(self, fit: RigidFit | None = None, known: Tensor | None = None) -> RigidFit:
        """The fit of those present as one of all asked for; NaN where it is not known."""
        nan = torch.full((self.count, 3, 4), torch.nan, dtype=self.dtype, device=self.warped.device)
        everything = RigidFit(nan[..., :3], nan[..., 3], nan[:, 0, 0], torch.zeros_like(nan[:, 0, 0], dtype=torch.bool))
        if fit is None or known is None:
            return everything
        where = torch.tensor(self.index, dtype=torch.int64, device=nan.device)[known]
        return RigidFit(
            everything.rotation.index_copy(0, where, fit.rotation[known]),
            everything.translation.index_copy(0, where, fit.translation[known]),
            everything.residual.index_copy(0, where, fit.residual[known]),
            everything.converged.index_copy(0, where, fit.converged[known]),
        )
