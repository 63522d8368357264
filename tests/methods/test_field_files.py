"""Fields of other tools: what the header declares is read or refused, and the affine says where the voxels lie."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.still_tissue import GRID, PAIR, TRUTH, lps_field

from methods.base import Grid, Registration
from methods.registry import create_method

TO_RAS = np.diag([-1.0, -1.0, 1.0])
DISPLACEMENT, DEFORMATION, VELOCITY = 1.0, 0.0, 4.0


def ras_affine(grid: Grid = GRID, flipped: tuple[int, ...] = ()) -> np.ndarray:
    """The affine of `grid`, stored with some of its axes (0, 1, 2 for x, y, z) in the other direction."""
    affine = np.eye(4)
    affine[:3, :3] = TO_RAS @ grid.matrix @ np.diag(grid.spacing_mm)
    affine[:3, 3] = TO_RAS @ grid.origin_mm
    for axis in flipped:
        affine[:3, 3] += affine[:3, axis] * (grid.shape[2 - axis] - 1)
        affine[:3, axis] *= -1
    return affine


def save_vectors(
    path: Path, ras: np.ndarray, affine: np.ndarray, name: str = "", parameter: float = 0.0, code: int = 1007
) -> None:
    """(x, y, z, 3) as NIfTI vectors, (x, y, z, 1, 3)."""
    image = nibabel.Nifti1Image(np.asarray(ras, np.float32)[:, :, :, None], affine)
    image.header["intent_code"], image.header["intent_name"], image.header["intent_p1"] = code, name, parameter
    nibabel.save(image, path)


def as_stored(field: np.ndarray) -> np.ndarray:
    return field.transpose(2, 1, 0, 3)


def read(folder: Path, **settings: str) -> Registration:
    return create_method("precomputed", {"dir": str(folder), **settings}).register(PAIR)


# --------------------------------------------------------------------------------------------------- headers


def test_niftyregs_displacement_is_read_as_ras_millimetres(tmp_path: Path) -> None:
    save_vectors(tmp_path / "anna.nii.gz", as_stored(lps_field()) @ TO_RAS, ras_affine(), "NREG_TRANS", DISPLACEMENT)
    registration = read(tmp_path)
    np.testing.assert_allclose(registration.displacement_mm, lps_field(), atol=1e-5)
    assert registration.notes["convention"] == "niftyreg" and "warning" not in registration.notes


def test_niftis_displacement_intent_is_read_as_itk_reads_it(tmp_path: Path) -> None:
    save_vectors(tmp_path / "anna.nii", as_stored(lps_field()) @ TO_RAS, ras_affine(), code=1006)
    np.testing.assert_allclose(read(tmp_path).displacement_mm, lps_field(), atol=1e-5)
    by_itk = sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "anna.nii")))
    np.testing.assert_allclose(by_itk, lps_field(), atol=1e-5)


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (DEFORMATION, r"found a deformation \(positions\) of NiftyReg, intent_p1 0; convert it with reg_transform"),
        (VELOCITY, r"found a velocity or a control grid \(4\) of NiftyReg"),
    ],
)
def test_niftyregs_other_fields_are_refused(tmp_path: Path, parameter: float, words: str) -> None:
    save_vectors(tmp_path / "anna.nii.gz", as_stored(lps_field()), ras_affine(), "NREG_TRANS", parameter)
    with pytest.raises(ValueError, match=rf"anna\.nii\.gz: expected a displacement field, {words}"):
        read(tmp_path)


def test_fsls_coordinates_are_refused(tmp_path: Path) -> None:
    save_vectors(tmp_path / "anna.nii.gz", as_stored(lps_field()), ras_affine(), code=2006)
    with pytest.raises(ValueError, match="found FSL's coordinates, intent_code 2006; convert it to ITK's"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("name", "code", "convention"),
    [("NREG_TRANS", 1007, "itk"), ("NREG_TRANS", 1007, "learn2reg"), ("", 1006, "learn2reg")],
)
def test_a_convention_that_contradicts_the_header_is_refused(
    tmp_path: Path, name: str, code: int, convention: str
) -> None:
    save_vectors(tmp_path / "anna.nii.gz", as_stored(lps_field()), ras_affine(), name, DISPLACEMENT, code)
    with pytest.raises(ValueError, match=rf"expected a file in the convention {convention}, found a header that decl"):
        read(tmp_path, convention=convention)


# --------------------------------------------------------------------------------------------- where it lies


@pytest.mark.parametrize("flipped", [(), (0, 1), (2,), (0, 1, 2)])
def test_an_array_is_put_where_its_affine_says(tmp_path: Path, flipped: tuple[int, ...]) -> None:
    """Voxels of 1 mm count along the array's own axes."""
    signs = np.where([axis in flipped for axis in range(3)], -1, 1)
    stored = np.flip(as_stored(lps_field()) * signs, flipped)
    nibabel.save(nibabel.Nifti1Image(stored.astype(np.float32), ras_affine(flipped=flipped)), tmp_path / "anna.nii.gz")
    registration = read(tmp_path)
    np.testing.assert_allclose(registration.displacement_mm, lps_field(), atol=1e-5)
    assert registration.notes["convention"] == "learn2reg"


def test_an_array_with_its_axes_in_another_order_is_put_where_its_affine_says(tmp_path: Path) -> None:
    order = (2, 0, 1)
    stored = as_stored(lps_field()).transpose(*order, 3)[..., order]
    affine = ras_affine()[:, [*order, 3]]
    nibabel.save(nibabel.Nifti1Image(stored.astype(np.float32), affine), tmp_path / "anna.nii.gz")
    np.testing.assert_allclose(read(tmp_path).displacement_mm, lps_field(), atol=1e-5)


def test_millimetres_on_a_flipped_grid_keep_their_components(tmp_path: Path) -> None:
    stored = np.flip(as_stored(lps_field()), (0, 1))
    save_vectors(tmp_path / "anna.nii.gz", stored, ras_affine(flipped=(0, 1)))
    np.testing.assert_allclose(read(tmp_path).displacement_mm, lps_field(), atol=1e-5)


def test_an_array_that_lies_elsewhere_is_refused(tmp_path: Path) -> None:
    affine = ras_affine()
    affine[0, 3] += 5
    nibabel.save(nibabel.Nifti1Image(as_stored(lps_field()), affine), tmp_path / "anna.nii.gz")
    with pytest.raises(ValueError, match=r"expected the case's grid, found voxels up to 5 mm from it; resample it"):
        read(tmp_path)


def test_half_resolution_is_put_where_its_affine_says(tmp_path: Path) -> None:
    half = np.full((22, 20, 18, 3), TRUTH * (-1, -1, 1), np.float32)
    affine = ras_affine(flipped=(0, 1)) @ np.diag([2, 2, 2, 1])
    nibabel.save(nibabel.Nifti1Image(half, affine), tmp_path / "anna.nii.gz")
    np.testing.assert_allclose(read(tmp_path).displacement_mm, np.broadcast_to(TRUTH, (*GRID.shape, 3)), atol=1e-4)
