"""Pairs with two bones that move independently by known rigid transforms."""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates
from scipy.spatial.transform import Rotation

from methods.base import Grid, Pair, Registration, Scan
from methods.bones.fusion import BoneDistance
from methods.geometry import spacing_zyx, to_voxels
from methods.registry import create_method
from metrics.fields import jacobian, jacobian_determinant

PLAIN = Grid((64, 52, 48), (1.0, 1.0, 1.0), (10.0, -20.0, 5.0))
_DIRECTION = Rotation.from_euler("xz", [20, -35], degrees=True).as_matrix()
OBLIQUE = Grid((40, 44, 52), (1.0, 1.2, 1.7), (-12.0, 31.0, 5.0), tuple(_DIRECTION.ravel().tolist()))
ROWS = ("polyrigid", "edt-interpolation")
# For each bone: rotation in degrees about its centre and shift in mm, fixed -> moving, along the grid's axes x, y, z.
MOTION = {20: ((6.0, 0.0, -3.0), (3.0, -2.0, 2.0)), 21: ((-4.0, 2.0, 0.0), (-2.0, 3.0, 1.0))}


def spine(grid: Grid) -> np.ndarray:
    """Two bones of a body and an arch, 20 above 21, each about 20 x 24 x 16 mm."""
    centre = grid.to_points_mm((np.array(grid.shape[::-1]) - 1) / 2)
    x, y, z = np.moveaxis((grid.points_mm() - centre) @ grid.matrix, -1, 0)
    labels = np.zeros(grid.shape, np.uint16)
    for label, height in ((20, 13.0), (21, -13.0)):
        flat = np.abs(z - height)
        body = (np.abs(x) < 10) & (y > -12) & (y < 4) & (flat < 8)
        arch = (np.abs(x) < 3.5) & (y >= 4) & (y < 13) & (flat < 5)
        labels[body | arch] = label
    return labels


def true_transform(label: int, labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The true transform of a bone, fixed -> moving, 4 x 4, LPS millimetres."""
    turn_deg, shift_mm = MOTION[label]
    rotation = grid.matrix @ Rotation.from_rotvec(turn_deg, degrees=True).as_matrix() @ grid.matrix.T
    centre = grid.points_mm()[labels == label].mean(axis=0)
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = centre - rotation @ centre + grid.matrix @ np.array(shift_mm)
    return result


def apply(transform: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Points (..., 3) mapped by a 4 x 4 transform."""
    return points @ transform[:3, :3].T + transform[:3, 3]


def moved_pair(grid: Grid, keep: tuple[int, ...] = (20, 21)) -> Pair:
    """Texture with bones, and the same in another contrast with each bone and the tissue nearest to it moved."""
    labels = spine(grid)
    labels[~np.isin(labels, keep)] = 0
    rng = np.random.default_rng(0)
    texture = gaussian_filter(rng.standard_normal(grid.shape), [1.5 / s for s in spacing_zyx(grid)])
    moving = 0.3 + 0.08 * texture / texture.std() + 0.35 * gaussian_filter((labels > 0).astype(float), 0.6)
    points = grid.points_mm()
    ends = np.stack([apply(true_transform(v, labels, grid), points) for v in keep])
    distances = [
        BoneDistance(labels, v, grid)(torch.from_numpy(index_of(e, grid)).float())
        for v, e in zip(keep, ends, strict=True)
    ]
    nearest = torch.stack(distances).argmin(dim=0).numpy()
    targets = np.take_along_axis(ends, nearest[None, ..., None], axis=0)[0]
    fixed = 1 - 0.8 * map_coordinates(moving, index_of(targets, grid), order=1, mode="nearest")
    scans = [np.clip(image, 0, 1).astype(np.float32) for image in (fixed, moving)]
    return Pair("small", Scan(scans[0], None, grid), Scan(scans[1], labels, grid))


def index_of(points_mm: np.ndarray, grid: Grid) -> np.ndarray:
    """LPS points (z, y, x, 3) as voxel indices (3, z, y, x), order z, y, x."""
    return np.ascontiguousarray(np.moveaxis(grid.to_indices_xyz(points_mm)[..., ::-1], -1, 0))


def fixed_position(label: int, pair: Pair, transform: np.ndarray, erosions: int = 0) -> np.ndarray:
    """The voxels of a bone, eroded, on the fixed grid: bool (z, y, x). transform: fixed -> moving."""
    bone = pair.moving.labels == label
    if erosions:
        bone = binary_erosion(bone, iterations=erosions)
    points = torch.from_numpy(index_of(apply(transform, pair.grid.points_mm()), pair.grid)).float()
    return (BoneDistance(bone, 1, pair.grid)(points) == 0).numpy()


def rotation_deg(transform: np.ndarray) -> float:
    """The rotation angle of a 4 x 4 rigid transform."""
    return float(np.degrees(Rotation.from_matrix(transform[:3, :3]).magnitude()))


def register(row: str, pair: Pair, **settings: float) -> Registration:
    """The checked registration of a pair by a row."""
    method = create_method(row, settings)
    method.prepare("cpu", 1, 0)
    registration = method.register(pair)
    registration.check(pair.grid)
    return registration


def lowest_jacobian(registration: Registration, grid: Grid) -> float:
    """The least Jacobian determinant of a displacement."""
    displacement = to_voxels(registration.displacement_mm, grid)
    return float(jacobian_determinant(jacobian(displacement, spacing_zyx(grid))).min())
