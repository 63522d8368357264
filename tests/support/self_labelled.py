"""A scan that is made from its own labels, on a grid off every other: an image and labels that lie apart show it."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import distance_transform_edt
from scipy.spatial.transform import Rotation
from support.analytic_patient import ct_labels_at, grid_about

from benchmark.datasets.preprocessing import centroids_mm
from methods.base import Grid

NEAR_MM = 3.0  # an interpolated image of a label is 0 beyond


def oblique_grid(
    spacing: tuple[float, float, float] = (0.83, 0.83, 1.9),
    angles: tuple[float, float, float] = (9, -7, 11),
    centre: tuple[float, float, float] = (0.37, 4.41, -0.29),
) -> Grid:
    """An oblique grid around the five vertebrae of `analytic_patient`, LPS."""
    direction = Rotation.from_euler("xyz", angles, degrees=True).as_matrix()
    return grid_about(np.array(centre), direction, spacing, (90.0, 100.0, 190.0))


def self_labelled_ct(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """HU, 1000 in each label and about 0 elsewhere, float32 (z, y, x), and the labels, uint16."""
    labels = ct_labels_at(grid.points_mm())
    noise = np.random.default_rng(0).normal(0, 2, grid.shape)
    return (1000.0 * (labels > 0) + noise).astype(np.float32), labels


def apart_mm(image: np.ndarray, labels: np.ndarray, grid: Grid) -> float:
    """The greatest distance between the centroid of a label and that of the bright image around it, mm."""
    soft, bone = np.median(image[labels == 0]), np.median(image[labels > 0])
    weight = np.clip((image - soft) / (bone - soft) - 0.02, 0, None)
    margin = np.ceil(NEAR_MM / np.array(grid.spacing_mm[::-1])).astype(int) + 1
    result = []
    for vertebra, centroid in centroids_mm(labels, grid).items():
        found = np.argwhere(labels == vertebra)
        low = np.maximum(found.min(axis=0) - margin, 0)
        box = tuple(slice(a, b) for a, b in zip(low, found.max(axis=0) + margin + 1, strict=True))
        near = distance_transform_edt(labels[box] != vertebra, grid.spacing_mm[::-1]) <= NEAR_MM
        points = grid.to_points_mm((np.argwhere(near) + low)[:, ::-1])
        of_image = np.average(points, axis=0, weights=weight[box][near])
        result.append(float(np.linalg.norm(of_image - centroid)))
    return max(result)
