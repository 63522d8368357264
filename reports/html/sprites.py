"""Slices as the page embeds them: all slices of a plane one below the other, WebP for images, PNG for label maps."""

from __future__ import annotations

import base64
import glob
import io
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from reports.figures.slices import PLANES, Plane, Slices, Warped, read_slices, read_warped
from reports.run_data import Row

# For the images of all methods, base64 included. With scans and labels the page stays below 15 MB.
BUDGET_BYTES = 5_500_000
_QUALITIES = (60, 40, 25, 12, 5)
_SCAN_QUALITY = 45


@dataclass(frozen=True)
class Sprites:
    """A patient's pictures as JSON values for the page."""

    case: str
    content: dict[str, Any]


def encode(run_folder: Path, rows: Sequence[Row], cases: Sequence[str]) -> list[Sprites]:
    """Return every patient's slices with every row's result; rows and patients without pictures are left out.

    The quality of the images of methods is the best at which one patient's images, times the number of patients, fit
    into BUDGET_BYTES.
    """
    known = [case for case in cases if (run_folder / "pictures" / f"{case}.npz").is_file()]
    if not known:
        return []
    quality = _quality(run_folder, rows, known)
    # The encoders release the interpreter's lock; `map` keeps the order of the patients.
    with ThreadPoolExecutor(max_workers=2) as pool:
        return [s for s in pool.map(lambda case: _patient(run_folder, rows, case, quality), known) if s is not None]


def _quality(run_folder: Path, rows: Sequence[Row], cases: Sequence[str]) -> int:
    """The best of _QUALITIES that BUDGET_BYTES allows."""
    # The patient with the most pictures: lost cells have none.
    fullest = max(cases, key=lambda case: len(list((run_folder / "pictures").glob(f"*/{glob.escape(case)}.npz"))))
    results = [w for row in rows if (w := read_warped(run_folder, row, fullest)) is not None]
    for quality in _QUALITIES[:-1]:
        size = sum(len(webp(_stacked(images, plane), quality)) for w in results for plane, images in w.ct.items())
        if size * len(cases) <= BUDGET_BYTES:
            return quality
    return _QUALITIES[-1]


def _patient(run_folder: Path, rows: Sequence[Row], case: str, quality: int) -> Sprites | None:
    slices = read_slices(run_folder, case)
    if slices is None:
        return None
    fixed, moving = _brightest(slices.mr), _brightest(slices.ct)
    content: dict[str, Any] = {plane: _scans(slices, plane, fixed, moving) for plane in PLANES}
    content["rows"] = {}
    for row in rows:
        warped = read_warped(run_folder, row, case)
        if warped is not None:
            content["rows"][row.name] = {plane: _result(warped, plane, quality, moving) for plane in PLANES}
    return Sprites(case, content)


def _brightest(scan: Mapping[Plane, np.ndarray]) -> float:
    """The grey value that is drawn white: the 99.8th percentile of all slices, at least 1.

    A few bright voxels leave the rest of an MR dark, and the compression of a dark picture loses its details.
    """
    return max(1.0, float(np.percentile(np.concatenate([part.ravel() for part in scan.values()]), 99.8)))


def _brightened(image: np.ndarray, brightest: float) -> np.ndarray:
    return np.round(np.minimum(255.0, image * (255.0 / brightest))).astype(np.uint8)


def _scans(slices: Slices, plane: Plane, fixed: float, moving: float) -> dict[str, Any]:
    count, height, width = slices.mr[plane].shape
    x, y, z = slices.spacing_mm
    column_mm, row_mm = (y, z) if plane == "sagittal" else (x, y)
    content: dict[str, Any] = {
        "count": count, "width": width, "height": height, "column_mm": column_mm, "row_mm": row_mm,
        "where": [int(i) for i in slices.where[plane]], "best": slices.fullest(plane),
        "mr": webp(_brightened(_stacked(slices.mr[plane], plane), fixed), _SCAN_QUALITY),
        "ct": webp(_brightened(_stacked(slices.ct[plane], plane), moving), _SCAN_QUALITY),
    }  # fmt: skip
    for key, labels in (("fixed", slices.fixed_labels), ("moving", slices.moving_labels)):
        if plane in labels:
            content[key] = png(_stacked(labels[plane], plane))
    return content


def _result(warped: Warped, plane: Plane, quality: int, brightest: float) -> dict[str, str]:
    content = {}
    if plane in warped.labels:
        content["labels"] = png(_stacked(warped.labels[plane], plane))
    if plane in warped.ct:
        content["ct"] = webp(_brightened(_stacked(warped.ct[plane], plane), brightest), quality)
    return content


def _stacked(slices: np.ndarray, plane: Plane) -> np.ndarray:
    """(slice, row, column) as one picture with all slices upright: the head is above."""
    upright = slices[:, ::-1] if plane == "sagittal" else slices
    return np.ascontiguousarray(upright.reshape(-1, slices.shape[2]))


def webp(image: np.ndarray, quality: int) -> str:
    """Return a uint8 image as a data URI."""
    return _uri(Image.fromarray(image), "webp", quality=quality, method=2)


def png(labels: np.ndarray) -> str:
    """Return a uint8 label map as a lossless data URI: a pixel's grey value is its label."""
    # A palette of greys turns off PNG's row filters: label maps get smaller by a third.
    return _uri(Image.fromarray(labels).convert("P"), "png", compress_level=6)


def _uri(image: Image.Image, kind: str, **options: Any) -> str:
    written = io.BytesIO()
    image.save(written, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(written.getvalue()).decode()}"


def still(file: Path) -> str:
    """Return a figure saved at 300 dpi as a data URI of 150 dpi."""
    with Image.open(file) as drawn:
        return _uri(drawn.convert("RGB").reduce(2), "webp", quality=80, method=2)
