"""One vertebra and its surroundings as a small isotropic lattice: where the bone-wise search compares images.

A lattice lies along the grid's own axes about the centre of a moving label; local positions are millimetres from that
centre, components x, y, z along these axes. So nothing in the search depends on origin, direction or anisotropy. A
`Pose` takes a local moving position s to the local fixed one, R s + t.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt, find_objects, gaussian_filter, maximum_filter, minimum_filter
from torch import Tensor

from methods.base import Grid
from methods.geometry import spacing_zyx
from metrics.similarity import mind_ssc

_FLAT = 5  # voxels: a cube of so many of one value shows nothing


@dataclass(frozen=True)
class Pose:
    """K rigid transforms, local moving -> local fixed. rotation: (K, 3, 3). translation: (K, 3), mm."""

    rotation: Tensor
    translation: Tensor

    @staticmethod
    def identity() -> Pose:
        return Pose(torch.eye(3)[None], torch.zeros(1, 3))

    @staticmethod
    def stack(poses: Sequence[Pose]) -> Pose:
        return Pose(torch.cat([p.rotation for p in poses]), torch.cat([p.translation for p in poses]))

    def __len__(self) -> int:
        return len(self.translation)

    def __getitem__(self, index: Tensor) -> Pose:
        return Pose(self.rotation[index], self.translation[index])

    def move(self, points: Tensor) -> Tensor:
        """Points (..., 3) to (K, ..., 3)."""
        moved = points.reshape(-1, 3) @ self.rotation.mT + self.translation[:, None]
        return moved.reshape(len(self), *points.shape)

    def after(self, first: Pose) -> Pose:
        """The pose s -> self(first(s)), each of K."""
        shift = (self.rotation @ first.translation.unsqueeze(-1)).squeeze(-1)
        return Pose(self.rotation @ first.rotation, shift + self.translation)


@dataclass(frozen=True)
class Frame:
    """Where a bone lies on a grid. low, high: its first and last voxel (x, y, z), int."""

    grid: Grid
    low: np.ndarray
    high: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """Of its box, continuous voxel index (x, y, z)."""
        return (self.low + self.high) / 2

    @property
    def centre_mm(self) -> np.ndarray:
        """The same in LPS millimetres."""
        return self.grid.to_points_mm(self.centre)

    def push(self, pose: Pose) -> np.ndarray:
        """K poses, moving -> fixed, in LPS millimetres as matrices (K, 4, 4), float64."""
        axes = self.grid.matrix
        result = np.tile(np.eye(4), (len(pose), 1, 1))
        result[:, :3, :3] = axes @ pose.rotation.double().numpy() @ axes.T
        shift = pose.translation.double().numpy() @ axes.T
        result[:, :3, 3] = self.centre_mm + shift - result[:, :3, :3] @ self.centre_mm
        return result


def frame_of(labels: np.ndarray, label: int, grid: Grid) -> Frame:
    """The frame of a label that is there."""
    box = find_objects((labels == label).astype(np.uint8))[0]
    return Frame(grid, np.array([s.start for s in box[::-1]]), np.array([s.stop - 1 for s in box[::-1]]))


@dataclass(frozen=True)
class Lattice:
    """points: local positions (d, h, w, 3) in millimetres, x, y, z, `step_mm` apart along each axis."""

    frame: Frame
    points: Tensor
    step_mm: float

    def values(self, volume: Tensor, pose: Pose | None = None, padding: str = "zeros") -> Tensor:
        """A volume (1, D, H, W) of the frame's grid at the points, moved by a single pose: (d, h, w)."""
        points = self.points if pose is None else pose.move(self.points)[0]
        grid = self.frame.grid
        index = points / points.new_tensor(grid.spacing_mm) + points.new_tensor(self.frame.centre)
        return sample(volume, index, padding)[0]

    def describe(self, image: Tensor, mind: tuple[int, int], pose: Pose | None = None) -> Tensor:
        """MIND-SSC (12, d, h, w) of an image (1, D, H, W) seen at the points. mind: radius and dilation, in steps."""
        return mind_ssc(self.values(image, pose, "border")[None, None], *mind)[0]

    def shown(self, seen: Tensor, mind: tuple[int, int], pose: Pose | None = None) -> Tensor:
        """Where a descriptor rests on nothing but what is `seen` (1, D, H, W): (d, h, w), 0 or 1."""
        hidden = (self.values(seen, pose) < 0.5).float()[None]
        return 1 - F.max_pool3d(hidden, 2 * sum(mind) + 1, stride=1, padding=sum(mind))[0]

    def index(self, points: Tensor) -> Tensor:
        """Local positions (..., 3) as continuous indices of the lattice, x, y, z."""
        return (points - self.points[0, 0, 0]) / self.step_mm


def lattice_around(frame: Frame, step_mm: float, margin_mm: float) -> Lattice:
    """The lattice that holds a bone's box and `margin_mm` around it."""
    half = (frame.high - frame.low) * np.array(frame.grid.spacing_mm) / 2 + margin_mm
    x, y, z = (torch.arange(-n, n + 1, dtype=torch.float32) * step_mm for n in np.ceil(half / step_mm))
    grids = torch.meshgrid(z, y, x, indexing="ij")
    return Lattice(frame, torch.stack(grids[::-1], dim=-1), step_mm)


def sample(volume: Tensor, index: Tensor, padding: str) -> Tensor:
    """A volume (C, D, H, W) at continuous indices (..., 3), x, y, z, linearly: (C, ...). padding: `zeros`, `border`."""
    size = index.new_tensor(tuple(volume.shape[:0:-1]))
    points = ((index + 0.5) / size * 2 - 1).reshape(1, 1, 1, -1, 3)
    values = F.grid_sample(volume[None], points, padding_mode=padding, align_corners=False)
    return values.reshape(len(volume), *index.shape[:-1])


def smoothed(image: np.ndarray, grid: Grid, step_mm: float) -> Tensor:
    """An image (z, y, x) as (1, D, H, W), without the detail that a lattice of `step_mm` cannot hold."""
    # A Gaussian of half the step, less what the voxels of the grid have lost already.
    sigmas = [0.5 * max(step_mm**2 - s**2, 0) ** 0.5 / s for s in spacing_zyx(grid)]
    return torch.from_numpy(gaussian_filter(image, sigmas))[None]


def seen(image: np.ndarray) -> Tensor:
    """Where an image (z, y, x) shows anything, (1, D, H, W), 0 or 1: beyond a field of view it has one value."""
    return torch.from_numpy((maximum_filter(image, _FLAT) > minimum_filter(image, _FLAT)).astype(np.float32))[None]


def surroundings(labels: np.ndarray, label: int, grid: Grid, rim_mm: float) -> Tensor:
    """A bone and `rim_mm` around it, without other bones, which move on their own: (1, D, H, W), 0 or 1."""
    bone = labels == label
    reach = [int(np.ceil(rim_mm / s)) for s in spacing_zyx(grid)]
    box = tuple(
        slice(max(s.start - r, 0), s.stop + r)
        for s, r in zip(find_objects(bone.astype(np.uint8))[0], reach, strict=True)
    )
    near = distance_transform_edt(~bone[box], spacing_zyx(grid)) <= rim_mm
    result = np.zeros(labels.shape, np.float32)
    result[box] = near & (bone[box] | (labels[box] == 0))
    return torch.from_numpy(result)[None]
