"""The part of a CT that a simulation uses: the region around the labels, and the patient without table and air."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation, binary_erosion, binary_fill_holes
from scipy.ndimage import label as connected_parts

from methods.base import Grid

REGION_MM = 40.0  # around the labels: the grid of a run ends 20 mm from them, and the motion is 14 mm at most
TISSUE_HU = -400.0  # lung and air have less
TABLE_MM = 4.0  # half of the largest thickness of a table's shell, a mattress or a blanket


def crop_to_labels(image: np.ndarray, labels: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, Grid]:
    """Crop an image and its labels to the box of the labels and 40 mm on each side.

    Args:
        image, labels: (z, y, x), with at least one label.
        grid: of both, with any orientation and spacing.

    Returns:
        The cropped arrays and their grid.
    """
    box = []
    for axis, spacing in enumerate(reversed(grid.spacing_mm)):
        index = np.flatnonzero(labels.any(axis=tuple({0, 1, 2} - {axis})))
        margin = int(np.ceil(REGION_MM / spacing))
        box.append(slice(max(0, int(index[0]) - margin), min(labels.shape[axis], int(index[-1]) + margin + 1)))
    region = tuple(box)
    cropped = np.ascontiguousarray(image[region])
    origin = grid.to_points_mm(np.array([s.start for s in reversed(box)]))
    x, y, z = (float(v) for v in origin)
    return (
        cropped,
        np.ascontiguousarray(labels[region]),
        Grid(cropped.shape, grid.spacing_mm, (x, y, z), grid.direction),
    )


def outside_patient(smooth_hu: np.ndarray, labels: np.ndarray, spacing_mm: float) -> np.ndarray:
    """Find the voxels outside the patient: air, the CT's table, blankets and wires.

    The patient is the connected tissue with the labels after thin layers are removed; holes in axial slices (lung,
    bowel gas) belong to the patient.

    Args:
        smooth_hu: smoothed HU, (z, y, x).
        labels: (z, y, x), with at least one label.
        spacing_mm: of the isotropic grid.

    Returns:
        bool (z, y, x).
    """
    tissue = (smooth_hu > TISSUE_HU) | (labels > 0)
    steps = max(1, round(TABLE_MM / spacing_mm))
    parts, _ = connected_parts(binary_erosion(tissue, iterations=steps, border_value=1))
    counts = np.bincount(parts[labels > 0], minlength=1)
    counts[0] = 0
    if not counts.any():
        return ~tissue
    patient = binary_dilation(parts == counts.argmax(), iterations=steps + 1) & tissue
    patient |= labels > 0
    return ~np.stack([binary_fill_holes(axial) for axial in patient])
