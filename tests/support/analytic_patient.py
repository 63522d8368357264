"""A patient given by functions of position: it can be stored on any grid, and the true displacement is exact."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from benchmark.datasets.preprocessing import Patient, preprocess
from benchmark.datasets.resampling import Rigid
from methods.base import Case, Grid
from methods.geometry import from_sitk, to_sitk

# Five centroids, curved like a lumbar spine.
VERTEBRAE = {20 + i: np.array([0.0, 6.0 * np.cos(i - 2), 30.0 * (2 - i)]) for i in range(5)}
MOTION = Rigid(Rotation.from_euler("xyz", [6, -5, 2], degrees=True).as_matrix(), np.array([11.0, -7.0, 23.0]))


def ct_labels_at(q: np.ndarray) -> np.ndarray:
    """Five ellipsoids, each with a process behind it, so that they have no symmetry."""
    labels = np.zeros(q.shape[:-1], np.uint16)
    for vertebra, centre in VERTEBRAE.items():
        d = q - centre
        body = ((d / (19.0, 14.0, 11.0)) ** 2).sum(-1) < 1
        process = (((d - (4.0, 20.0, -3.0)) / (4.0, 10.0, 5.0)) ** 2).sum(-1) < 1
        labels[body | process] = vertebra
    return labels


def ct_at(q: np.ndarray) -> np.ndarray:
    """HU at CT points."""
    waves = np.sin(q @ (0.11, 0.03, 0.02)) + np.sin(q @ (-0.02, 0.09, 0.05)) + np.sin(q @ (0.03, -0.04, 0.12))
    return (150.0 * waves + 100.0).astype(np.float32)


def mr_to_ct(p: np.ndarray) -> np.ndarray:
    """MR point -> CT point: a rigid motion and a smooth deformation of about 3 mm."""
    bend = np.stack([1.5 * np.sin(p[..., 2] / 30), 3.0 * np.cos(p[..., 2] / 40), 1.5 * np.sin(p[..., 1] / 25)], -1)
    return MOTION(p + bend)


def grid_about(centre: np.ndarray, direction: np.ndarray, spacing: tuple[float, float, float], size_mm: tuple) -> Grid:
    """The grid about a point. centre: LPS mm. size_mm: x, y, z."""
    shape = tuple(round(n / s) for n, s in zip(size_mm, spacing, strict=True))
    offset = (np.array(shape) - 1) / 2 * spacing
    return Grid(shape[::-1], spacing, tuple(centre - direction @ offset), tuple(direction.ravel()))


def stored_patient(
    direction: np.ndarray, spacing: tuple[float, float, float] = (1.0, 1.0, 1.0), size: tuple = (64.0, 80.0, 168.0)
) -> Patient:
    """The patient with both scans on grids of the given direction, spacing and size in mm around the spine."""
    in_mr = MOTION.inverse()(np.zeros(3))
    ct_grid = grid_about(np.zeros(3), direction, spacing, tuple(np.abs(direction.T @ size).round()))
    mr_grid = grid_about(np.round(in_mr) + 0.5, direction, spacing, tuple(np.abs(direction.T @ size).round()))
    q, p = ct_grid.points_mm(), mr_grid.points_mm()
    u = mr_to_ct(p) - p
    mr = 900.0 - ct_at(p + u)
    return Patient(
        "p1", ct_at(q), ct_labels_at(q), ct_grid, mr, ct_labels_at(p + u), mr_grid, None, u.astype(np.float32)
    )


@cache
def lps_patient() -> Patient:
    """The patient on 1 mm LPS grids."""
    return stored_patient(np.eye(3))


@cache
def lps_case() -> Case:
    """The case of `lps_patient`."""
    return preprocess(lps_patient())


def restored(patient: Patient, change: Callable[[sitk.Image], sitk.Image]) -> Patient:
    """The same patient with every array changed by a function of SimpleITK."""

    def changed(array: np.ndarray | None, grid: Grid) -> tuple:
        assert array is not None
        return from_sitk(change(to_sitk(array, grid)))

    ct, ct_grid = changed(patient.ct, patient.ct_grid)
    mr, mr_grid = changed(patient.mr, patient.mr_grid)
    labels = [changed(a, g)[0] for a, g in ((patient.ct_labels, patient.ct_grid), (patient.mr_labels, patient.mr_grid))]
    u = changed(patient.displacement_mm, patient.mr_grid)[0]
    return Patient(patient.name, ct, labels[0], ct_grid, mr, labels[1], mr_grid, patient.mr_centroids, u)
