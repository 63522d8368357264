"""One pair of files through one method: the `register` command."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from benchmark.datasets import preprocessing
from benchmark.datasets.io import images
from benchmark.errors import BadInput, check_writable
from benchmark.evaluation import label_tensor
from benchmark.execution.resources import usable_cores
from benchmark.execution.worker import CellError, Worker, WorkerSpec
from methods.base import Pair, Scan, vertebra_ids
from methods.geometry import to_voxels
from metrics import fields, label_warping

TIME_LIMIT_S = 6 * 3600


def register_files(
    method: str, fixed: Path, moving: Path, moving_labels: Path, out: Path, device: str, plugins: Sequence[str]
) -> tuple[list[Path], list[str]]:
    """Register a CT to an MR that it already lies roughly on, and write what comes of it into `out`.

    Both scans are brought to 1 mm on the labels' surroundings; nothing is pre-aligned. Returns the files written:
    displacement.nii.gz (ITK's, mm, LPS), warped_ct.nii.gz (HU) and warped_labels.nii.gz, all on that grid; and what
    looks wrong about the input.
    Raises BadInput for files that cannot be used, or where the method gives no result.
    """
    check_writable(out)
    mr, mr_grid = images.read_image(fixed)
    hu, ct_grid = images.read_image(moving)
    ids, ids_grid = images.read_labels(moving_labels)
    images.check_same_grid(moving_labels, ids_grid, moving, ct_grid)
    box = preprocessing.label_ends_mm(ids, ct_grid)
    grid = preprocessing.crop_grid(preprocessing.isotropic_grid(mr_grid), box)
    mr_on_grid = preprocessing.resample_image(preprocessing.scale_mr(mr), mr_grid, grid)
    if not mr_on_grid.any():
        raise BadInput(
            f"{fixed}: expected an MR that covers the labels of {moving_labels}, found no overlap; align them first"
        )
    ct_on_grid = preprocessing.resample_image(hu, ct_grid, grid, outside=preprocessing.CT_WINDOW_HU[0])
    labels = preprocessing.resample_labels(ids, ct_grid, grid)
    pair = Pair("pair", Scan(mr_on_grid, None, grid), Scan(preprocessing.scale_ct(ct_on_grid), labels, grid))

    worker = None
    try:
        worker = Worker(WorkerSpec(method, {}, device, usable_cores(), 0, 1, tuple(plugins)), TIME_LIMIT_S)
        registration, _ = worker.register(pair)
    except CellError as error:
        raise BadInput(f"{method} gave no result ({error.status}): {error}") from error
    finally:
        if worker is not None:
            worker.close()

    displacement = to_voxels(registration.displacement_mm, grid)
    air = preprocessing.CT_WINDOW_HU[0]
    warped_ct = fields.warp(torch.from_numpy(ct_on_grid - air)[None, None], displacement)[0, 0].numpy() + air
    warped = label_warping.warp_labels(label_tensor(labels), displacement, list(vertebra_ids(labels)))
    out.mkdir(parents=True, exist_ok=True)
    written = [out / f"{name}.nii.gz" for name in ("displacement", "warped_ct", "warped_labels")]
    images.write_displacement(written[0], registration.displacement_mm, grid)
    images.write_image(written[1], warped_ct, grid)
    images.write_labels(written[2], warped.numpy().astype(np.uint16), grid)
    return written, _doubts(moving, hu)


def _doubts(moving: Path, hu: np.ndarray) -> list[str]:
    """Fat has -100 HU, and there is fat around every spine."""
    if hu.min() < -50:
        return []
    return [f"{moving}: expected a CT in HU, found no value below {hu.min():g}; is it the MR, or in other units?"]
