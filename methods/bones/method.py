"""What `polyrigid` and `edt-interpolation` share: bones found one by one, then fused into one field."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from methods.base import Grid, Method, Pair, Registration
from methods.bones.fusion import BoneDistance, affine_points, in_voxels
from methods.bones.search import Found, SearchSettings, find_bones
from methods.checks import refuse_flat, refuse_unlabelled
from methods.geometry import spacing_zyx, to_millimetres
from metrics.fields import jacobian, jacobian_determinant


class BoneWiseSettings(SearchSettings):
    """exponent: of the inverse distance that weighs a bone at a point; higher keeps closer to the nearest bone."""

    exponent: float = Field(2.0, ge=1)


class Bones:
    """N vertebrae with their transforms on one grid, fixed -> moving, in voxel indices (z, y, x), and their distances.

    shape: of the grid. pulls: 4 x 4 matrices. distances: to each moving label.
    """

    def __init__(self, labels: np.ndarray, grid: Grid, pulls: Mapping[int, np.ndarray]) -> None:
        self.shape = grid.shape
        self.spacing = torch.tensor(spacing_zyx(grid)).view(3, 1, 1, 1)
        self.pulls = [in_voxels(pull, grid) for pull in pulls.values()]
        self.distances = [BoneDistance(labels, v, grid) for v in pulls]

    @cached_property
    def fixed_distances(self) -> Tensor:
        """Distance of every fixed voxel to each bone where its transform puts it, (N, D, H, W), mm."""
        return torch.stack([self.distance(n, pull) for n, pull in enumerate(self.pulls)])

    def distance(self, n: int, pull: np.ndarray) -> Tensor:
        """The distance of every voxel, taken by a 4 x 4 transform, to moving bone `n`: (D, H, W), mm."""
        return self.distances[n](affine_points(pull, self.shape))

    def displacement(self, n: int) -> Tensor:
        """The rigid displacement of bone `n` everywhere, (3, D, H, W), voxels."""
        return affine_points(self.pulls[n] - np.eye(4), self.shape)

    def deviations_mm(self, displacement: Tensor) -> list[float]:
        """Mean distance of a field (1, 3, D, H, W), voxels, from each bone's own rigid displacement inside it.

        A bone that lies wholly outside of the fixed grid has none and is left out.
        """
        result = []
        for n, distance in enumerate(self.fixed_distances):
            inside = distance == 0
            apart = ((displacement[0] - self.displacement(n)) * self.spacing)[:, inside].norm(dim=0)
            if inside.any():
                result.append(float(apart.mean()))
        return result


class BoneWise(Method):
    """A rigid transform per vertebra (`search.py`), and a field that follows them all: what `fuse` decides."""

    devices = ("cpu",)
    Settings = BoneWiseSettings
    settings: BoneWiseSettings

    @abstractmethod
    def fuse(self, bones: Bones) -> Tensor:
        """The displacement (1, 3, D, H, W), voxels, on the fixed grid."""

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises ValueError for a pair without a labelled vertebra, with an image of one value, or whose fixed image
        shows none of the vertebrae.
        """
        refuse_flat(pair)
        refuse_unlabelled(pair, self.name)
        assert pair.moving.labels is not None
        found = find_bones(pair, self.settings)
        bones = Bones(pair.moving.labels, pair.grid, found.pulls)
        displacement = self.fuse(bones)
        return Registration(to_millimetres(displacement, pair.grid), _notes(found, bones, displacement))


def _notes(found: Found, bones: Bones, displacement: Tensor) -> dict[str, float | str]:
    """How rigid the field is where it should be, how far from folding, and how the vertebrae were found."""
    deviations = bones.deviations_mm(displacement)
    determinant = jacobian_determinant(jacobian(displacement, bones.spacing.flatten().tolist()))
    notes: dict[str, float | str] = {
        "lowest_jacobian": float(determinant.min()),
        "match_distances": " ".join(f"{v}:{distance:.3f}" for v, distance in found.distances.items()),
    }
    if deviations:
        notes |= {
            "rigidity_deviation_mm": float(np.mean(deviations)),
            "rigidity_deviation_worst_vertebra_mm": max(deviations),
        }
    if found.borrowed:
        notes["not_found"] = " ".join(f"{v}: moved as {other}" for v, other in found.borrowed.items())
    return notes
