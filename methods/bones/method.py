"""The part that `polyrigid` and `edt-interpolation` share: find each bone's transform, fuse, report."""

from __future__ import annotations

import sys
from abc import abstractmethod
from collections.abc import Mapping
from functools import cached_property

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from methods.base import Grid, Method, Pair, Registration
from methods.bones.doubts import doubts
from methods.bones.fusion import BoneDistance, affine_points, in_voxels
from methods.bones.search import BoneMatches, SearchSettings, find_bones
from methods.checks import refuse_flat, refuse_unlabelled
from methods.geometry import spacing_zyx, to_millimetres
from metrics.fields import jacobian, jacobian_determinant


class BoneWiseSettings(SearchSettings):
    """Settings of the bone-wise rows: those of the search, and the fusion's.

    Attributes:
        exponent: of the inverse distance in a bone's weight, at least 1. The larger it is, the more the nearest bone
            dominates.
    """

    exponent: float = Field(2.0, ge=1)


class Bones:
    """N vertebrae of one grid with their rigid transforms and distances.

    Attributes:
        shape: of the grid, (z, y, x).
        spacing: of the grid, mm, tensor (3, 1, 1, 1), order z, y, x.
        to_moving: N matrices 4 x 4, fixed -> moving, in voxel indices (z, y, x).
        distances: the distance function of each moving label.
    """

    def __init__(self, labels: np.ndarray, grid: Grid, to_moving: Mapping[int, np.ndarray]) -> None:
        """Prepare the distance functions.

        Args:
            labels: moving labels (z, y, x).
            grid: the pair's grid.
            to_moving: for each vertebra its transform fixed -> moving, 4 x 4, LPS millimetres.
        """
        self.shape = grid.shape
        self.spacing = torch.tensor(spacing_zyx(grid)).view(3, 1, 1, 1)
        self.to_moving = [in_voxels(transform, grid) for transform in to_moving.values()]
        self.distances = [BoneDistance(labels, v, grid) for v in to_moving]

    @cached_property
    def fixed_distances(self) -> Tensor:
        """The distance of every fixed voxel to each bone in its fixed position, (N, D, H, W), mm."""
        return torch.stack([self.distance(n, matrix) for n, matrix in enumerate(self.to_moving)])

    def distance(self, n: int, matrix: np.ndarray) -> Tensor:
        """The distance of every voxel, mapped by a 4 x 4 matrix of voxel indices, to moving bone `n`: (D, H, W), mm."""
        return self.distances[n](affine_points(matrix, self.shape))

    def displacement(self, n: int) -> Tensor:
        """The rigid displacement of bone `n` at every voxel of the grid, (3, D, H, W), voxels."""
        return affine_points(self.to_moving[n] - np.eye(4), self.shape)

    def deviations_mm(self, displacement: Tensor) -> list[float]:
        """The mean difference inside each bone between a displacement and the bone's rigid displacement.

        Args:
            displacement: (1, 3, D, H, W), voxels.

        Returns:
            A length in millimetres for each bone, at least 0. A bone outside the fixed grid has none.
        """
        result = []
        for n, distance in enumerate(self.fixed_distances):
            inside = distance == 0
            difference = ((displacement[0] - self.displacement(n)) * self.spacing)[:, inside].norm(dim=0)
            if inside.any():
                result.append(float(difference.mean()))
        return result


class BoneWise(Method):
    """Find a rigid transform per vertebra (`search.py`) and fuse them into one displacement (`fuse`)."""

    devices = ("cpu",)
    Settings = BoneWiseSettings
    settings: BoneWiseSettings

    @abstractmethod
    def fuse(self, bones: Bones) -> Tensor:
        """Fuse the rigid displacements of the bones: (1, 3, D, H, W) in voxels on the fixed grid."""

    def find(self, pair: Pair) -> BoneMatches:
        """Find the transform of each vertebra. Raises ValueError where there is none."""
        return find_bones(pair, self.settings)

    def register(self, pair: Pair) -> Registration:
        """Register one pair.

        Raises:
            ValueError: no vertebra is labelled, an image has one value everywhere, or the fixed image shows none of
                the vertebrae.
        """
        refuse_flat(pair)
        refuse_unlabelled(pair, self.name)
        assert pair.moving.labels is not None
        matches = self.find(pair)
        bones = Bones(pair.moving.labels, pair.grid, matches.to_moving)
        displacement = self.fuse(bones)
        notes = _notes(matches, bones, displacement)
        if doubtful := doubts(matches, pair.moving.labels, pair.grid):
            notes["warning"] = "; ".join(doubtful)
            print(f"{pair.case}: {notes['warning']}", file=sys.stderr)
        return Registration(to_millimetres(displacement, pair.grid), notes, matches.to_moving)


def _notes(matches: BoneMatches, bones: Bones, displacement: Tensor) -> dict[str, float | str]:
    """The deviation from rigidity, the least Jacobian determinant and the match of each vertebra."""
    deviations = bones.deviations_mm(displacement)
    determinant = jacobian_determinant(jacobian(displacement, bones.spacing.flatten().tolist()))
    notes: dict[str, float | str] = {"lowest_jacobian": float(determinant.min())}
    if matches.distances:
        notes["match_distances"] = " ".join(f"{v}:{distance:.3f}" for v, distance in matches.distances.items())
    if deviations:
        notes |= {
            "rigidity_deviation_mm": float(np.mean(deviations)),
            "rigidity_deviation_worst_vertebra_mm": max(deviations),
        }
    if matches.borrowed:
        notes["not_found"] = " ".join(f"{v}: moved as {other}" for v, other in matches.borrowed.items())
    return notes
