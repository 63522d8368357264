"""Behind `metrics.rigid`: the vertebrae of a case as one batch, where to start with eq. 2 and which minimum to keep."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from metrics._crops import REACH, covering, cut, positions, transform
from metrics._levenberg_marquardt import centroid, informative, largest_motion, minimise, rotation_matrix
from metrics._trilinear import Cells
from metrics.boxes import Box, bounding_box, label_boxes, pair_boxes
from metrics.procrustes import fit_rigid

_START_DEGREES = 10.0
_ASIDE = 0.3  # of a voxel
_ROUNDS = 4
# The share of a label's volume that may be left of eq. 2 before a second start is tried.
_MUCH = 0.05


@dataclass(frozen=True)
class RigidFit:
    """The closest rigid transforms of N vertebrae, x -> rotation x + translation, fixed to moving, in millimetres.

    All in the dtype of the soft labels, float32 for hard ones.
    rotation: (N, 3, 3), axes z, y, x. translation: (N, 3), mm, about voxel (0, 0, 0).
    residual: (N,), the summed squared difference of eq. 2 that is left. converged: (N,), bool.
    Where a label is missing on either side, or is not finite, or the field is not inside it, all are NaN and
    `converged` False.
    """

    rotation: Tensor
    translation: Tensor
    residual: Tensor
    converged: Tensor


def lower(a: RigidFit, b: RigidFit) -> RigidFit:
    """Of each vertebra the fit that leaves less; any rather than none, which is NaN."""
    first = ~(a.residual > b.residual) & ~a.residual.isnan()
    return RigidFit(
        a.rotation.where(first[:, None, None], b.rotation),
        a.translation.where(first[:, None], b.translation),
        a.residual.where(first, b.residual),
        a.converged.where(first, b.converged),
    )


def both_boxes(labels: Tensor, warped: Tensor, ids: Sequence[int]) -> list[tuple[Box, Box] | None]:
    """Of each label its boxes in the moving and in the warped map, None where one of these lacks it."""
    targets = label_boxes(warped, ids) if not warped.is_floating_point() else [bounding_box(w) for w in warped.detach()]
    return pair_boxes(label_boxes(labels, ids), targets)


class Vertebrae:
    """The vertebrae that both maps have, cut out: what eq. 2 is solved on and eq. 3 is taken over.

    found: `both_boxes` of these. wanted: which of the N count, by default all. stride: of the voxels that the first
    steps look at.
    """

    def __init__(
        self,
        labels: Tensor,
        warped: Tensor,
        ids: Sequence[int],
        spacing_mm: Sequence[float],
        found: Sequence[tuple[Box, Box] | None],
        wanted: Sequence[bool] | None = None,
        stride: int = 1,
    ) -> None:
        hard = not warped.is_floating_point()
        self.index: list[int] = []
        self.boxes: list[Box] = []
        self.targets: list[Box] = []
        for k, both in enumerate(found):
            if both is not None and (wanted is None or wanted[k]):
                self.index.append(k)
                self.boxes.append(both[0])
                self.targets.append(both[1])
        self.warped, self.count, self.spacing_mm = warped, len(ids), tuple(spacing_mm)
        self.stride = stride
        self.dtype = torch.float32 if hard else warped.dtype
        self.spacing = torch.tensor(self.spacing_mm, dtype=self.dtype, device=labels.device)
        self.keys = [ids[k] if hard else k for k in self.index]
        if self.index:
            self.moving, self.moving_origin = cut(labels, self.boxes, [ids[k] for k in self.index], self.dtype)

    @cached_property
    def cells(self) -> Cells:
        """The moving labels, to be interpolated where the solver looks."""
        return Cells(self.moving[:, 0], self.moving_origin, self.spacing)

    @cached_property
    def sampled(self) -> tuple[Tensor, Tensor]:
        """The warped labels at every `stride`-th voxel of their boxes: positions (K, 3, P), mm, and values (K, P)."""
        values, origin = cut(self.warped, self.targets, self.keys, self.dtype)
        stride = self.stride
        points = positions(origin, values.shape[2:], self.spacing, stride)
        return points, values[..., ::stride, ::stride, ::stride].flatten(1)

    @cached_property
    def volume(self) -> Tensor:
        """Voxels of each warped label, (K,), estimated from those of `sampled`."""
        return self.sampled[1].nan_to_num().sum(dim=-1) * self.stride**3

    @cached_property
    def centre(self) -> Tensor:
        """Centroid of each warped label, (K, 3), mm."""
        # Of a label with NaN in it any place will do, but NaN itself must not reach the index of a cell.
        return centroid(*self.sampled).nan_to_num(0.0, 0.0, 0.0)

    @cached_property
    def radius(self) -> Tensor:
        """Root mean square distance of each warped label's voxels from its centroid, (K, 1), mm, at least a voxel."""
        points, weights = self.sampled
        squares = (points - self.centre.unsqueeze(-1)).square().sum(dim=1, keepdim=True)
        return centroid(squares, weights).nan_to_num(0.0, 0.0, 0.0).clamp(min=min(self.spacing_mm) ** 2).sqrt()

    def starts(self, displacement: Tensor | None) -> tuple[Tensor, Tensor]:
        """Where to start, S rotations (S, K, 3, 3) and translations (S, K, 3).

        The field's own rigid fit, for small labels also six places about it; or, without a field, centroid on centroid
        in seven orientations.
        """
        points, weights = self.sampled
        stride = self.stride
        if displacement is not None:
            u, _ = cut(displacement, self.targets, self.keys, self.dtype)
            motion = u[..., ::stride, ::stride, ::stride].flatten(2) * self.spacing.unsqueeze(-1)
            # Where the weight is 0 the field may be anything, NaN included.
            motion = torch.where((weights > 0).unsqueeze(1), motion, 0.0)
            rotation, translation = fit_rigid(points.mT, (points + motion).mT, weights)
            if stride > 1:
                return rotation[None], translation[None]
            # With so few voxels their corners show: eq. 2 has minima less than a voxel apart.
            steps = _ASIDE * torch.diag(self.spacing)
            aside = torch.cat([torch.zeros_like(steps[:1]), steps, -steps])
            return rotation.expand(len(aside), -1, 3, 3), translation + aside.unsqueeze(1)
        moving_points = positions(self.moving_origin, self.moving.shape[2:], self.spacing)
        target = centroid(moving_points, self.moving.flatten(1))
        degrees = (_START_DEGREES, -_START_DEGREES)
        turns = torch.stack([torch.zeros(3), *(axis * math.radians(d) for axis in torch.eye(3) for d in degrees)])
        rotation = rotation_matrix(turns.to(points)).unsqueeze(1).expand(-1, len(self.index), 3, 3)
        return rotation, target - (rotation @ self.centre.unsqueeze(-1)).squeeze(-1)

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
        stride = self.stride
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

    def closest(self, displacement: Tensor | None, iterations: int, thorough: bool) -> RigidFit:
        """`metrics.rigid.closest_rigid` of those present."""
        if not self.index:
            return self.spread()
        rotation, translation = self.starts(displacement)
        known = (rotation.isfinite().flatten(2).all(dim=2) & translation.isfinite().all(dim=2)).all(dim=0)
        # The identity in place of NaN: the rest of the batch goes on.
        rotation = rotation.where(known[:, None, None], torch.eye(3).to(rotation))
        translation = translation.where(known[:, None], 0.0)
        if displacement is not None and not thorough:
            fit = self.solve(rotation[0], translation[0], iterations)
            return self.spread(fit, known & fit.residual.isfinite())
        fit = self.solve(*self.approach(rotation, translation, iterations), iterations)
        much = fit.residual > _MUCH * self.volume
        if bool(much.any()):
            # Far from rigid, eq. 2 has several minima: the one next to the plain start may be lower.
            again = self.solve(rotation[0], translation[0], iterations)
            fit = lower(fit, replace(again, residual=again.residual.where(much, torch.inf)))
        return self.spread(fit, known & fit.residual.isfinite())

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
