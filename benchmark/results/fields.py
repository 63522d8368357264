"""The displacement of a result in the formats of other programs.

fields/<row>/<case>.nii.gz                   ITK displacement field, mm, LPS
fields/<row>/<case>.h5                       the same as an ITK transform, for SimpleITK, 3D Slicer and elastix
fields/<row>/<case>_vertebra_20.tfm, ...     the rigid transforms that a method reports, `_rigid.tfm` of the whole image
fields/<row>/learn2reg/disp_FIXED_MOVING.nii.gz   Learn2Reg's field, of cases of the dataset `learn2reg`

All lead from points of the fixed grid of the pair, 1 mm and pre-aligned, to points of the pre-aligned moving scan.
"""

from __future__ import annotations

import glob
from pathlib import Path

import numpy as np

from benchmark.datasets.io.images import write_displacement
from benchmark.datasets.io.transforms import write_displacement_transform, write_rigid_transforms
from benchmark.errors import BadInput, reason
from methods.atomic import atomic_write
from methods.base import Grid, Registration
from methods.learn2reg_field import case_field_name, write_learn2reg

LEARN2REG = "learn2reg"  # a folder of its own: beside the other files `precomputed` would find two fields of a case


def write_fields(folder: Path, case: str, registration: Registration, grid: Grid, learn2reg: bool) -> list[Path]:
    """Write the displacement and the rigid transforms of one result.

    Args:
        folder: that exists.
        case: name of the case; files of an earlier result are replaced.
        registration: the result.
        grid: of the pair.
        learn2reg: also write Learn2Reg's field.

    Returns:
        The files.

    Raises:
        BadInput: if a file cannot be written.
    """
    files = [folder / f"{case}.nii.gz", folder / f"{case}.h5"]
    write_displacement(files[0], registration.displacement_mm, grid)
    write_displacement_transform(files[1], registration.displacement_mm, grid)
    files += write_rigid_transforms(folder, f"{case}_", registration.rigid_transforms or {})
    if learn2reg:
        files.append(folder / LEARN2REG / f"{case_field_name(case)}.nii.gz")
        write_learn2reg_field(files[-1], registration.displacement_mm, grid)
    return files


def write_learn2reg_field(path: Path, displacement_mm: np.ndarray, grid: Grid) -> None:
    """Write Learn2Reg's field atomically, as .nii.gz or .npz.

    Raises:
        BadInput: if the file cannot be written.
    """
    ending = ".npz" if path.suffix == ".npz" else ".nii.gz"
    try:
        atomic_write(path, lambda temporary: write_learn2reg(temporary, displacement_mm, grid), ending=ending)
    except (RuntimeError, OSError) as error:
        raise BadInput(
            f"{path}: expected a place to write to, found: {reason(error)}; choose another folder"
        ) from error


def remove_fields(folder: Path, case: str) -> None:
    """Remove the files of an earlier result of a case, if there are any."""
    names = [f"{case}.nii.gz", f"{case}.h5", f"{case}_rigid.tfm", f"{LEARN2REG}/{case_field_name(case)}.nii.gz"]
    for file in (*(folder / name for name in names), *folder.glob(f"{glob.escape(case)}_vertebra_*.tfm")):
        file.unlink(missing_ok=True)
