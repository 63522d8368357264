"""Slices of images and labels for the reports, saved while the volumes are in memory, as arrays without pickles.

Where a scan saw nothing, its slices are hatched.

pictures/<case>.npz            sagittal and axial slices: ct, mr, moving_labels, fixed_labels, and their positions
pictures/<row>/<case>.npz      warped CT and labels on the same slices; for the display case also the field
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmark.results.store import Store
from methods.base import Case, Registration
from methods.geometry import to_voxels
from metrics import fields
from metrics.boxes import Box, bounding_box

SAGITTAL, AXIAL = 12, 6
MARGIN_MM = 15
FIELD_UNIT_MM = 0.01
STRIPE_PERIOD, STRIPE = 8, 70  # of the hatching where a scan saw nothing: voxels, and grey value


def of_case(case: Case) -> dict[str, Any]:
    """Slices of a pair.

    Returns:
        Arrays by name: `ct`, `mr`, `moving_labels` and `fixed_labels`, each as NAME_sagittal (slices, z, y) and
        NAME_axial (slices, y, x), uint8; `x` and `z`, the slices' indices in the box; `box`, start and stop along
        z, y, x; `spacing_mm` along x, y, z.
    """
    pair = case.pair
    box = _box(case)
    scans = {"ct": pair.moving, "mr": pair.fixed}
    arrays = {name: _hatched(_to_uint8(scan.image), scan.inside)[box] for name, scan in scans.items()}
    for key, labels in (("moving_labels", pair.moving.labels), ("fixed_labels", pair.fixed.labels)):
        if labels is not None:
            arrays[key] = labels[box].astype(np.uint8)
    x, z = _slices(box)
    content: dict[str, Any] = {f"{k}_{plane}": v for k, a in arrays.items() for plane, v in _cut(a, x, z).items()}
    return content | {"x": x, "z": z, "box": np.array([[s.start, s.stop] for s in box]),
                      "spacing_mm": pair.grid.spacing_mm}  # fmt: skip


def of_cell(case: Case, warped: np.ndarray, registration: Registration, with_field: bool) -> dict[str, Any]:
    """Slices of a result, at the positions of `of_case`.

    Args:
        warped: warped labels, (z, y, x).
        with_field: whether the field in the box is included.

    Returns:
        Arrays by name: `warped_ct` and `warped_labels` as in `of_case`; `field` (z, y, x, 3), int16 in 0.01 mm,
        components along the grid's axes.
    """
    box = _box(case)
    moving, displacement = case.pair.moving, to_voxels(registration.displacement_mm, case.pair.grid)
    image, inside = _warped(moving.image, displacement), None
    if moving.inside is not None:
        inside = _warped(moving.inside.astype(np.float32), displacement) > 0.5
    arrays = {"warped_ct": _hatched(_to_uint8(image), inside)[box], "warped_labels": warped[box].astype(np.uint8)}
    slices = _slices(box)
    content: dict[str, Any] = {f"{k}_{plane}": v for k, a in arrays.items() for plane, v in _cut(a, *slices).items()}
    if with_field:
        # Components along the grid's axes, since arrows and |J| are drawn on its slices.
        field = np.round(registration.displacement_mm[box] @ case.pair.grid.matrix / FIELD_UNIT_MM)
        content["field"] = field.clip(-32767, 32767).astype(np.int16)
    return content


def save(store: Store, parts: Sequence[str], content: Mapping[str, Any]) -> None:
    """Write arrays into pictures/<parts>.npz.

    Raises:
        Stopped: where the file cannot be written.
    """

    def write(temporary: Path) -> None:
        with temporary.open("wb") as opened:
            np.savez_compressed(opened, **content)

    store.write_file(["pictures", *parts[:-1], f"{parts[-1]}.npz"], write)


def _box(case: Case) -> Box:
    """The bounding box of the moving labels with a margin: the same for every method."""
    labels, grid = case.pair.moving.labels, case.pair.grid
    occupied = None if labels is None else bounding_box(torch.from_numpy(labels != 0))
    if occupied is None:
        occupied = slice(0, grid.shape[0]), slice(0, grid.shape[1]), slice(0, grid.shape[2])
    margins = [int(np.ceil(MARGIN_MM / s)) for s in reversed(grid.spacing_mm)]
    sides = zip(occupied, margins, grid.shape, strict=True)
    z, y, x = (slice(max(0, s.start - margin), min(n, s.stop + margin)) for s, margin, n in sides)
    return z, y, x


def _slices(box: Box) -> tuple[np.ndarray, np.ndarray]:
    """Indices of the sagittal slices (x) and the axial slices (z) in the box, evenly spaced."""
    z, _, x = box
    sagittal = np.linspace(0.2, 0.8, SAGITTAL) * (x.stop - x.start - 1)
    axial = np.linspace(0.15, 0.85, AXIAL) * (z.stop - z.start - 1)
    return np.unique(sagittal.round().astype(int)), np.unique(axial.round().astype(int))


def _cut(volume: np.ndarray, x: np.ndarray, z: np.ndarray) -> dict[str, np.ndarray]:
    return {"sagittal": volume[:, :, x].transpose(2, 0, 1), "axial": volume[z]}


def _warped(image: np.ndarray, displacement: torch.Tensor) -> np.ndarray:
    return fields.warp(torch.from_numpy(image)[None, None], displacement)[0, 0].numpy()


def _hatched(image: np.ndarray, inside: np.ndarray | None) -> np.ndarray:
    """A uint8 image with diagonal stripes where the scan saw nothing, so that filled values are not read as tissue."""
    if inside is None:
        return image
    z, y, x = np.ogrid[tuple(slice(n) for n in image.shape)]
    stripes = np.where((z + y + x) % STRIPE_PERIOD < 2, STRIPE, 0).astype(np.uint8)
    return np.where(inside, image, stripes)


def _to_uint8(image: np.ndarray) -> np.ndarray:
    return np.round(255 * np.clip(image, 0, 1)).astype(np.uint8)
