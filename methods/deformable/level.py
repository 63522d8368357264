"""One resolution of the optimisation: the lattice, the points where images are compared, and the terms of eq. 1.

The lattice is every `by`-th voxel of the grid in a box around the labels. Images are compared at lattice points that
lie near a warped moving label and that the fixed scan saw, at positions that the moving scan saw.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from methods.deformable.pyramid import Scans, eroded, factors, thinned
from methods.deformable.settings import LevelSettings
from methods.deformable.spline import Bases, ControlGrid, evaluate
from methods.penalties import Warped
from methods.registry import PENALTIES
from metrics.boxes import bounding_box
from metrics.fields import integrate
from metrics.point_sampling import KnownVoxels
from metrics.similarity import mind_ssc_at, nmi

# MIND-SSC of small patches is as good a guide here as that of the training, and its time is a third.
RADIUS, DILATION = 1, 2
BINS = 32
QUANTILES = (0.005, 0.995)  # of an image near the labels: the ends of the histogram
SQUARINGS = 5
LEAST_COMPARED = 0.02  # of a vertebra: with less, its images say nothing about its motion
SLACK_MM = 4.0  # beyond `near_mm`, for the motion within a level


class Level:
    """The terms of eq. 1 at one resolution.

    Attributes:
        settings: of the level.
        bases: of the control grid at the lattice's points.
        count: number of points at which images can be compared.
        rest_mm: (3, 1), the displacement of what no image shows.
    """

    def __init__(
        self, scans: Scans, settings: LevelSettings, control: ControlGrid, coefficients: Tensor, velocity: bool,
        rest_mm: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Compute what one resolution needs.

        Args:
            scans: both scans.
            settings: of the level.
            control: the level's control grid.
            coefficients: (3, mz, my, mx), mm, of the field so far, which says where the labels are.
            velocity: whether coefficients are those of a stationary velocity.
            rest_mm: (3,), the displacement of what no image shows; None: none.
        """
        self.settings, self.velocity = settings, velocity
        device = scans.moving.device
        self.rest_mm = torch.zeros(3, 1, device=device) if rest_mm is None else rest_mm.view(3, 1)
        by_image = factors(scans.spacing_mm, settings.image_mm)
        by = tuple(max(a, b) for a, b in zip(factors(scans.spacing_mm, settings.lattice_mm), by_image, strict=True))
        self.spacing_mm = (by[0] * scans.spacing_mm[0], by[1] * scans.spacing_mm[1], by[2] * scans.spacing_mm[2])
        self._mm = torch.tensor(self.spacing_mm, device=device).view(3, 1, 1, 1)
        self._ids = scans.ids
        first, stop = self._box(scans, by, coefficients)
        self.bases: Bases = control.bases(device, first, stop, by)
        sub = tuple(slice(a, b, s) for a, b, s in zip(first, stop, by, strict=True))
        self._labels = scans.labels[sub].contiguous()
        shape = self._labels.shape
        # Positions of the lattice in voxels of the level's images, and how many of these a millimetre is.
        axes = [
            (torch.arange(n, device=device) * s + a) / i for n, s, a, i in zip(shape, by, first, by_image, strict=True)
        ]
        self._points = torch.stack([a.flatten() for a in torch.meshgrid(*axes, indexing="ij")])
        self._per_mm = torch.tensor(
            [1 / (i * s) for i, s in zip(by_image, scans.spacing_mm, strict=True)], device=device
        ).view(3, 1)
        self._prepare_images(scans, by_image, sub, coefficients)

    def _box(self, scans: Scans, by: Sequence[int], coefficients: Tensor) -> tuple[list[int], list[int]]:
        """The box of the lattice in voxels: all that lies within `near_mm` and `SLACK_MM` of a warped label.

        A displacement is at most as long as the longest coefficient, along each axis.
        """
        box = bounding_box(scans.labels > 0)
        if self.velocity or box is None:  # the paths of a velocity may leave a box
            return [0, 0, 0], list(scans.shape)
        reach = self.settings.near_mm + SLACK_MM
        moved = coefficients.abs().amax(dim=(1, 2, 3)).tolist()
        first, stop = [], []
        for part, n, s, mm, most in zip(box, scans.shape, by, scans.spacing_mm, moved, strict=True):
            margin = math.ceil((reach + most) / mm)
            first.append(max(part.start - margin, 0) // s * s)
            stop.append(min(part.stop + margin, n))
        return first, stop

    def _prepare_images(self, scans: Scans, by: tuple[int, int, int], sub: tuple[slice, ...], c: Tensor) -> None:
        moving, fixed = thinned(scans.moving, by), thinned(scans.fixed, by)
        reach = RADIUS + DILATION if self.settings.similarity == "mind" else 0
        fixed_known, moving_known = (
            torch.ones_like(image, dtype=torch.bool) if seen is None else eroded(thinned(seen, by) > 0.999, reach)
            for image, seen in ((fixed, scans.fixed_seen), (moving, scans.moving_seen))
        )
        near = KnownVoxels(scans.away_mm.flatten()[:, None], torch.ones_like(scans.away_mm, dtype=torch.bool))
        ratio = self._points.new_tensor([i / a for i, a in zip(by, scans.away_factors, strict=True)]).view(3, 1)
        with torch.no_grad():
            positions = self._positions(self.field_mm(c).flatten(1))
        # Beyond the last coarse voxel the distance is that at the border.
        last = ratio.new_tensor([[n - 1] for n in scans.away_mm.shape])
        away = near.at((positions * ratio).clamp(min=0).minimum(last))[0][:, 0]
        whole = self._points.long()
        candidates = (away <= self.settings.near_mm) & fixed_known[whole[0], whole[1], whole[2]]
        if self.settings.similarity == "mind":  # descriptors are costly: only where points may be mapped to
            reached = F.interpolate(scans.away_mm[None, None], moving.shape, mode="trilinear")[0, 0]
            moving_known &= reached <= self.settings.near_mm + SLACK_MM
            self._moving = KnownVoxels(_mind(moving, moving_known), moving_known)
        else:
            self._moving = KnownVoxels(moving[moving_known][:, None], moving_known)
        candidates &= self._moving.at(positions)[1]
        self._index = candidates.nonzero()[:, 0]
        self.count = len(self._index)
        self._points = self._points[:, self._index]
        at = self._points.long()
        if self.settings.similarity == "mind":
            chosen = torch.zeros_like(fixed_known)
            chosen[at[0], at[1], at[2]] = True
            self._fixed = _mind(fixed, chosen)  # lattice points and the mask have the same order
        else:
            self._fixed = fixed[at[0], at[1], at[2]][:, None]
            self._limits = (_limits(self._fixed), _limits(self._moving.at(positions[:, self._index])[0]))

    def field_mm(self, coefficients: Tensor) -> Tensor:
        """The displacement (3, D, H, W) in mm at the lattice's points, components along the grid's axes."""
        field = evaluate(coefficients, self.bases)
        return flow_mm(field, self._mm) if self.velocity else field

    def _positions(self, flat_mm: Tensor, index: Tensor | None = None) -> Tensor:
        """Where points are mapped to, (3, N), in voxels of the level's images."""
        points = self._points if index is None else self._points[:, index]
        return torch.addcmul(points, flat_mm, self._per_mm)

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Draw points with replacement, (count,), from 0 to `count` - 1; none where there are none."""
        if not self.count:
            return self._index
        # In ascending order the points are read from neighbouring addresses.
        return torch.randint(self.count, (count,), generator=generator).sort()[0].to(self._index.device)

    def seen(self, field_mm: Tensor, drawn: Tensor) -> Tensor:
        """Whether a field maps each drawn point into what the moving scan saw, bool (N,)."""
        moved = field_mm.flatten(1).index_select(1, self._index[drawn])
        return self._moving.at(self._positions(moved, drawn))[1]

    def distance(self, field_mm: Tensor, drawn: Tensor) -> Tensor:
        """The distance of the images at the drawn points, scalar; 0 where the moving scan saw none of them.

        It is a sum over the points in what the moving scan saw, divided by the number of all drawn points: the fewer
        points are left there, the less they move the field.

        Args:
            field_mm: (3, D, H, W), mm.
            drawn: (N,), which points, from 0 to `count` - 1.
        """
        moved = field_mm.flatten(1).index_select(1, self._index[drawn])
        values, known = self._moving.at(self._positions(moved, drawn))
        return self._compared(values, known, drawn)

    def _compared(self, values: Tensor, known: Tensor, drawn: Tensor) -> Tensor:
        """The distance of moving values (N, C) from fixed ones at the drawn points, times the share of known ones."""
        weights = known.to(values.dtype)
        target = self._fixed[drawn]
        if self.settings.similarity == "mind":
            return ((values - target).square().mean(dim=1) * weights).sum() / len(drawn)
        if not known.any():
            return values.new_zeros(())
        fixed, moving, weights = (v.reshape(1, 1, 1, 1, -1) for v in (target, values, weights))
        return (2 - nmi(fixed, moving, BINS, weights, self._limits)[0]) * weights.mean()

    def points_mm(self) -> Tensor:
        """The points at which images can be compared, (3, `count`), mm along the axes from the first voxel."""
        return self._points / self._per_mm

    @torch.no_grad()
    def distance_at(self, reached_mm: Tensor, drawn: Tensor) -> tuple[float, float]:
        """The mean distance of the images where points are mapped to given places, over the places that are seen.

        Args:
            reached_mm: (3, N), mm along the axes from the first voxel.
            drawn: (N,), which points, from 0 to `count` - 1.

        Returns:
            The distance, infinite where nothing is seen, and the share of the points that is seen.
        """
        values, known = self._moving.at(reached_mm * self._per_mm)
        share = float(known.float().mean())
        return (float(self._compared(values, known, drawn)) / share if share else math.inf), share

    @torch.no_grad()
    def mind_distances_at(self, reached_mm: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """The MIND distance of each point (N,), and whether its place is seen, bool (N,). As `distance_at`."""
        values, known = self._moving.at(reached_mm * self._per_mm)
        return (values - self._fixed[drawn]).square().mean(dim=1), known

    def warped(self, field_mm: Tensor, earlier: Warped | None) -> Warped:
        """What penalties are given: the lattice's field and labels."""
        return Warped((field_mm / self._mm)[None], self._labels, self._ids, self.spacing_mm, earlier)

    @torch.no_grad()
    def unseen(self, weights: Tensor) -> Tensor:
        """The lattice points of the warped labels that the images say nothing about, int64 (P,).

        Args:
            weights: warped labels (N, D, H, W). Those with less than `LEAST_COMPARED` of their size at points where
                images are compared count as a whole.
        """
        flat = weights.flatten(1)
        size = flat.sum(dim=1)
        compared = flat.index_select(1, self._index).sum(dim=1)
        lost = (size > 0) & (compared < LEAST_COMPARED * size)
        return (flat[lost].sum(dim=0) > 0.5).nonzero()[:, 0]

    def labelled(self, field_mm: Tensor) -> Tensor:
        """The displacements (3, P) at the labelled points."""
        return field_mm.detach()[:, self._labels > 0]


def flow_mm(velocity_mm: Tensor, spacing_mm: Tensor) -> Tensor:
    """The displacement (3, D, H, W) in mm of a stationary velocity in mm; spacing_mm: (3, 1, 1, 1)."""
    return integrate((velocity_mm / spacing_mm)[None], SQUARINGS)[0] * spacing_mm


def penalty_functions(weights: Mapping[str, float]) -> list[tuple[float, Callable[[Warped], Tensor]]]:
    """Weight and function of each penalty whose weight is not 0."""
    return [(weight, PENALTIES[name].load()) for name, weight in weights.items() if weight]


def _mind(image: Tensor, chosen: Tensor) -> Tensor:
    return mind_ssc_at(image[None, None], chosen, RADIUS, DILATION)


def _limits(values: Tensor) -> tuple[float, float]:
    """The range of a histogram. `torch.quantile` takes at most 16 million values; a tenth of a million suffices."""
    values = values.flatten()
    if not len(values):
        return 0.0, 1.0
    low, high = torch.quantile(values[:: max(1, len(values) // 100_000)], values.new_tensor(QUANTILES)).tolist()
    return (low, high) if high > low else (low, low + 1.0)
