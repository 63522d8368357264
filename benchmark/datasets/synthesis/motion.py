"""The motion of a spine between two scans: rigid in each vertebra, smooth in between.

The order is: draw a change of spinal curvature, pre-align the two poses on noisy centroids as the paper does, move the
labels, then define the displacement in the fixed domain from the moved labels. A residual of a few millimetres remains
for registration. All points are LPS millimetres.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import affine_transform, find_objects, maximum_filter, minimum_filter
from scipy.spatial.transform import Rotation
from scipy.special import ndtri

from benchmark.datasets.synthesis.blending import blend
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid
from methods.geometry import spacing_zyx, to_voxels
from metrics.fields import jacobian, jacobian_determinant, warp
from metrics.procrustes import fit_rigid

COARSE_MM = 2.0
CONTACT_MM = 2.0
# Calibrated to the paper's row "Initial" by `make data-report`.
RESIDUAL_MEDIAN_MM, RESIDUAL_SIGMA = 4.7, 0.55
RESIDUAL_RANGE_MM = (1.2, 14.0)
ANNOTATION_MM, LARGEST_JOINT_DEG = (1.0, 3.0), 7.0
# Points of a vertebra relative to the centre of its body: body, transverse processes, spinous process.
_VERTEBRA_POINTS_MM = np.array([(0, 0, 0), (20, 0, 0), (-20, 0, 0), (35, 25, 5), (-35, 25, 5), (0, 60, -15)], float)
# Body centres lie almost on a line and do not determine the rotation about it; the centres of the arches do.
_ARCH_OFFSET_MM = np.array([0.0, 35.0, -5.0])


@dataclass(frozen=True)
class Motion:
    """One rigid motion per vertebra, moving point -> fixed point: p -> rotations[i] @ p + translations[i].

    ids: VerSe ids (n). rotations: (n, 3, 3). translations: (n, 3) in mm.
    """

    ids: tuple[int, ...]
    rotations: np.ndarray
    translations: np.ndarray

    def move(self, i: int, points_mm: np.ndarray) -> np.ndarray:
        """Moving points (..., 3) of vertebra i (its place in `ids`) to fixed points."""
        return np.asarray(points_mm) @ self.rotations[i].T + self.translations[i]

    def inverse(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """Rotation (3, 3) and translation (3,) in mm of vertebra i (its place in `ids`), fixed -> moving point."""
        return self.rotations[i].T, -self.rotations[i].T @ self.translations[i]

    def followed_by(self, rotation: np.ndarray, translation: np.ndarray) -> Motion:
        """This motion, then one rigid transform of all vertebrae: rotation (3, 3), translation (3,) in mm."""
        return Motion(self.ids, rotation @ self.rotations, self.translations @ rotation.T + translation)


@dataclass(frozen=True)
class MovedSpine:
    """A label map after a motion.

    motion: of its vertebrae. labels: uint16 (z, y, x), fixed domain. displacement_mm: float32 (z, y, x, 3), fixed point
    -> moving point, exactly rigid inside every fixed vertebra. overlap: number of voxels that two vertebrae cover,
    divided by the number of labelled voxels.
    """

    motion: Motion
    labels: np.ndarray
    displacement_mm: np.ndarray
    overlap: float

    def core(self, grid: Grid) -> np.ndarray:
        """The voxels around which the displacement is rigid (`rigid_core`): bool (z, y, x). grid: of the labels."""
        return rigid_core(self.labels, grid)

    def lowest_jacobian(self, grid: Grid) -> float:
        """The least determinant of the Jacobian of p + u(p). grid: of the displacement."""
        return float(jacobian_determinant(jacobian(to_voxels(self.displacement_mm, grid), spacing_zyx(grid))).min())


def draw_motion(
    rng: PortableRng,
    ids: Sequence[int],
    centres_mm: np.ndarray,
    aligned: Sequence[int] | None = None,
    bending: float = 1.0,
    quantile: float | None = None,
) -> Motion:
    """Draw a change of curvature and pre-align it on noisy centroids; a residual motion remains.

    The RMS of the residual over the vertebrae follows a log-normal distribution over patients. The bending is chosen to
    reach it, with an annotation error of 1 to 3 mm. If no joint may rotate further, the annotation error is increased.

    Args:
        rng: draws every parameter.
        ids: vertebrae from one end to the other (n).
        centres_mm: centres of their bodies in the moving scan, (n, 3), LPS.
        aligned: the ids whose centroids (of body and of arch) the pre-alignment uses; None for all.
        bending: factor on the change of curvature.
        quantile: of the residual's distribution, in (0, 1); None draws it.

    Returns:
        The motion after pre-alignment.
    """
    centres = np.asarray(centres_mm, float)
    joints = _joint_angles(rng, len(ids) - 1)
    is_aligned = np.array([aligned is None or v in aligned for v in ids])
    errors, error_mm = _annotation_errors(rng, len(ids)), rng.uniform(*ANNOTATION_MM)
    size = rng.normal() if quantile is None else ndtri(quantile)
    target = float(np.clip(RESIDUAL_MEDIAN_MM * np.exp(RESIDUAL_SIGMA * size), *RESIDUAL_RANGE_MM))

    def attempt(bend: float, error_mm: float) -> Motion:
        return _prealign(_bend(tuple(ids), centres, bend * joints), centres, is_aligned, error_mm * errors)

    def residual_mm(bend: float, error_mm: float) -> float:
        return _rms_mm(attempt(bend, error_mm), centres, is_aligned)

    largest_bend = LARGEST_JOINT_DEG / max(float(np.abs(joints).max(initial=0)), 1e-6)
    bend = bending * _bisect(lambda b: residual_mm(b, error_mm), target, largest_bend)
    if residual_mm(bend, error_mm) < 0.98 * target:
        error_mm = _bisect(lambda e: residual_mm(bend, e), target, 40.0)
    return attempt(bend, error_mm)


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
    return MovedSpine(motion, fixed, displacement_mm(motion, fixed, grid), overlap)


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


def displacement_mm(motion: Motion, fixed_labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The displacement of a motion: exactly rigid inside each vertebra, blended in between (`blend`).

    The field is blended on a grid of about 2 mm and interpolated linearly; then each vertebra's own motion is written
    at its voxels.

    Args:
        motion: of the vertebrae.
        fixed_labels: integer (z, y, x), fixed domain.
        grid: of the labels.

    Returns:
        float32 (z, y, x, 3), LPS mm, fixed point -> moving point.
    """
    factors = [max(1, round(COARSE_MM / s)) for s in spacing_zyx(grid)]
    nodes = [(n - 1 + f - 1) // f + 1 for n, f in zip(grid.shape, factors, strict=True)]
    pad = [(0, (m - 1) * f + 1 - n) for m, f, n in zip(nodes, factors, grid.shape, strict=True)]
    coarse = np.pad(fixed_labels, pad, mode="edge")[tuple(slice(None, None, f) for f in factors)]
    x, y, z = (s * f for s, f in zip(grid.spacing_mm, factors[::-1], strict=True))
    coarse_grid = Grid(coarse.shape, (x, y, z), grid.origin_mm, grid.direction)
    blended = blend(coarse, {v: motion.inverse(i) for i, v in enumerate(motion.ids)}, coarse_grid)
    for axis, (n, f, m) in enumerate(zip(grid.shape, factors, nodes, strict=True)):
        if f > 1:
            weights = np.clip(1 - np.abs(np.arange(n)[:, None] / f - np.arange(m)), 0, 1).astype(np.float32)
            blended = np.moveaxis(np.tensordot(weights, blended, axes=(1, 1 + axis)), 0, 1 + axis)
    field = np.ascontiguousarray(np.moveaxis(blended, 0, -1))
    for i, (vertebra, box) in enumerate(zip(motion.ids, _boxes(fixed_labels, motion.ids), strict=True)):
        if box is None:
            continue
        inside = np.nonzero(fixed_labels[box] == vertebra)
        index = np.stack(inside, axis=-1) + [s.start for s in box]
        rotation, translation = motion.inverse(i)
        field[box][inside] = grid.to_points_mm(index[:, ::-1]) @ (rotation - np.eye(3)).T + translation
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


def _joint_angles(rng: PortableRng, joints: int) -> np.ndarray:
    """Draw flexion, side bend and twist of each joint: (n, 3) in degrees, mostly sagittal, smooth along the spine."""
    along = np.linspace(-1, 1, joints)[:, None] if joints > 1 else np.zeros((joints, 1))
    mean = rng.normal(size=3) * (1.7, 0.8, 0.5)
    slope = rng.normal(size=3) * (1.0, 0.6, 0.4)
    return np.clip(mean + slope * along + rng.normal(size=(joints, 3)) * (0.4, 0.3, 0.3), -4.5, 4.5)


def _bend(ids: tuple[int, ...], centres: np.ndarray, joints_deg: np.ndarray) -> Motion:
    """Rotate every vertebra against the one before, about the point midway between their centres."""
    rotation, translation = np.eye(3), np.zeros(3)
    rotations, translations = [rotation], [translation]
    for i, (flexion, side, twist) in enumerate(joints_deg):
        pivot = (centres[i] + centres[i + 1]) / 2
        turn = Rotation.from_euler("xyz", (flexion, side, twist), degrees=True).as_matrix()
        translation = rotation @ (pivot - turn @ pivot) + translation
        rotation = rotation @ turn
        rotations.append(rotation)
        translations.append(translation)
    return Motion(ids, np.stack(rotations), np.stack(translations))


def _annotation_errors(rng: PortableRng, n: int) -> np.ndarray:
    """Draw errors (2, n, 3) of body and arch centres between the two scans, with a root mean square length of 1.

    A part of the error is shared by all vertebrae of an annotator, so that it does not average out.
    """
    shared, own, arch = rng.normal(size=3), rng.normal(size=(n, 3)), rng.normal(size=(n, 3))
    errors = np.stack([shared + 0.7 * own, shared + 0.7 * own + 0.5 * arch])
    return errors / np.sqrt(np.mean(np.sum(np.square(errors), axis=-1)))


def _prealign(motion: Motion, centres: np.ndarray, is_aligned: np.ndarray, errors_mm: np.ndarray) -> Motion:
    """The motion followed by the rigid fit of its noisy fixed centres to the moving ones."""
    moving = np.stack([centres, centres + _ARCH_OFFSET_MM])
    fixed = np.stack([[motion.move(i, p) for i, p in enumerate(points)] for points in moving])
    annotated = (fixed + errors_mm)[:, is_aligned]
    rotation, translation = fit_rigid(
        torch.from_numpy(annotated.reshape(-1, 3)), torch.from_numpy(moving[:, is_aligned].reshape(-1, 3).copy())
    )
    return motion.followed_by(rotation.numpy(), translation.numpy())


def _rms_mm(motion: Motion, centres: np.ndarray, is_aligned: np.ndarray) -> float:
    """Root mean square distance that the points of the aligned vertebrae move."""
    points = _VERTEBRA_POINTS_MM
    moved = [motion.move(i, c + points) - c - points for i, c in enumerate(centres) if is_aligned[i]]
    return float(np.sqrt(np.mean(np.sum(np.square(moved), axis=-1))))


def _bisect(rising: Callable[[float], float], target: float, high: float) -> float:
    """The argument in [0, high] at which a rising function reaches `target`."""
    low = 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2


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
