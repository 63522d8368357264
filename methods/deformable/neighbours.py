"""Whether a field puts the vertebrae onto their neighbours: one level too high or too low.

A spine looks much the same one level further, and an optimiser that starts there stays there. So the images near each
vertebra are compared once more under the field moved on by one level, along the course of the spine through the
centroids of the moving labels. Both are searched for the best small shift. The field was fitted to the images and its
neighbours were not, so a neighbour that is more alike all the same is believed. On validation phantoms its distance is
1.2 to 1.3 times the field's where the field is right, and 0.88 and 0.94 times where it is one level off.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from methods.deformable.level import Level
from methods.deformable.pyramid import Scans

NEAR_MM = 10.0  # of a label: where images are compared
POINTS = 150  # of each vertebra, at most
SHIFTS_MM = tuple(product((-4.0, 0.0, 4.0), repeat=3))
LEAST_SEEN = 0.5  # of a vertebra's points, that the moving scan must show for a comparison
LEAST_VERTEBRAE = 2
WORDS = {-1: "above", 1: "below"}


@dataclass(frozen=True)
class Neighbour:
    """The comparison with one neighbouring level.

    Attributes:
        step: -1, the next lower id, which is higher up in the spine, or 1.
        own: mean MIND distance under the field.
        moved: the same under the field moved on by one level.
        vertebrae: the number of vertebrae that could be compared.
    """

    step: int
    own: float
    moved: float
    vertebrae: int

    @property
    def better(self) -> bool:
        """Whether the images say that the vertebrae lie one level off."""
        return self.vertebrae >= LEAST_VERTEBRAE and self.moved < self.own


def doubt(found: Sequence[Neighbour]) -> str:
    """A clause on the neighbour that is more alike than the field; empty where none is."""
    better = [n for n in found if n.better]
    if not better:
        return ""
    best = min(better, key=lambda n: n.moved / n.own)
    return (
        "the labels may lie one level off: where the field puts a vertebra, the fixed scan is more like the next one "
        f"{WORDS[best.step]} (MIND {best.moved:.4f}) than like this one (MIND {best.own:.4f}); check ids and "
        "pre-alignment"
    )


@torch.no_grad()
def compare_neighbours(level: Level, scans: Scans, field_mm: Tensor) -> list[Neighbour]:
    """Compare the images under a field with those under the field moved on by one level up and down.

    Args:
        level: a resolution whose points are compared by MIND.
        scans: both scans.
        field_mm: (3, D, H, W), mm, components along the grid's axes.

    Returns:
        One comparison for each direction; none for fewer than three labelled vertebrae, which have no course.
    """
    if len(scans.ids) < 3 or not level.count:
        return []
    spacing = field_mm.new_tensor(scans.spacing_mm)
    centres, tangents = _course(scans, spacing)
    where_mm = level.points_mm()
    voxels = (where_mm / spacing[:, None]).round().long()
    reached_mm = where_mm + field_mm[:, voxels[0], voxels[1], voxels[2]]
    owner = _nearest_vertebra(scans, reached_mm)
    sums: dict[int, list[tuple[float, float]]] = {-1: [], 1: []}
    for k in range(len(centres)):
        index = (owner == k).nonzero()[:, 0]
        index = index[:: max(1, -(-len(index) // POINTS))]
        own = _least_distance(level, index, reached_mm[:, index])
        for step, pairs in sums.items():
            moved = _least_distance(level, index, _moved_on(reached_mm[:, index], centres, tangents, k, step))
            if own is not None and moved is not None:
                pairs.append((own, moved))
    found = []
    for step, pairs in sums.items():
        own, moved = np.mean(pairs, axis=0).tolist() if pairs else (np.nan, np.nan)
        found.append(Neighbour(step, own, moved, len(pairs)))
    return found


def _course(scans: Scans, spacing: Tensor) -> tuple[Tensor, Tensor]:
    """The centroids (N, 3) of the moving labels in mm along the axes, and the unit tangents of their course."""
    centres = torch.stack([(scans.labels == v).nonzero().float().mean(dim=0) * spacing for v in scans.ids])
    inner = centres[2:] - centres[:-2]
    tangents = torch.cat([centres[1:2] - centres[:1], inner, centres[-1:] - centres[-2:-1]])
    return centres, tangents / tangents.norm(dim=1, keepdim=True)


def _nearest_vertebra(scans: Scans, points_mm: Tensor) -> Tensor:
    """The place in `scans.ids` of the label nearest to each point (3, N); -1 farther than `NEAR_MM` from all."""
    by = scans.away_factors
    coarse = scans.labels[:: by[0], :: by[1], :: by[2]].cpu().numpy()
    sampling = [f * s for f, s in zip(by, scans.spacing_mm, strict=True)]
    away, nearest = distance_transform_edt(coarse == 0, sampling, return_indices=True)
    ids = np.where(away <= NEAR_MM, coarse[tuple(nearest)], 0)
    index = (points_mm.cpu().numpy() / np.array(sampling)[:, None]).round().astype(int)
    inside = np.all((index >= 0) & (index < np.array(ids.shape)[:, None]), axis=0)
    found = np.where(inside, ids[tuple(np.clip(index, 0, np.array(ids.shape)[:, None] - 1))], 0)
    place = np.full(max(scans.ids) + 1, -1)
    place[list(scans.ids)] = range(len(scans.ids))
    return torch.from_numpy(place[found]).to(points_mm.device)


def _moved_on(points_mm: Tensor, centres: Tensor, tangents: Tensor, k: int, step: int) -> Tensor:
    """Points (3, N) near vertebra k, moved as a rigid body to its neighbour; beyond the ends the course goes on."""
    target = k + step
    if 0 <= target < len(centres):
        to, tangent = centres[target], tangents[target]
    else:
        to, tangent = 2 * centres[k] - centres[k - step], tangents[k]
    rotation = _rotation(tangents[k], tangent)
    return rotation @ (points_mm - centres[k][:, None]) + to[:, None]


def _rotation(a: Tensor, b: Tensor) -> Tensor:
    """The smallest rotation (3, 3) that takes the unit vector a to b, which are not opposite."""
    axis = torch.linalg.cross(a, b)
    zero = axis.new_zeros(())
    x, y, z = axis
    cross = torch.stack([torch.stack(r) for r in ((zero, -z, y), (z, zero, -x), (-y, x, zero))])
    return torch.eye(3, dtype=a.dtype, device=a.device) + cross + cross @ cross / (1 + a @ b)


def _least_distance(level: Level, index: Tensor, reached_mm: Tensor) -> float | None:
    """The least MIND distance of some points over small shifts of where they are mapped to, (3, N) in mm.

    None where no shift maps `LEAST_SEEN` of the points into what the moving scan saw.
    """
    if not len(index):
        return None
    shifts = reached_mm.new_tensor(SHIFTS_MM).T[:, :, None]
    places = (reached_mm[:, None] + shifts).flatten(1)
    distance, known = (
        v.view(len(SHIFTS_MM), -1) for v in level.mind_distances_at(places, index.repeat(len(SHIFTS_MM)))
    )
    enough = known.float().mean(dim=1) >= LEAST_SEEN
    if not enough.any():
        return None
    means = (distance * known).sum(dim=1) / known.sum(dim=1).clamp(min=1)
    return float(means[enough].min())
