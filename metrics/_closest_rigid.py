"""The vertebrae of a case as one batch for `metrics.rigid`: starts of eq. 2 and the choice between minima."""

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
from metrics.soft_labels import SoftLabels

_START_DEGREES = 10.0
_OFFSET_VOXELS = 0.3
_MAX_SELECTIONS = 4
# A second start is tried where the residual of eq. 2 is more than this share of the label's volume.
_LARGE_RESIDUAL = 0.05
# For such a label further starts lie beside the field's rigid fit. The best _CANDIDATES minima that the first steps
# find from them are solved.
_BESIDE_VOXELS, _BESIDE_DEGREES, _CANDIDATES = 3.0, 12.0, 3
_SAME_MINIMUM = 1e-3  # ends of the first steps whose sums differ by less than this share are at one minimum


def _different(sums: Sequence[float]) -> list[int]:
    """The places of sums in ascending order, without those that equal the one before; NaN last."""
    order = sorted(range(len(sums)), key=lambda k: (math.isnan(sums[k]), sums[k]))
    kept = order[:1]
    for k in order[1:]:
        if sums[k] > (1 + _SAME_MINIMUM) * sums[kept[-1]]:
            kept.append(k)
    return kept


@dataclass(frozen=True)
class RigidFit:
    """The closest rigid transforms of N vertebrae, x -> rotation x + translation, fixed to moving, in mm.

    A label that is missing on a side or not finite, or inside which the field is not finite, has NaN and `converged`
    False. The dtype is that of the soft labels, float32 for hard ones.

    Attributes:
        rotation: (N, 3, 3), axes (z, y, x).
        translation: (N, 3), mm, with rotation about voxel (0, 0, 0).
        residual: (N,), the remaining sum of squared differences of eq. 2, at least 0.
        converged: bool (N,).
    """

    rotation: Tensor
    translation: Tensor
    residual: Tensor
    converged: Tensor


def lower_residual(a: RigidFit, b: RigidFit) -> RigidFit:
    """For each vertebra the fit with the lower residual; a residual of NaN never wins against a number."""
    first = ~(a.residual > b.residual) & ~a.residual.isnan()
    return RigidFit(
        a.rotation.where(first[:, None, None], b.rotation),
        a.translation.where(first[:, None], b.translation),
        a.residual.where(first, b.residual),
        a.converged.where(first, b.converged),
    )


def both_boxes(labels: Tensor, warped: Tensor | SoftLabels, ids: Sequence[int]) -> list[tuple[Box, Box] | None]:
    """The boxes of each label in the moving and in the warped map; None where a map lacks it."""
    if isinstance(warped, SoftLabels):
        targets = list(warped.boxes)
    else:
        targets = label_boxes(warped, ids) if is_hard(warped) else [bounding_box(w) for w in warped.detach()]
    return pair_boxes(label_boxes(labels, ids), targets)


def is_hard(warped: Tensor | SoftLabels) -> bool:
    """Whether these are hard labels, integers."""
    return not warped.dtype.is_floating_point


class Vertebrae:
    """Crops of the vertebrae that both maps have: the data of eqs. 2 and 3.

    Args:
        labels: integer moving map (D, H, W).
        warped: soft labels (N, d, h, w), whole or as crops, or a hard map (d, h, w).
        ids: N label values.
        spacing_mm: (z, y, x).
        boxes: `both_boxes` of these.
        chosen: which of the N are used; None: all.
        stride: of the voxels that the first steps use.
    """

    def __init__(
        self,
        labels: Tensor,
        warped: Tensor | SoftLabels,
        ids: Sequence[int],
        spacing_mm: Sequence[float],
        boxes: Sequence[tuple[Box, Box] | None],
        chosen: Sequence[bool] | None = None,
        stride: int = 1,
    ) -> None:
        hard = is_hard(warped)
        self.index: list[int] = []
        self.boxes: list[Box] = []
        self.targets: list[Box] = []
        for k, both in enumerate(boxes):
            if both is not None and (chosen is None or chosen[k]):
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
        """The moving labels, ready for interpolation at any point."""
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
        """Voxels of each warped label, (K,), estimated from `sampled`."""
        return self.sampled[1].nan_to_num().sum(dim=-1) * self.stride**3

    @cached_property
    def centre(self) -> Tensor:
        """Centroid of each warped label, (K, 3), mm."""
        # NaN must not reach the index of a cell; the fit of a label with NaN becomes NaN later.
        return centroid(*self.sampled).nan_to_num(0.0, 0.0, 0.0)

    @cached_property
    def radius(self) -> Tensor:
        """Root mean square distance of each warped label's voxels from its centroid, (K, 1), mm, at least a voxel."""
        points, weights = self.sampled
        squares = (points - self.centre.unsqueeze(-1)).square().sum(dim=1, keepdim=True)
        return centroid(squares, weights).nan_to_num(0.0, 0.0, 0.0).clamp(min=min(self.spacing_mm) ** 2).sqrt()

    def starts(self, displacement: Tensor | None) -> tuple[Tensor, Tensor]:
        """S rotations (S, K, 3, 3) and translations (S, K, 3) from which eq. 2 is solved.

        With a field: its rigid fit, for small labels also six translations beside it. Without a field: centroid on
        centroid in seven orientations.
        """
        points, weights = self.sampled
        stride = self.stride
        if displacement is not None:
            u, _ = cut(displacement, self.targets, self.keys, self.dtype)
            motion = u[..., ::stride, ::stride, ::stride].flatten(2) * self.spacing.unsqueeze(-1)
            # Where the weight is 0 the field may be NaN.
            motion = torch.where((weights > 0).unsqueeze(1), motion, 0.0)
            rotation, translation = fit_rigid(points.mT, (points + motion).mT, weights)
            if stride > 1:
                return rotation[None], translation[None]
            # For a label of few voxels eq. 2 has several minima less than a voxel apart.
            steps = _OFFSET_VOXELS * torch.diag(self.spacing)
            offsets = torch.cat([torch.zeros_like(steps[:1]), steps, -steps])
            return rotation.expand(len(offsets), -1, 3, 3), translation + offsets.unsqueeze(1)
        moving_points = positions(self.moving_origin, self.moving.shape[2:], self.spacing)
        target = centroid(moving_points, self.moving.flatten(1))
        degrees = (_START_DEGREES, -_START_DEGREES)
        turns = torch.stack([torch.zeros(3), *(axis * math.radians(d) for axis in torch.eye(3) for d in degrees)])
        rotation = rotation_matrix(turns.to(points)).unsqueeze(1).expand(-1, len(self.index), 3, 3)
        return rotation, target - (rotation @ self.centre.unsqueeze(-1)).squeeze(-1)

    def fixed_crops(self, rotation: Tensor, translation: Tensor) -> tuple[Tensor, Tensor]:
        """Crops of the warped labels that hold the transformed moving labels: (K, 1, d, h, w) and first voxels."""
        entries = zip(self.boxes, self.targets, rotation.tolist(), translation.tolist(), strict=True)
        crops = [covering(b, t, r, o, self.spacing_mm, self.warped.shape[-3:]) for b, t, r, o in entries]
        return cut(self.warped, crops, self.keys, self.dtype)

    def resample(self, rotation: Tensor, translation: Tensor, origin: Tensor, size: Sequence[int]) -> Tensor:
        """The moving labels under the transforms, (K, 1, d, h, w), on crops of the fixed grid."""
        return transform(self.moving, self.moving_origin, rotation, translation, origin, size, self.spacing)

    def approach(self, rotation: Tensor, translation: Tensor, iterations: int) -> tuple[Tensor, Tensor]:
        """The best of S starts after some steps on few voxels: (K, 3, 3), (K, 3)."""
        rotations, translations, cost = self._approached(rotation, translation, iterations)
        best, vertebra = cost.argmin(dim=0), torch.arange(rotation.shape[1], device=cost.device)
        return rotations[best, vertebra], translations[best, vertebra]

    def minima_beside(self, rotation: Tensor, translation: Tensor, iterations: int) -> list[tuple[Tensor, Tensor]]:
        """Up to `_CANDIDATES` different minima on few voxels, (K, 3, 3) and (K, 3) each, from starts beside one start.

        A vertebra with fewer minima repeats its best one.
        """
        angle = math.radians(_BESIDE_DEGREES)
        turns = torch.cat([torch.zeros(7, 3), angle * torch.eye(3), -angle * torch.eye(3)]).to(rotation)
        steps = _BESIDE_VOXELS * torch.diag(self.spacing)
        shifts = torch.cat([steps.new_zeros(1, 3), steps, -steps, steps.new_zeros(6, 3)])
        image = (rotation @ self.centre.unsqueeze(-1)).squeeze(-1) + translation
        turned = rotation_matrix(turns).unsqueeze(1) @ rotation
        moved = image + shifts.unsqueeze(1) - (turned @ self.centre.unsqueeze(-1)).squeeze(-1)
        rotations, translations, cost = self._approached(turned, moved, iterations)
        order = [_different(column) for column in cost.T.tolist()]
        vertebra = torch.arange(len(order), device=cost.device)
        found = []
        for rank in range(min(_CANDIDATES, max(map(len, order)))):
            which = torch.tensor([ranks[min(rank, len(ranks) - 1)] for ranks in order], device=cost.device)
            found.append((rotations[which, vertebra], translations[which, vertebra]))
        return found

    def _approached(self, rotation: Tensor, translation: Tensor, iterations: int) -> tuple[Tensor, Tensor, Tensor]:
        """The ends of S starts after some steps on few voxels, (S, K, 3, 3), (S, K, 3), and their sums (S, K)."""
        values, origin = self.fixed_crops(rotation[0], translation[0])
        stride = self.stride
        points = positions(origin, values.shape[2:], self.spacing, stride).repeat(len(rotation), 1, 1)
        target = values[..., ::stride, ::stride, ::stride].flatten(1).repeat(len(rotation), 1)
        centre, radius = self.centre.repeat(len(rotation), 1), self.radius.repeat(len(rotation), 1)
        results = minimise(
            self.cells, points, target, centre, radius, rotation.flatten(0, 1), translation.flatten(0, 1), iterations
        )
        rotations, translations, cost = (part.unflatten(0, rotation.shape[:2]) for part in results[:3])
        return rotations, translations, cost

    def solve(self, rotation: Tensor, translation: Tensor, iterations: int) -> RigidFit:
        """Solve eq. 2 on the voxels that a small motion can change, selected again after a motion of `REACH`."""
        for _ in range(_MAX_SELECTIONS):
            before = rotation, translation
            values, origin = self.fixed_crops(rotation, translation)
            points, target, constant = informative(self.cells, values, origin, rotation, translation)
            rotation, translation, cost, converged = minimise(
                self.cells, points, target, self.centre, self.radius, rotation, translation, iterations
            )
            stayed = largest_motion(points, before, (rotation, translation), self.spacing) < REACH
            if bool(stayed.all()):
                break
        return RigidFit(rotation, translation, cost + constant, converged & stayed)

    def closest(self, displacement: Tensor | None, iterations: int, thorough: bool) -> RigidFit:
        """`metrics.rigid.closest_rigid` of the chosen vertebrae."""
        if not self.index:
            return self.scatter()
        rotation, translation = self.starts(displacement)
        known = (rotation.isfinite().flatten(2).all(dim=2) & translation.isfinite().all(dim=2)).all(dim=0)
        # The identity replaces NaN, so that the rest of the batch is solved.
        rotation = rotation.where(known[:, None, None], torch.eye(3).to(rotation))
        translation = translation.where(known[:, None], 0.0)
        if displacement is not None and not thorough:
            fit = self.solve(rotation[0], translation[0], iterations)
            return self.scatter(fit, known & fit.residual.isfinite())
        fit = self.solve(*self.approach(rotation, translation, iterations), iterations)
        large = fit.residual > _LARGE_RESIDUAL * self.volume
        if bool(large.any()):
            # Far from rigid, eq. 2 has several minima: the one next to the first start may be lower.
            starts = [(rotation[0], translation[0])]
            if displacement is not None:
                starts += self.minima_beside(rotation[0], translation[0], iterations)
            for start in starts:
                other = self.solve(*start, iterations)
                fit = lower_residual(fit, replace(other, residual=other.residual.where(large, torch.inf)))
        return self.scatter(fit, known & fit.residual.isfinite())

    def scatter(self, fit: RigidFit | None = None, known: Tensor | None = None) -> RigidFit:
        """The fit of the K present vertebrae as one of all N; NaN where it is unknown."""
        nan = torch.full((self.count, 3, 4), torch.nan, dtype=self.dtype, device=self.warped.device)
        unknown = RigidFit(nan[..., :3], nan[..., 3], nan[:, 0, 0], torch.zeros_like(nan[:, 0, 0], dtype=torch.bool))
        if fit is None or known is None:
            return unknown
        index = torch.tensor(self.index, dtype=torch.int64, device=nan.device)[known]
        return RigidFit(
            unknown.rotation.index_copy(0, index, fit.rotation[known]),
            unknown.translation.index_copy(0, index, fit.translation[known]),
            unknown.residual.index_copy(0, index, fit.residual[known]),
            unknown.converged.index_copy(0, index, fit.converged[known]),
        )
