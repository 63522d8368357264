"""The `register` command: one pair of files through one method."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.console import Console

from benchmark.cli.requests import load_plugins
from benchmark.datasets import preprocessing
from benchmark.datasets.io import images
from benchmark.datasets.resampling import crop_grid, isotropic_grid, resample_image, resample_labels
from benchmark.errors import BadInput, check_writable
from benchmark.evaluation import label_tensor
from benchmark.execution.resources import usable_cores
from benchmark.execution.worker import CellError, Worker, WorkerSpec
from methods.base import Pair, Registration, Scan, vertebra_ids
from methods.geometry import to_voxels
from methods.registry import create_method
from metrics import fields, label_warping

TIME_LIMIT_S = 6 * 3600
AIR_HU = preprocessing.CT_WINDOW_HU[0]
FAT_HU = -50  # fat has about -100 HU and surrounds every spine, so that a CT has values below this


@dataclass(frozen=True)
class PairFiles:
    """Files of one pair. moving_labels: vertebra labels (VerSe ids) on the grid of `moving`."""

    fixed: Path
    moving: Path
    moving_labels: Path


def register(method: str, files: PairFiles, out: Path, device: str, plugins: Sequence[Path], console: Console) -> None:
    """Register a CT to an MR that it already overlaps, and write the result into `out`.

    Both scans are resampled to 1 mm around the labels. Nothing is pre-aligned. On that grid are written:
    displacement.nii.gz (ITK displacement field, mm, LPS), warped_ct.nii.gz (HU) and warped_labels.nii.gz.

    Raises:
        BadInput: for a method or a file that cannot be used, or where the method gives no result.
    """
    load_plugins(plugins)
    try:
        create_method(method)
    except (ValueError, TypeError) as error:
        raise BadInput(f"--method {method}: {' '.join(str(error).split())}") from error
    check_writable(out)
    pair, ct_hu = _read_pair(files, console)
    registration = _run_method(method, pair, device, plugins)
    if "warning" in registration.notes:
        console.print(f"{method}: {registration.notes['warning']}", style="yellow", markup=False, soft_wrap=True)
    for file in _write_result(out, pair, ct_hu, registration):
        console.print(f"wrote {file}", markup=False, soft_wrap=True)


def _read_pair(files: PairFiles, console: Console) -> tuple[Pair, np.ndarray]:
    """The pair on its 1 mm grid, and the CT in HU on that grid."""
    mr, mr_grid = images.read_image(files.fixed)
    hu, ct_grid = images.read_image(files.moving)
    ids, ids_grid = images.read_labels(files.moving_labels)
    images.check_same_grid(files.moving_labels, ids_grid, files.moving, ct_grid)
    if hu.min() >= FAT_HU:
        console.print(
            f"{files.moving}: expected a CT in HU, found no value below {hu.min():g}; is it the MR, or in other units?",
            style="yellow", markup=False, soft_wrap=True,
        )  # fmt: skip
    box = preprocessing.label_ends_mm(ids, ct_grid)
    grid = crop_grid(isotropic_grid(mr_grid), box)
    mr_on_grid, mr_inside = preprocessing.resample_mr(mr, mr_grid, grid)
    if not mr_on_grid.any():
        raise BadInput(
            f"{files.fixed}: expected an MR that covers the labels of {files.moving_labels}, found no overlap; "
            "align them first"
        )
    ct_hu = resample_image(hu, ct_grid, grid, outside=AIR_HU)  # written in HU; what the CT did not see is air there
    ct_on_grid, ct_inside = preprocessing.resample_ct(hu, ct_grid, grid)
    fixed = Scan(mr_on_grid, None, grid, mr_inside, "mr")
    moving = Scan(ct_on_grid, resample_labels(ids, ct_grid, grid), grid, ct_inside, "ct")
    return Pair("pair", fixed, moving), ct_hu


def _run_method(method: str, pair: Pair, device: str, plugins: Sequence[Path]) -> Registration:
    """The method's result, from a process of its own as in a run."""
    worker = None
    try:
        spec = WorkerSpec(method, {}, device, usable_cores(), 0, 1, tuple(map(str, plugins)))
        worker = Worker(spec, TIME_LIMIT_S)
        registration, _ = worker.register(pair)
    except CellError as error:
        raise BadInput(f"{method} gave no result ({error.status}): {error}") from error
    finally:
        if worker is not None:
            worker.close()
    return registration


def _write_result(out: Path, pair: Pair, ct_hu: np.ndarray, registration: Registration) -> list[Path]:
    """Write displacement, warped CT and warped labels; returns the files."""
    grid = pair.grid
    labels = pair.moving.labels
    assert labels is not None
    displacement = to_voxels(registration.displacement_mm, grid)
    warped_ct = fields.warp(torch.from_numpy(ct_hu - AIR_HU)[None, None], displacement)[0, 0].numpy() + AIR_HU
    warped_labels = label_warping.warp_labels(label_tensor(labels), displacement, list(vertebra_ids(labels)))
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{name}.nii.gz" for name in ("displacement", "warped_ct", "warped_labels")]
    images.write_displacement(files[0], registration.displacement_mm, grid)
    images.write_image(files[1], warped_ct, grid)
    images.write_labels(files[2], warped_labels.numpy().astype(np.uint16), grid)
    return files
