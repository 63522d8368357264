"""Label files as segmentation programs write them: one label map, or a folder with one mask for each structure.

TotalSegmentator writes a folder by default: `vertebrae_L1.nii.gz`, `liver.nii.gz` and so on, each 0 and 1, and all 0
where the scan does not show the structure. Such a folder is read as one label map of its vertebrae.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from benchmark.datasets.io.images import check_same_grid, read_grid, read_labels
from benchmark.datasets.io.label_maps import translate
from benchmark.errors import BadInput
from methods.base import Grid
from methods.vertebrae import VERTEBRAE, vertebra_name

ENDINGS = (".nii.gz", ".nii", ".mha", ".mhd", ".nrrd")
STRUCTURE = re.compile(r"vertebrae?_(?P<name>[a-z]\d+)")
IDS = {vertebra_name(v).lower(): v for v in VERTEBRAE}
EXAMPLE = "vertebrae_L1.nii.gz"


def read_label_file(path: Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """Read a label map, or a folder of masks whose names say the vertebra.

    Args:
        path: the file or folder.

    Returns:
        Labels, uint16 (z, y, x), with the ids of the file, or VerSe ids of a folder; their grid; doubts, one sentence
        each.

    Raises:
        BadInput: if a file cannot be used, if a folder has no mask of a vertebra, or if a file is the mask of one
            structure of several.
    """
    if holds_structures(path):
        return _read_structures(path)
    labels, grid = read_labels(path)
    vertebra = _vertebra(path)
    if vertebra is not None and labels.max() == 1:
        raise BadInput(
            f"{path}: expected the labels of all vertebrae, found the mask of {vertebra_name(vertebra)} alone; give "
            f"the folder that holds one mask for each structure, {path.parent}"
        )
    return labels, grid, ()


def in_verse_ids(path: Path, labels: np.ndarray, label_map: str | None) -> np.ndarray:
    """Translate the labels of `read_label_file` to VerSe ids; label_map: the scheme of a file, None for VerSe ids.

    Raises:
        BadInput: if the map names none of the labels.
    """
    return labels if label_map is None or holds_structures(path) else translate(path, labels, label_map)


def read_label_grid(path: Path) -> Grid | None:
    """Read the grid of `read_label_file` from headers alone; None as `read_grid`, or where a folder has no mask."""
    if not holds_structures(path):
        return read_grid(path)
    masks = structure_files(path)
    return read_grid(next(iter(masks.values()))) if masks else None


def holds_structures(path: Path) -> bool:
    """Whether a path is a folder of image files, one for each structure, and not of DICOM slices."""
    return path.is_dir() and any(_stem(f) is not None for f in path.iterdir() if not f.name.startswith("."))


def structure_files(folder: Path) -> dict[int, Path]:
    """List the masks of vertebrae in a folder: VerSe id -> file, ascending.

    Raises:
        BadInput: if two files are of one vertebra.
    """
    found: dict[int, Path] = {}
    for file in sorted(f for f in folder.iterdir() if not f.name.startswith(".")):
        vertebra = _vertebra(file)
        if vertebra is None:
            continue
        if vertebra in found:
            raise BadInput(
                f"{folder}: expected one mask of {vertebra_name(vertebra)}, found {found[vertebra].name} and "
                f"{file.name}; keep one of them there"
            )
        found[vertebra] = file
    return dict(sorted(found.items()))


def _read_structures(folder: Path) -> tuple[np.ndarray, Grid, tuple[str, ...]]:
    """The masks of a folder as one label map. Where masks overlap, the upper vertebra is kept."""
    files = structure_files(folder)
    if not files:
        names = ", ".join(sorted(f.name for f in folder.iterdir() if _stem(f) is not None)[:3])
        raise BadInput(f"{folder}: expected masks of vertebrae such as {EXAMPLE}, found {names}; give a label map")
    first = next(iter(files.values()))
    labels, grid, overlapping = None, None, 0
    for vertebra, file in files.items():
        mask, mask_grid = _read_mask(file)
        if labels is None or grid is None:
            labels, grid = np.zeros(mask.shape, np.uint16), mask_grid
        check_same_grid(file, mask_grid, first, grid)
        overlapping += int(np.count_nonzero(mask & (labels > 0)))
        labels[mask & (labels == 0)] = vertebra
    if labels is None or grid is None or not labels.any():
        raise BadInput(f"{folder}: expected a mask of a vertebra, found empty ones; give the labels of this scan")
    doubt = f"{folder}: {overlapping} voxels are in the masks of two vertebrae; the upper one keeps them"
    return labels, grid, (doubt,) if overlapping else ()


def _read_mask(path: Path) -> tuple[np.ndarray, Grid]:
    """The voxels of a mask, bool (z, y, x), and its grid; the mask may be empty."""
    values, grid = read_labels(path, may_be_empty=True)
    if not np.isin(values, (0, values.max())).all():
        raise BadInput(f"{path}: expected a mask of 0 and 1, found other values; give one mask for each structure")
    return values > 0, grid


def _stem(file: Path) -> str | None:
    """The name of an image file without its ending, in lower case; None for another file."""
    name = file.name.lower()
    ending = next((e for e in ENDINGS if name.endswith(e)), None)
    return None if ending is None else name.removesuffix(ending)


def _vertebra(file: Path) -> int | None:
    """The vertebra that a file's name says, or None."""
    match = STRUCTURE.fullmatch(_stem(file) or "")
    return IDS.get(match["name"]) if match else None
