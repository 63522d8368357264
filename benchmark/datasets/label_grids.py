"""Vertebra labels on the grid of their image: read as they are, reordered, resampled by position, or refused.

Labels on the same voxels in another order or direction of the axes, as dcm2niix stores a DICOM series, are reordered.
A DICOM series that is resampled onto a right-angled grid (gantry tilt) has labels on the grid of the program that
converted it, so that these are resampled by position. Labels on any other grid are refused, as those of another scan.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmark.datasets.io.dicom import is_resampled
from benchmark.datasets.io.images import check_same_grid
from benchmark.datasets.io.label_files import read_label_file
from benchmark.datasets.io.vertebra_labels import Notes, interpret_labels
from benchmark.datasets.label_resampling import resample_labels
from benchmark.errors import BadInput
from methods.base import Grid
from methods.field_files import onto_grid

INSIDE = 0.99  # part of the labelled volume that has to lie in the image


def read_vertebrae(
    path: Path, image: Path, image_grid: Grid, label_map: str | None = None, any_structure: bool = False,
    scan: np.ndarray | None = None,
) -> tuple[np.ndarray, Notes]:  # fmt: skip
    """Read the vertebra labels of an image.

    Args:
        path: of the label map, or of a folder with one mask for each structure.
        image, image_grid: the image that is labelled, and its grid.
        label_map: name of the scheme of the ids, or None for VerSe's.
        any_structure: the labels need not be vertebrae: what contradicts anatomy is a note, not an error.
        scan: the voxels of the image, (z, y, x), so that padding is not taken for a part of the scan; or None.

    Returns:
        VerSe ids, uint16 (z, y, x), and what is doubtful about them, one sentence each.

    Raises:
        BadInput: if the file cannot be used, or if ids are no vertebrae or contradict the anatomy.
    """
    stored, grid, doubts = read_label_file(path)
    stored, resampled = labels_on_image(path, stored, grid, image, image_grid)
    labels, notes = interpret_labels(path, stored, image_grid, label_map, any_structure, scan)
    return labels, (*doubts, *resampled, *notes)


def labels_on_image(
    path: Path, labels: np.ndarray, grid: Grid, image: Path, image_grid: Grid
) -> tuple[np.ndarray, Notes]:
    """Bring a label map onto the grid of its image.

    Args:
        path: of the labels.
        labels, grid: integers (z, y, x), and where they lie.
        image, image_grid: the file or folder of the image, and its grid.

    Returns:
        The labels on `image_grid`, and a note if they had to be resampled.

    Raises:
        BadInput: if the labels lie on other voxels than the image, unless the image is a resampled DICOM series that
            holds them.
    """
    try:
        check_same_grid(path, grid, image, image_grid)
        return labels, ()
    except BadInput as error:
        reordered = _reordered(labels, grid, image_grid)
        if reordered is not None:
            return reordered, ()
        if not (image.is_dir() and is_resampled(image)):
            raise error from None
    result = resample_labels(labels, grid, image_grid)
    volume, kept = (np.count_nonzero(a) * np.prod(g.spacing_mm) for a, g in ((labels, grid), (result, image_grid)))
    if kept < INSIDE * volume:
        raise BadInput(
            f"{path}: expected labels inside {image}, found {100 * (1 - kept / volume):.0f} % of their volume outside; "
            "give the labels of this series"
        )
    return result, (f"{path}: labels lie on another grid than the resampled series {image}; resampled by position",)


def check_label_grid(path: Path, grid: Grid, image: Path, image_grid: Grid) -> None:
    """Refuse a label map by its header, as far as `labels_on_image` would for its grid alone."""
    labels_on_image(path, np.broadcast_to(np.uint8(0), grid.shape), grid, image, image_grid)


def _reordered(labels: np.ndarray, grid: Grid, image_grid: Grid) -> np.ndarray | None:
    """The labels with their axes in the order and direction of the image; None if they lie on other voxels."""
    if sorted(grid.shape) != sorted(image_grid.shape):
        return None
    try:
        values, _ = onto_grid(labels.transpose(2, 1, 0), grid, image_grid)
    except ValueError:
        return None
    return np.ascontiguousarray(values.transpose(2, 1, 0))
