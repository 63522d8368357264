"""How a spine moves between two scans: rigid per vertebra, smooth in between, a few millimetres left to register.

The order is: draw a change of spinal curvature, pre-align the two poses on noisy centroids as the paper does, move the
labels, then define the displacement in the fixed domain from the moved labels. All points are LPS millimetres.
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
# Where the parts of a vertebra lie about its body's centre: body, transverse processes, spinous process.
_SAMPLE_MM = np.array([(0, 0, 0), (20, 0, 0), (-20, 0, 0), (35, 25, 5), (-35, 25, 5), (0, 60, -15)], float)
# Body centres alone lie almost on a line, which leaves the turn about it open; the arch's centre settles it.
_ARCH_MM = np.array([0.0, 35.0, -5.0])


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

    def pull(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        """The inverse of vertebra i's motion, fixed -> moving: (rotation, translation)."""
        return self.rotations[i].T, -self.rotations[i].T @ self.translations[i]

    def after(self, rotation: np.ndarray, translation: np.ndarray) -> Motion:
        """This motion followed by one rigid transform of everything."""
        return Motion(self.ids, rotation @ self.rotations, self.translations @ rotation.T + translation)


@dataclass(frozen=True)
class Moved:
    """A motion carried out on a label map.

    labels: uint16 (z, y, x), fixed domain. displacement_mm: float32 (z, y, x, 3), fixed point -> moving point, exactly
    rigid inside every fixed vertebra. overlap: voxels claimed by two vertebrae over labelled voxels.
    """

    motion: Motion
    labels: np.ndarray
    displacement_mm: np.ndarray
    overlap: float

    def core(self, grid: Grid) -> np.ndarray:
        """bool (z, y, x), where the displacement is rigid around the voxel too (`rigid_core`)."""
        return rigid_core(self.labels, grid)

    def lowest_jacobian(self, grid: Grid) -> float:
        """The least determinant of the Jacobian over the grid."""
        return float(jacobian_determinant(jacobian(to_voxels(self.displacement_mm, grid), spacing_zyx(grid))).min())


def draw_motion(
    rng: PortableRng,
    ids: Sequence[int],
    centres_mm: np.ndarray,
    aligned: Sequence[int] | None = None,
    bending: float = 1.0,
    quantile: float | None = None,
) -> Motion:
    """A change of curvature with what a rigid pre-alignment on noisy centroids leaves of it.

    ids: vertebrae from one end to the other. centres_mm: (n, 3), their bodies' centres in the moving scan.
    aligned: the ids whose centroids (of body and of arch) the pre-alignment uses; default: all.
    bending: factor on the change of curvature. What is left is heavy-tailed over patients: its RMS over the vertebrae
    is drawn log-normal (quantile: which, in (0, 1); None draws it). It is reached by bending, with an annotation error
    of 1 to 3 mm; only where no joint may turn further, by a larger error.
    """
    centres = np.asarray(centres_mm, float)
    joints = _joint_angles(rng, len(ids) - 1)
    use = np.array([aligned is None or v in aligned for v in ids])
    errors, error_mm = _annotation_errors(rng, len(ids)), rng.uniform(*ANNOTATION_MM)
    size = rng.normal() if quantile is None else ndtri(quantile)
    target = float(np.clip(RESIDUAL_MEDIAN_MM * np.exp(RESIDUAL_SIGMA * size), *RESIDUAL_RANGE_MM))

    def attempt(bend: float, error_mm: float) -> Motion:
        return _prealign(_bend(tuple(ids), centres, bend * joints), centres, use, error_mm * errors)

    def left_mm(bend: float, error_mm: float) -> float:
        return _rms_mm(attempt(bend, error_mm), centres, use)

    most = LARGEST_JOINT_DEG / max(float(np.abs(joints).max(initial=0)), 1e-6)
    bend = bending * _bisect(lambda b: left_mm(b, error_mm), target, most)
    if left_mm(bend, error_mm) < 0.98 * target:
        error_mm = _bisect(lambda e: left_mm(bend, e), target, 40.0)
    return attempt(bend, error_mm)


def carry_out(motion: Motion, labels: np.ndarray, grid: Grid) -> Moved:
    """Move the labels, then derive the displacement from the moved labels. labels: uint16 (z, y, x), moving domain."""
    fixed, overlap = move_labels(motion, labels, grid)
    return Moved(motion, fixed, displacement_mm(motion, fixed, grid), overlap)


def carry_image(image: np.ndarray, displacement: np.ndarray, grid: Grid) -> np.ndarray:
    """image(p + u(p)), linear, the border's value outside: float32 (z, y, x). displacement: (z, y, x, 3) in mm."""
    moving = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None, None]
    return warp(moving, to_voxels(displacement, grid), padding="border")[0, 0].numpy()


def move_labels(motion: Motion, labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, float]:
    """Fixed labels (uint16) and the share of voxels that two vertebrae claim.

    Each vertebra's mask is interpolated linearly under its own motion and cut at 0.5; the larger value wins.
    """
    best = np.zeros(grid.shape, np.float32)
    fixed = np.zeros(grid.shape, np.uint16)
    claimed_twice = 0
    present = [(i, box) for i, box in enumerate(_boxes(labels, motion.ids)) if box is not None]
    # scipy lets other threads run meanwhile; torch knows how many this process may have.
    with ThreadPoolExecutor(torch.get_num_threads()) as threads:
        moved = threads.map(lambda item: _moved_mask(motion, item[0], item[1], labels, grid), present)
    for (i, _), (box, value) in zip(present, moved, strict=True):
        vertebra = motion.ids[i]
        claimed_twice += int(((value >= 0.5) & (best[box] >= 0.5)).sum())
        wins = (value >= 0.5) & (value > best[box])
        fixed[box][wins] = vertebra
        best[box][wins] = value[wins]
    return fixed, claimed_twice / max(1, int((fixed > 0).sum()))


def displacement_mm(motion: Motion, fixed_labels: np.ndarray, grid: Grid) -> np.ndarray:
    """float32 (z, y, x, 3) in LPS mm, fixed point -> moving point: rigid inside each vertebra, blended in between.

    The weights fall with the cubed distance to each vertebra. Distances are taken on a grid of about 2 mm, and the
    blended field is interpolated from there; inside a vertebra its own motion is then written exactly.
    """
    factors = [max(1, round(COARSE_MM / s)) for s in spacing_zyx(grid)]
    nodes = [(n - 1 + f - 1) // f + 1 for n, f in zip(grid.shape, factors, strict=True)]
    pad = [(0, (m - 1) * f + 1 - n) for m, f, n in zip(nodes, factors, grid.shape, strict=True)]
    coarse = np.pad(fixed_labels, pad, mode="edge")[tuple(slice(None, None, f) for f in factors)]
    x, y, z = (s * f for s, f in zip(grid.spacing_mm, factors[::-1], strict=True))
    coarse_grid = Grid(coarse.shape, (x, y, z), grid.origin_mm, grid.direction)
    blended = blend(coarse, {v: motion.pull(i) for i, v in enumerate(motion.ids)}, coarse_grid)
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
        rotation, translation = motion.pull(i)
        field[box][inside] = grid.to_points_mm(index[:, ::-1]) @ (rotation - np.eye(3)).T + translation
    return field


def rigid_core(fixed_labels: np.ndarray, grid: Grid) -> np.ndarray:
    """bool (z, y, x): the labels less their outermost voxel where another vertebra comes within 2 mm."""
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
    """The box of each id's voxels, None for one that is absent."""
    found = find_objects(labels.astype(np.int32), max_label=max(ids))
    return [found[i - 1] for i in ids]


def _joint_angles(rng: PortableRng, joints: int) -> np.ndarray:
    """Degrees of flexion, side bend and twist at each joint (n, 3): mostly smooth along the spine, mostly sagittal."""
    along = np.linspace(-1, 1, joints)[:, None] if joints > 1 else np.zeros((joints, 1))
    mean = rng.normal(size=3) * (1.7, 0.8, 0.5)
    slope = rng.normal(size=3) * (1.0, 0.6, 0.4)
    return np.clip(mean + slope * along + rng.normal(size=(joints, 3)) * (0.4, 0.3, 0.3), -4.5, 4.5)


def _bend(ids: tuple[int, ...], centres: np.ndarray, joints_deg: np.ndarray) -> Motion:
    """Turn every vertebra against the one before, about the middle of their centres."""
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
    """Errors (2, n, 3) of body and arch centres between the two scans, of unit length in the root mean square.

    One observer's habit is shared by all vertebrae, so it does not average out: it is what a rigid fit leaves.
    """
    shared, own, arch = rng.normal(size=3), rng.normal(size=(n, 3)), rng.normal(size=(n, 3))
    errors = np.stack([shared + 0.7 * own, shared + 0.7 * own + 0.5 * arch])
    return errors / np.sqrt(np.mean(np.sum(np.square(errors), axis=-1)))


def _prealign(motion: Motion, centres: np.ndarray, use: np.ndarray, errors_mm: np.ndarray) -> Motion:
    moving = np.stack([centres, centres + _ARCH_MM])
    fixed = np.stack([[motion.move(i, p) for i, p in enumerate(points)] for points in moving])
    seen = (fixed + errors_mm)[:, use]
    rotation, translation = fit_rigid(
        torch.from_numpy(seen.reshape(-1, 3)), torch.from_numpy(moving[:, use].reshape(-1, 3).copy())
    )
    return motion.after(rotation.numpy(), translation.numpy())


def _rms_mm(motion: Motion, centres: np.ndarray, use: np.ndarray) -> float:
    moved = [motion.move(i, c + _SAMPLE_MM) - c - _SAMPLE_MM for i, c in enumerate(centres) if use[i]]
    return float(np.sqrt(np.mean(np.sum(np.square(moved), axis=-1))))


def _bisect(rising: Callable[[float], float], target: float, high: float) -> float:
    low = 0.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if rising(middle) < target else (low, middle)
    return (low + high) / 2


def _index_transform(motion: Motion, i: int, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """(matrix, offset) from fixed to moving voxel indices, both in axis order (z, y, x)."""
    rotation, translation = motion.pull(i)
    origin = grid.to_indices_xyz(grid.to_points_mm(np.zeros(3)) @ rotation.T + translation)
    steps = grid.to_indices_xyz(grid.to_points_mm(np.eye(3)) @ rotation.T + translation) - origin
    return steps.T[::-1, ::-1], origin[::-1]


def _moved_mask(
    motion: Motion, i: int, found: tuple[slice, ...], labels: np.ndarray, grid: Grid
) -> tuple[tuple[slice, ...], np.ndarray]:
    """Where vertebra i, in the box `found`, comes to lie, and its mask there: float32 in [0, 1], linear."""
    low = np.maximum([s.start - 1 for s in found], 0)
    high = np.minimum([s.stop + 1 for s in found], grid.shape)
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
    corners = np.array([(z, y, x) for z in (low[0], high[0]) for y in (low[1], high[1]) for x in (low[2], high[2])])
    moved = np.linalg.solve(matrix, (corners - offset).T).T
    start = np.clip(np.floor(moved.min(0)).astype(int), 0, shape)
    stop = np.clip(np.ceil(moved.max(0)).astype(int) + 1, start, shape)
    return tuple(slice(a, b) for a, b in zip(start, stop, strict=True))
