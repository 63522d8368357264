"""Small pairs for elastix: texture with a box of bone, on oblique and flipped grids."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter, map_coordinates

from methods.base import Grid, Pair, Scan

SHAPE = (40, 44, 48)
FLIPPED = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, 1.0)


def rotation(axis: int, degrees: float) -> np.ndarray:
    """A 3 x 3 rotation about x, y or z (0, 1, 2)."""
    i, j = [a for a in range(3) if a != axis]
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    matrix = np.eye(3)
    matrix[i, i], matrix[j, j], matrix[i, j], matrix[j, i] = c, c, -s, s
    return matrix


OBLIQUE = Grid(
    (28, 36, 40), (1.1, 1.3, 1.8), (-12.0, 31.0, 5.0), tuple((rotation(0, 20) @ rotation(2, -35)).ravel().tolist())
)


def box_of_bone(shape: tuple[int, int, int], margin: int = 8) -> np.ndarray:
    """Labels (z, y, x) of a box in the middle; along each axis the box is one `margin`-th from either side."""
    labels = np.zeros(shape, np.uint16)
    labels[tuple(slice(n // margin, n - n // margin) for n in shape)] = 21
    return labels


def pair_of(grid: Grid, displacement_mm: np.ndarray, margin: int = 8) -> Pair:
    """Texture with a box of bone in the middle; the fixed image is the moving image pulled back by the displacement."""
    rng = np.random.default_rng(0)
    labels = box_of_bone(grid.shape, margin)
    texture = gaussian_filter(rng.standard_normal(grid.shape), 2.0)
    moving = 0.35 + 0.1 * texture / texture.std() + 0.3 * gaussian_filter((labels > 0).astype(float), 0.7)
    index = np.moveaxis(grid.to_indices_xyz(grid.points_mm() + displacement_mm)[..., ::-1], -1, 0)
    fixed = 1.0 - 0.8 * map_coordinates(moving, index, order=1, mode="nearest")  # another contrast, as MR and CT have
    scans = [np.clip(image, 0, 1).astype(np.float32) for image in (fixed, moving)]
    return Pair("small", Scan(scans[0], None, grid), Scan(scans[1], labels, grid))


def centred(grid: Grid) -> np.ndarray:
    """Voxel positions relative to the middle of the grid, mm (z, y, x, 3)."""
    points = grid.points_mm()
    return points - points.reshape(-1, 3).mean(0)


def bone(pair: Pair) -> np.ndarray:
    """The labelled voxels, bool (z, y, x)."""
    assert pair.moving.labels is not None
    return pair.moving.labels > 0


def orthonormality_error(displacement_mm: np.ndarray, pair: Pair) -> float:
    """Mean Frobenius norm of J'J - I in bone, at least 6 voxels from its rim; the grid is axis-aligned."""
    in_axes = displacement_mm @ pair.grid.matrix
    rows = [np.stack(np.gradient(in_axes[..., c], *pair.grid.spacing_mm[::-1]), -1)[..., ::-1] for c in range(3)]
    jacobian = (np.stack(rows, -2) + np.eye(3))[binary_erosion(bone(pair), iterations=6)]
    return float(np.linalg.norm(jacobian.transpose(0, 2, 1) @ jacobian - np.eye(3), axis=(1, 2)).mean())


def stretched() -> Pair:
    """Bone that is 12 % longer in the fixed image; a rigid registration must not follow this."""
    grid = Grid(SHAPE)
    return pair_of(grid, centred(grid) * (0.0, 0.0, -0.12))


def turned() -> tuple[Pair, np.ndarray]:
    """A rotation of 4 degrees about z and a shift, on an oblique grid: the pair and its true displacement in mm."""
    truth = centred(OBLIQUE) @ (rotation(2, 4) - np.eye(3)).T + (1.5, -1.0, 0.5)
    return pair_of(OBLIQUE, truth), truth


def in_other_tissue() -> tuple[Pair, np.ndarray]:
    """A small bone and, from 10 mm on, tissue that is shifted another way; and the bone's shift in mm.

    Most of the image is such tissue, as muscle and skin around a spine are.
    """
    grid = Grid(SHAPE, (1.5, 1.5, 1.5))
    of_bone, of_tissue = np.array([1.5, -1.0, 1.0]), np.array([-3.0, 3.0, -2.0])
    away_mm = distance_transform_edt(box_of_bone(SHAPE, 3) == 0, grid.spacing_mm)
    return pair_of(grid, np.where(away_mm[..., None] <= 10, of_bone, of_tissue), 3), of_bone
