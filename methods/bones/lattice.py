"""The small isotropic lattice around one vertebra on which the search for its rigid transform compares images.

A lattice is parallel to the grid's axes and centred on a moving label. Local positions are millimetres from this
centre, components x, y, z along the grid's axes, so that the search does not depend on the grid's origin, direction or
anisotropy. A `Pose` maps a local moving position s to the local fixed position R s + t.
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

_FLAT = 5  # voxels: the image has no structure where a cube of this edge length has one value


@dataclass(frozen=True)
class Pose:
    """K rigid transforms, local moving -> local fixed.

    Attributes:
        rotation: (K, 3, 3).
        translation: (K, 3), mm.
    """

    rotation: Tensor
    translation: Tensor

    @staticmethod
    def identity() -> Pose:
        """One pose that moves nothing."""
        return Pose(torch.eye(3)[None], torch.zeros(1, 3))

    @staticmethod
    def stack(poses: Sequence[Pose]) -> Pose:
        """All poses of a sequence in one object."""
        return Pose(torch.cat([p.rotation for p in poses]), torch.cat([p.translation for p in poses]))

    def __len__(self) -> int:
        return len(self.translation)

    def __getitem__(self, index: Tensor) -> Pose:
        return Pose(self.rotation[index], self.translation[index])

    def move(self, points: Tensor) -> Tensor:
        """Apply each of the K poses to points (..., 3), mm: (K, ..., 3)."""
        moved = points.reshape(-1, 3) @ self.rotation.mT + self.translation[:, None]
        return moved.reshape(len(self), *points.shape)

    def after(self, first: Pose) -> Pose:
        """The K poses that apply `first` and then this one."""
        shift = (self.rotation @ first.translation.unsqueeze(-1)).squeeze(-1)
        return Pose(self.rotation @ first.rotation, shift + self.translation)


@dataclass(frozen=True)
class Frame:
    """The bounding box of a bone on a grid, which defines local positions.

    Attributes:
        grid: the pair's grid.
        low: first voxel of the bone along each axis, int (3,), order x, y, z.
        high: last voxel of the bone along each axis, int (3,), order x, y, z.
    """

    grid: Grid
    low: np.ndarray
    high: np.ndarray

    @property
    def centre(self) -> np.ndarray:
        """The centre of the box as a continuous voxel index (x, y, z)."""
        return (self.low + self.high) / 2

    @property
    def centre_mm(self) -> np.ndarray:
        """The centre of the box in LPS millimetres."""
        return self.grid.to_points_mm(self.centre)

    def to_lps(self, pose: Pose) -> np.ndarray:
        """Convert K poses into matrices (K, 4, 4), float64, that map moving to fixed points in LPS millimetres."""
        axes = self.grid.matrix
        result = np.tile(np.eye(4), (len(pose), 1, 1))
        result[:, :3, :3] = axes @ pose.rotation.double().numpy() @ axes.T
        shift = pose.translation.double().numpy() @ axes.T
        result[:, :3, 3] = self.centre_mm + shift - result[:, :3, :3] @ self.centre_mm
        return result

    def to_local(self, transform: np.ndarray) -> Pose:
        """Convert a matrix (4, 4) that maps moving to fixed points in LPS millimetres into one pose."""
        axes, centre = self.grid.matrix, self.centre_mm
        rotation = axes.T @ transform[:3, :3] @ axes
        shift = axes.T @ (transform[:3, :3] @ centre + transform[:3, 3] - centre)
        return Pose(torch.from_numpy(rotation[None]).float(), torch.from_numpy(shift[None]).float())


def frame_of(labels: np.ndarray, label: int, grid: Grid) -> Frame:
    """The bounding box of a label that occurs in the label map (z, y, x)."""
    box = find_objects((labels == label).astype(np.uint8))[0]
    return Frame(grid, np.array([s.start for s in box[::-1]]), np.array([s.stop - 1 for s in box[::-1]]))


@dataclass(frozen=True)
class Lattice:
    """Regular positions around a bone.

    Attributes:
        frame: the bone's bounding box.
        points: local positions (d, h, w, 3), mm, order x, y, z.
        step_mm: distance of neighbouring points along each axis.
    """

    frame: Frame
    points: Tensor
    step_mm: float

    def values(self, volume: Tensor, pose: Pose | None = None, padding: str = "zeros") -> Tensor:
        """Interpolate a volume at the points, moved by one pose.

        Args:
            volume: (1, D, H, W) on the pair's grid.
            pose: one pose (K = 1); None for the identity.
            padding: `zeros` or `border`, the values outside the volume.

        Returns:
            (d, h, w).
        """
        points = self.points if pose is None else pose.move(self.points)[0]
        grid = self.frame.grid
        index = points / points.new_tensor(grid.spacing_mm) + points.new_tensor(self.frame.centre)
        return sample(volume, index, padding)[0]

    def describe(self, image: Tensor, mind: tuple[int, int], pose: Pose | None = None) -> Tensor:
        """The MIND-SSC descriptors of an image at the points, moved by one pose.

        Args:
            image: (1, D, H, W) on the pair's grid.
            mind: radius and dilation of the descriptor, in steps of the lattice.
            pose: one pose (K = 1); None for the identity.

        Returns:
            (12, d, h, w), in [0, 1].
        """
        return mind_ssc(self.values(image, pose, "border")[None, None], *mind)[0]

    def valid(self, structured: Tensor, mind: tuple[int, int], pose: Pose | None = None) -> Tensor:
        """The points whose descriptors depend on structured voxels only.

        Args:
            structured: (1, D, H, W), 0 or 1, as of the function `structured`.
            mind: radius and dilation of the descriptor, in steps of the lattice.
            pose: one pose (K = 1); None for the identity.

        Returns:
            (d, h, w), 0 or 1.
        """
        hidden = (self.values(structured, pose) < 0.5).float()[None]
        return 1 - F.max_pool3d(hidden, 2 * sum(mind) + 1, stride=1, padding=sum(mind))[0]

    def index(self, points: Tensor) -> Tensor:
        """Convert local positions (..., 3), mm, to continuous indices of the lattice, order x, y, z."""
        return (points - self.points[0, 0, 0]) / self.step_mm


def lattice_around(frame: Frame, step_mm: float, margin_mm: float) -> Lattice:
    """The lattice that covers a bone's bounding box and `margin_mm` on each side, with points `step_mm` apart."""
    half = (frame.high - frame.low) * np.array(frame.grid.spacing_mm) / 2 + margin_mm
    x, y, z = (torch.arange(-n, n + 1, dtype=torch.float32) * step_mm for n in np.ceil(half / step_mm))
    grids = torch.meshgrid(z, y, x, indexing="ij")
    return Lattice(frame, torch.stack(grids[::-1], dim=-1), step_mm)


def sample(volume: Tensor, index: Tensor, padding: str) -> Tensor:
    """Interpolate a volume linearly.

    Args:
        volume: (C, D, H, W).
        index: (..., 3), continuous voxel indices, order x, y, z.
        padding: `zeros` or `border`, the values outside the volume.

    Returns:
        (C, ...).
    """
    size = index.new_tensor(tuple(volume.shape[:0:-1]))
    points = ((index + 0.5) / size * 2 - 1).reshape(1, 1, 1, -1, 3)
    values = F.grid_sample(volume[None], points, padding_mode=padding, align_corners=False)
    return values.reshape(len(volume), *index.shape[:-1])


def smoothed(image: np.ndarray, grid: Grid, step_mm: float) -> Tensor:
    """An image (z, y, x) as a tensor (1, D, H, W), smoothed against aliasing on a lattice of `step_mm`."""
    # A Gaussian with an SD of half the step, less the smoothing by the voxels of the grid.
    sigmas = [0.5 * max(step_mm**2 - s**2, 0) ** 0.5 / s for s in spacing_zyx(grid)]
    return torch.from_numpy(gaussian_filter(image, sigmas))[None]


def structured(image: np.ndarray, inside: np.ndarray | None = None) -> Tensor:
    """The seen voxels around which an image varies; outside a field of view it may have one value.

    Args:
        image: (z, y, x).
        inside: bool (z, y, x), the voxels that the scan saw; None: all.

    Returns:
        (1, D, H, W), 1 where the voxel was seen and a cube of 5 voxels has more than one value, else 0.
    """
    varies = maximum_filter(image, _FLAT) > minimum_filter(image, _FLAT)
    return torch.from_numpy((varies if inside is None else varies & inside).astype(np.float32))[None]


def bone_and_rim(labels: np.ndarray, label: int, grid: Grid, rim_mm: float) -> Tensor:
    """The mask of a bone and its surroundings without other bones, which move independently.

    Args:
        labels: (z, y, x), integers.
        label: a value that occurs in `labels`.
        grid: the grid of `labels`.
        rim_mm: largest distance from the bone.

    Returns:
        (1, D, H, W), 0 or 1.
    """
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
