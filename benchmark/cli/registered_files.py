"""The files of `register`: the original scans warped once, and the displacement in the formats of other programs.

The displacement of a method lies on the 1 mm grid of the pair, around the labels and after pre-alignment. Written is
the composed transform, from points of the fixed scan to points of the moving file: p -> A(p + u(p)), A the
pre-alignment. Beyond the methods' grid u keeps the value of the nearest voxel of its border: the field stays continuous
there, and the moving scan is not torn. A fading to 0 would deform what lies between.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from benchmark.datasets.intensities import CT_WINDOW_HU
from benchmark.datasets.io import images
from benchmark.datasets.io.transforms import (
    displacement_transform,
    write_displacement_transform,
    write_rigid_transforms,
)
from benchmark.datasets.label_resampling import slab_points_mm, slabs, warp_label_map
from benchmark.datasets.preprocessing import Patient
from benchmark.datasets.resampling import Rigid, continue_displacement
from benchmark.results.fields import write_learn2reg_field
from methods.base import Grid, Registration
from methods.geometry import from_sitk, to_sitk
from methods.learn2reg_field import field_name

AIR_HU = CT_WINDOW_HU[0]
OutputGrid = Literal["fixed", "1mm"]


@dataclass(frozen=True)
class Warped:
    """What `register` writes, on one grid.

    Attributes:
        grid: of all arrays.
        modality: of the moving scan, ct, mr or cbct; the image's file is named after it.
        displacement_mm: float32 (z, y, x, 3), LPS, fixed point p -> point p + u(p) of the moving file.
        image: the warped moving scan, float32 (z, y, x); -1000 HU where a CT has no voxel, 0 where an MR has none.
        labels: the warped labels, uint16 (z, y, x).
        rigid_transforms: fixed -> moving file, 4 x 4, LPS mm, by VerSe id, or by 0 for the whole image.
    """

    grid: Grid
    displacement_mm: np.ndarray
    image: np.ndarray
    modality: str
    labels: np.ndarray
    rigid_transforms: dict[int, np.ndarray]


def warp_files(patient: Patient, registration: Registration, grid: Grid, to_ct: Rigid, onto: Grid) -> Warped:
    """Warp the moving scan and its labels, as stored, through the composed transform, with one interpolation.

    Args:
        patient: the files' contents.
        registration: on `grid`, after pre-alignment.
        grid: the methods' grid.
        to_ct: the pre-alignment.
        onto: grid of the result.
    """
    displacement = composed_displacement(registration.displacement_mm, grid, to_ct, onto)

    def to_file(slab: slice) -> np.ndarray:
        return slab_points_mm(onto, slab) + displacement[slab]

    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = to_ct.rotation, to_ct.translation
    transforms = {v: matrix @ transform for v, transform in (registration.rigid_transforms or {}).items()}
    labels = warp_label_map(patient.ct_labels, patient.ct_grid, onto, to_file)
    outside = 0.0 if patient.moving_modality == "mr" else AIR_HU
    warped = _warp_image(patient.ct, patient.ct_grid, displacement, onto, outside)
    return Warped(onto, displacement, warped, patient.moving_modality, labels, transforms)


def composed_displacement(displacement_mm: np.ndarray, grid: Grid, to_ct: Rigid, onto: Grid) -> np.ndarray:
    """Compose a displacement with the pre-alignment, on another grid.

    Args:
        displacement_mm: u, float32 (z, y, x, 3), LPS mm, after pre-alignment.
        grid: of u; beyond it u has the value of its border.
        to_ct: the pre-alignment, from pre-aligned to stored points of the moving scan.
        onto: grid of the result.

    Returns:
        to_ct(p + u(p)) - p, float32 (z, y, x, 3), LPS mm.
    """
    result = continue_displacement(displacement_mm, grid, onto)
    for slab in slabs(onto):
        points = slab_points_mm(onto, slab)
        result[slab] = to_ct(points + result[slab]) - points
    return result


def write_files(out: Path, warped: Warped, fixed_name: str, moving_name: str) -> list[Path]:
    """Write all files.

    Args:
        out: the folder, which is made; files of an earlier result are replaced.
        warped: the contents.
        fixed_name, moving_name: of the scans, for the name of Learn2Reg's field.

    Returns:
        The files.

    Raises:
        BadInput: if a file cannot be written.
    """
    out.mkdir(parents=True, exist_ok=True)
    learn2reg = out / f"{field_name(fixed_name, moving_name)}.nii.gz"
    names = ("displacement.nii.gz", "displacement.h5", f"warped_{warped.modality}.nii.gz", "warped_labels.nii.gz")
    files = [*(out / name for name in names), learn2reg]
    images.write_displacement(files[0], warped.displacement_mm, warped.grid)
    write_displacement_transform(files[1], warped.displacement_mm, warped.grid)
    images.write_image(files[2], warped.image, warped.grid)
    images.write_labels(files[3], warped.labels, warped.grid)
    write_learn2reg_field(files[4], warped.displacement_mm, warped.grid)
    return files + write_rigid_transforms(out, "", warped.rigid_transforms)


def _warp_image(image: np.ndarray, grid: Grid, displacement_mm: np.ndarray, onto: Grid, outside: float) -> np.ndarray:
    """The moving image on `onto`, linearly interpolated; `outside` where it has no voxel."""
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetSize(onto.shape[::-1])
    resampler.SetOutputSpacing(onto.spacing_mm)
    resampler.SetOutputOrigin(onto.origin_mm)
    resampler.SetOutputDirection(onto.direction)
    resampler.SetTransform(displacement_transform(displacement_mm, onto))
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetDefaultPixelValue(outside)
    return from_sitk(resampler.Execute(to_sitk(image.astype(np.float32, copy=False), grid)))[0]
