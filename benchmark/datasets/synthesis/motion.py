"""The motion of a spine between two scans: rigid in each vertebra; between and around them, soft tissue moves.

The labels are moved first. Then the displacement in the fixed domain is made from the moved labels. All points are LPS
millimetres.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import reduce
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import affine_transform, find_objects, maximum_filter, minimum_filter
from torch import Tensor

from benchmark.datasets.synthesis.blending import Coarse, Rigid, blend, bone_distances, refine
from benchmark.datasets.synthesis.sliding import facing_pairs, slide
from benchmark.datasets.synthesis.tissue import SoftTissue, away_from_bone, bulge
from methods.base import Grid
from methods.geometry import spacing_zyx, to_voxels
from metrics.fields import jacobian, jacobian_determinant, warp

CONTACT_MM = 2.0


@dataclass(frozen=True)
class Motion:
    """One rigid motion per vertebra, moving point -> fixed point: p -> rotations[i] @ p + translations[i].

    ids: VerSe ids (n). rotations: (n, 3, 3). translations: (n, 3) in mm. tissue: how soft tissue moves; None blends the
    rigid motions by the inverse cubed distance.
    """

    ids: tuple[int, ...]
    rotations: np.ndarray
    translations: np.ndarray
    tissue: SoftTissue | None = None

    def move(self, i: int, points_mm: np.ndarray) -> np.ndarray:
        """Moving points (..., 3) of vertebra i (its place in `ids`) to fixed points."""
        return np.asarray(points_mm) @ self.rotations[i].T + self.translations[i]

    def inverse(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (3, 3) and translation (3,) in mm of vertebra i (its place in `ids`), fixed -> moving point."""
        return self.rotations[i].T, -self.rotations[i].T @ self.translations[i]

    def followed_by(self, rotation: np.ndarray, translation: np.ndarray) -> Motion:
        """This motion, then one rigid transform of all vertebrae: rotation (3, 3), translation (3,) in mm."""
        return Motion(self.ids, rotation @ self.rotations, self.translations @ rotation.T + translation, self.tissue)


@dataclass(frozen=True)
class MovedSpine:
    """A label map after a motion.

    motion: of its vertebrae. labels: uint16 (z, y, x), fixed domain. displacement_mm: float32 (z, y, x, 3), fixed point
    -> moving point, exactly rigid inside every fixed vertebra. sliding: bool (z, y, x), next to a surface on which the
    displacement jumps because neighbours slide. overlap: number of voxels that two vertebrae cover,
    divided by the number of labelled voxels.
    """

    motion: Motion
    labels: np.ndarray
    displacement_mm: np.ndarray
    sliding: np.ndarray
    overlap: float

    def core(self, grid: Grid) -> np.ndarray:
        """The voxels around which the displacement is rigid (`rigid_core`): bool (z, y, x). grid: of the labels."""
        return rigid_core(self.labels, grid)

    def lowest_jacobian(self, grid: Grid) -> float:
        """The least determinant of the Jacobian of p + u(p) where nothing slides. grid: of the displacement."""
        determinant = jacobian_determinant(jacobian(to_voxels(self.displacement_mm, grid), spacing_zyx(grid)))[0]
        return float(determinant.masked_fill_(torch.from_numpy(self.sliding), torch.inf).min())


def move_spine(motion: Motion, labels: np.ndarray, grid: Grid) -> MovedSpine:
    """Move the labels, then derive the displacement from the moved labels.

    Args:
        motion: of the vertebrae in `labels`.
        labels: uint16 (z, y, x), moving domain.
        grid: of both domains.

    Returns:
        Labels and displacement in the fixed domain.
    """
    fixed, overlap = move_labels(motion, labels, grid)
    return MovedSpine(motion, fixed, *displacement(motion, fixed, grid), overlap)


def warp_image(image: np.ndarray, displacement: np.ndarray, grid: Grid) -> np.ndarray:
    """Resample an image at p + u(p), linearly; outside it has the value of its border.

    Args:
        image: (z, y, x), moving domain.
        displacement: u, (z, y, x, 3), LPS mm, fixed point -> moving point.
        grid: of both.

    Returns:
        float32 (z, y, x), fixed domain.
    """
    moving = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    return warp(moving, to_voxels(displacement, grid), padding="border")[0, 0].numpy()


def move_labels(motion: Motion, labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    """Move each vertebra's mask by its own motion, linearly interpolated, with a threshold of 0.5.

    Where two vertebrae overlap, the one with the larger value is kept.

    Args:
        motion: of the vertebrae in `labels`.
        labels: integer (z, y, x), moving domain.
        grid: of both domains.

    Returns:
        Labels in the fixed domain, uint16 (z, y, x), and the number of voxels that two vertebrae cover divided by the
        number of labelled voxels.
    """
    best = np.zeros(grid.shape, np.float32)
    fixed = np.zeros(grid.shape, np.uint16)
    overlapping = 0
    present = [(i, box) for i, box in enumerate(_boxes(labels, motion.ids)) if box is not None]
    # scipy releases the interpreter lock; torch holds the number of threads that this process may use.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        moved = threads.map(lambda item: _moved_mask(motion, item[0], item[1], labels, grid), present)
    for (i, _), (box, value) in zip(present, moved, strict=True):
        vertebra = motion.ids[i]
        overlapping += int(((value >= 0.5) & (best[box] >= 0.5)).sum())
        larger = (value >= 0.5) & (value > best[box])
        fixed[box][larger] = vertebra
        best[box][larger] = value[larger]
    return fixed, overlapping / max(1, int((fixed > 0).sum()))


def displacement(motion: Motion, fixed_labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The displacement of a motion: exactly rigid inside each vertebra; elsewhere as the soft tissue moves.

    The field is made on a grid of about 2 mm and interpolated linearly; then neighbours slide, and each vertebra's own
    motion is written at its voxels.

    Args:
        motion: of the vertebrae.
        fixed_labels: integer (z, y, x), fixed domain.
        grid: of the labels.

    Returns:
        float32 (z, y, x, 3), LPS mm, fixed point -> moving point; and bool (z, y, x), the voxels next to a surface on
        which neighbours slide.
    """
    coarse = Coarse.of(fixed_labels, grid)
    distances = bone_distances(coarse.labels, motion.ids, coarse.grid)
    to_moving = {v: motion.inverse(i) for i, v in enumerate(motion.ids)}
    _, weights = coarse.fine_box()
    field = refine(_between(motion, distances, to_moving, coarse.grid), weights)
    sliding = np.zeros(grid.shape, bool)
    if motion.tissue is not None:
        for (a, b), place in facing_pairs(distances, motion.ids, coarse):
            slide(field, place, (to_moving[a], to_moving[b]), grid)
            sliding[place.box] |= place.surface(grid)
    result = np.ascontiguousarray(np.moveaxis(field, 0, -1))
    for (vertebra, rigid), box in zip(to_moving.items(), _boxes(fixed_labels, motion.ids), strict=True):
        if box is not None:
            inside = np.nonzero(fixed_labels[box] == vertebra)
            points = grid.to_points_mm((np.stack(inside, axis=-1) + [s.start for s in box])[:, ::-1])
            result[box][inside] = points @ (rigid[0] - np.eye(3)).T + rigid[1]
    return result, sliding


def _between(motion: Motion, distances: Mapping[int, Tensor], to_moving: Mapping[int, Rigid], grid: Grid) -> np.ndarray:
    """The displacement before neighbours slide: float32 (3, z, y, x) on the grid of the distances."""
    tissue = motion.tissue
    if tissue is None or not distances:
        return blend(distances, (to_moving,), grid)[0]
    shares = dict(zip(motion.ids, tissue.shares.tolist(), strict=True))
    own = tissue.own_mm(grid)
    if tissue.distortion is not None:
        # Bones follow the distortion rigidly; far from them soft tissue follows it in full.
        distorted = dict(zip(motion.ids, tissue.distorted, strict=True))
        field, followed = blend(distances, (to_moving, distorted), grid, tissue.exponent, shares)
        own += tissue.distortion.on(grid) - followed
    else:
        (field,) = blend(distances, (to_moving,), grid, tissue.exponent, shares)
    field += own * away_from_bone(reduce(torch.minimum, distances.values()))
    centres = [motion.move(i, centre) for i, centre in enumerate(tissue.centres_mm)]
    for i, (a, b) in enumerate(pairwise(motion.ids)):
        if a in distances and b in distances:
            pair = (distances[a], distances[b]), np.stack(centres[i : i + 2]), (to_moving[a], to_moving[b])
            bulge(field, *pair, tissue.bulges[i], grid)
    return field


def rigid_core(fixed_labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The labels without their outermost voxels where another vertebra is within 2 mm.

    Args:
        fixed_labels: uint16 (z, y, x).
        grid: of the labels.

    Returns:
        bool (z, y, x).
    """
    window = [2 * max(1, int(CONTACT_MM / s)) + 1 for s in spacing_zyx(grid)]
    core = np.zeros(fixed_labels.shape, bool)
    for box in _boxes((fixed_labels > 0).astype(np.uint8), [1]):
        if box is not None:
            wide = tuple(slice(max(s.start - w, 0), s.stop + w) for s, w in zip(box, window, strict=True))
            labels = fixed_labels[wide]
            lowest = np.where(labels == 0, np.iinfo(np.uint16).max, labels)
            contact = maximum_filter(labels, window) != minimum_filter(lowest, window)
            surface = maximum_filter(labels, 3) != minimum_filter(labels, 3)
            core[wide] = (labels > 0) & ~(contact & surface)
    return core


def _boxes(labels: np.ndarray, ids: Sequence[int]) -> list[tuple[slice, ...] | None]:
    """The box around each id's voxels; None for an id without a voxel."""
    found = find_objects(labels.astype(np.int32), max_label=max(ids))
    return [found[i - 1] for i in ids]


def _index_transform(motion: Motion, i: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """Matrix (3, 3) and offset (3,) from fixed to moving voxel indices, in axis order (z, y, x)."""
    rotation, translation = motion.inverse(i)
    origin = grid.to_indices_xyz(grid.to_points_mm(np.zeros(3)) @ rotation.T + translation)
    steps = grid.to_indices_xyz(grid.to_points_mm(np.eye(3)) @ rotation.T + translation) - origin
    return steps.T[::-1, ::-1], origin[::-1]


def _moved_mask(
    motion: Motion, i: int, moving_box: tuple[slice, ...], labels: np.ndarray, grid: Grid
) -> tuple[tuple[slice, ...], np.ndarray]:
    """The box of vertebra i in the fixed domain, and its mask there: float32 in [0, 1], linearly interpolated."""
    low = np.maximum([s.start - 1 for s in moving_box], 0)
    high = np.minimum([s.stop + 1 for s in moving_box], grid.shape)
    crop = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    matrix, offset = _index_transform(motion, i, grid)
    box = _moved_box(matrix, offset, low, high, grid.shape)
    shape = tuple(s.stop - s.start for s in box)
    if 0 in shape:
        return box, np.zeros(shape, np.float32)
    mask = (labels[crop] == motion.ids[i]).astype(np.float32)
    start = np.array([s.start for s in box])
    return box, affine_transform(mask, matrix, matrix @ start + offset - low, shape, np.float32, order=1)


def _moved_box(
    matrix: np.ndarray, offset: np.ndarray, low: np.ndarray, high: np.ndarray, shape: tuple[int, ...]
) -> tuple[slice, ...]:
    """The box in the fixed domain of all voxels that map into the moving voxels from `low` to `high`."""
    corners = np.array([(z, y, x) for z in (low[0], high[0]) for y in (low[1], high[1]) for x in (low[2], high[2])])
    moved = np.linalg.solve(matrix, (corners - offset).T).T
    start = np.clip(np.floor(moved.min(0)).astype(int), 0, shape)
    stop = np.clip(np.ceil(moved.max(0)).astype(int) + 1, start, shape)
    return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
