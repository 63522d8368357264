"""NIfTI files: what the header means, and checks of headers and voxels."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk
from support.scan_files import GRID, change_header, cut_short, noise, save, turned

from benchmark.datasets.io.images import read_image
from benchmark.datasets.io.nifti import check_header, read_header
from benchmark.errors import BadInput
from methods.geometry import to_sitk


def test_an_uncompressed_file_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    """ITK reads the missing voxels as zeros and reports nothing."""
    path = tmp_path / "ct.nii"
    save(path, noise())
    cut_short(path)
    assert sitk.ReadImage(str(path)).GetSize() == (18, 20, 30)
    with pytest.raises(BadInput, match=r"ct.nii: expected 43552 bytes of image, found 29034: cut short"):
        read_image(path)


def test_a_wrong_checksum_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    save(path, noise())
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 0xFF  # the checksum; every voxel still unpacks
    path.write_bytes(bytes(damaged))
    with pytest.raises(BadInput, match=r"ct.nii.gz: expected a whole NIfTI file.*CRC"):
        read_image(path)


def test_big_endian_files_are_checked(tmp_path: Path) -> None:
    """The file is built by hand: a header of 348 bytes, and 2 x 2 x 2 float32 from byte 352 on."""
    values = np.arange(8, dtype=">f4")
    header = bytearray(352)
    struct.pack_into(">i", header, 0, 348)
    struct.pack_into(">8h", header, 40, 3, 2, 2, 2, 1, 1, 1, 1)
    struct.pack_into(">2h", header, 70, 16, 32)
    struct.pack_into(">8f", header, 76, 1, 1, 1, 1, 0, 0, 0, 0)
    struct.pack_into(">3f", header, 108, 352, 1, 0)
    header[344:348] = b"n+1\0"
    path = tmp_path / "ct.nii"
    path.write_bytes(header + values.tobytes())
    np.testing.assert_array_equal(read_image(path)[0].ravel(), values)
    values[3] = np.nan
    path.write_bytes(header + values.tobytes())
    with pytest.raises(BadInput, match="NaN or infinity in 1 of 8"):
        read_image(path)
    path.write_bytes(header + values.tobytes()[:-3])
    with pytest.raises(BadInput, match="expected 384 bytes of image, found 381"):
        read_image(path)


def test_a_negative_spacing_is_refused(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    save(tmp_path / "ct.nii", noise())
    header = bytearray((tmp_path / "ct.nii").read_bytes())
    header[80:84] = np.float32(-2.0).tobytes()  # pixdim[1]
    (tmp_path / "ct.nii").write_bytes(bytes(header))
    with pytest.raises(BadInput, match=r"ct.nii: expected a usable geometry, found spacing_mm"):
        read_image(tmp_path / "ct.nii")
    assert capfd.readouterr() == ("", ""), "ITK's own warning is not shown"


@pytest.mark.parametrize("forms", [(1, 0), (0, 2), (1, 1), (0, 0)])
def test_forms_that_agree_or_stand_alone_pass(tmp_path: Path, forms: tuple[int, int]) -> None:
    save(tmp_path / "ct.nii.gz", noise(), turned(30))
    for offset, code in zip((252, 254), forms, strict=True):
        change_header(tmp_path / "ct.nii.gz", offset, np.int16(code))
    assert read_image(tmp_path / "ct.nii.gz")[1].shape == GRID.shape


@pytest.mark.parametrize("code", ["LPS", "RAS", "LPI", "PIR", "SAL"])
def test_both_forms_that_itk_writes_agree_in_any_orientation(tmp_path: Path, code: str) -> None:
    """Left-handed axes set pixdim[0] to -1."""
    image = sitk.DICOMOrient(to_sitk(noise(), GRID), code)
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    np.testing.assert_array_equal(read_image(tmp_path / "ct.nii.gz")[0], sitk.GetArrayFromImage(image))


def nifti_2(path: Path, values: np.ndarray | None = None) -> Path:
    """A NIfTI-2 file with both forms in use."""
    image = nibabel.Nifti2Image(noise().T if values is None else values, np.diag([1, 1.1, 1.2, 1]))
    image.header.set_qform(image.affine, 1)
    nibabel.save(image, path)
    return path


def set_field(path: Path, field: str, value: object) -> None:
    """Change one field of an uncompressed NIfTI-2 header."""
    content = path.read_bytes()
    header = nibabel.Nifti2Header(content[:540], check=False)
    header[field] = value
    path.write_bytes(header.binaryblock + content[540:])


def test_a_nifti_2_header_is_read_like_nifti_1(tmp_path: Path) -> None:
    header = read_header(nifti_2(tmp_path / "ct.nii"))
    assert header is not None and header.version == 2 and header.shape == (18, 20, 30)
    assert header.end - header.offset == 18 * 20 * 30 * 4 and header.dtype == np.float32 and len(header.forms) == 2


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("pixdim", [1, 1, 0, 1.2, 1, 1, 1, 1], r"found spacing_mm \(1, 0, 1.2\)"),
        ("qoffset_x", 7, "expected q-form and s-form to agree, found them up to 7 mm apart"),
    ],
)
def test_a_nifti_2_geometry_is_checked(tmp_path: Path, field: str, value: object, words: str) -> None:
    check_header(nifti_2(tmp_path / "ct.nii"))
    set_field(tmp_path / "ct.nii", field, value)
    with pytest.raises(BadInput, match=words):
        check_header(tmp_path / "ct.nii")


def test_nifti_2_voxels_are_checked(tmp_path: Path) -> None:
    values = noise().T.copy()
    read_image(nifti_2(tmp_path / "ct.nii.gz", values))
    values[3, 3, 3] = np.nan
    with pytest.raises(BadInput, match="NaN or infinity in 1 of 10800"):
        read_image(nifti_2(tmp_path / "ct.nii.gz", values))
    cut_short(nifti_2(tmp_path / "ct.nii"))
    with pytest.raises(BadInput, match="expected 43744 bytes of image, found 29162: cut short"):
        read_image(tmp_path / "ct.nii")


def test_nifti_2_is_read_like_nifti_1(tmp_path: Path) -> None:
    image, grid = read_image(nifti_2(tmp_path / "ct.nii"))
    np.testing.assert_array_equal(image, noise())
    np.testing.assert_allclose(grid.spacing_mm, (1.0, 1.1, 1.2), rtol=1e-12)


@pytest.mark.parametrize("end", ["", ".gz"])
@pytest.mark.parametrize("name", ["ct.hdr", "ct.img"])
def test_a_pair_is_read_by_the_name_of_either_file(tmp_path: Path, name: str, end: str) -> None:
    save(tmp_path / f"ct.img{end}", noise(), turned(30))
    assert len(list(tmp_path.iterdir())) == 2
    image, grid = read_image(tmp_path / f"{name}{end}")
    np.testing.assert_array_equal(image, noise())
    np.testing.assert_allclose(grid.direction, turned(30).direction, atol=1e-6)


def with_nan(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[:4] = np.float32(np.nan).tobytes()
    path.write_bytes(content)


def with_spacing_0(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[80:84] = np.float32(0).tobytes()
    path.write_bytes(content)


@pytest.mark.parametrize("name", ["ct.hdr", "ct.img"])
@pytest.mark.parametrize(
    ("file", "damage", "words"),
    [
        ("ct.img", cut_short, "expected 43200 bytes of image, found 28800: cut short"),
        ("ct.img", with_nan, "NaN or infinity in 1 of 10800"),
        ("ct.img", Path.unlink, "expected a whole NIfTI file, found one cut short or damaged .*No such file"),
        ("ct.hdr", with_spacing_0, r"usable geometry, found spacing_mm \(0, 1.1, 1.2\)"),
        ("ct.hdr", Path.unlink, "expected a whole NIfTI file, found one cut short or damaged .*No such file"),
    ],
)
def test_a_pair_is_checked(
    tmp_path: Path, name: str, file: str, damage: Callable[[Path], object], words: str, capfd: pytest.CaptureFixture
) -> None:
    save(tmp_path / "ct.img", noise())
    damage(tmp_path / file)
    if not (tmp_path / name).exists():
        words = "expected an image file, found nothing"
    with pytest.raises(BadInput, match=words):
        read_image(tmp_path / name)
    assert capfd.readouterr() == ("", "")


def test_a_quaternion_longer_than_1_is_scaled_as_itk_does(tmp_path: Path) -> None:
    save(tmp_path / "ct.nii.gz", noise())
    for offset, part in zip((256, 260, 264), (0, 0, 1.2), strict=True):
        change_header(tmp_path / "ct.nii.gz", offset, np.float32(part))
    header = read_header(tmp_path / "ct.nii.gz")
    assert header is not None
    np.testing.assert_allclose(header.forms[0][:3, :3], np.diag([-1, -1, 1]) * GRID.spacing_mm, atol=1e-6)


def test_a_file_of_another_kind_has_no_header(tmp_path: Path) -> None:
    (tmp_path / "ct.img").write_bytes(bytes(600))
    (tmp_path / "ct.hdr").write_bytes(bytes(600))
    assert read_header(tmp_path / "ct.img") is None
