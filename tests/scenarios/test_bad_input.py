"""Bad input: one line that names the file, what was expected, what was found and what to do; nothing half-written."""

from __future__ import annotations

import gzip
import json
import os
import struct
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy.spatial.transform import Rotation

from benchmark.datasets.folders import load_patient, write_patient
from benchmark.datasets.io import images
from benchmark.datasets.io.images import (
    check_same_grid,
    read_displacement,
    read_image,
    read_labels,
    write_displacement,
    write_image,
    write_labels,
)
from benchmark.errors import BadInput, check_writable
from methods.base import Grid
from methods.geometry import to_sitk

GRID = Grid((30, 20, 18), (1.0, 1.1, 1.2), (-10.0, 5.0, 100.0))


def labels() -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint16)
    array[2:10, 5:15, 5:13], array[11:19, 5:15, 5:13], array[20:28, 5:15, 5:13] = 22, 21, 20
    return array


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 100, GRID.shape).astype(np.float32)


def save(path: Path, array: np.ndarray, grid: Grid = GRID) -> None:
    sitk.WriteImage(to_sitk(array, grid), str(path))


def with_voxel(array: np.ndarray, value: float) -> np.ndarray:
    changed = array.copy()
    changed[3, 7, 7] = value
    return changed


def cut_short(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * 2 // 3])


def turned(degrees: float) -> Grid:
    return replace(GRID, direction=tuple(Rotation.from_euler("z", degrees, degrees=True).as_matrix().ravel()))


def save_4d(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([noise(), noise()]), isVector=False), str(path))


def save_short_field(path: Path) -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((*GRID.shape, 2), np.float32), isVector=True), str(path))


def change_header(path: Path, offset: int, value: np.generic | np.ndarray) -> None:
    """Another value at a byte of a NIfTI header."""
    content = bytearray(gzip.decompress(path.read_bytes()))
    content[offset : offset + value.nbytes] = value.tobytes()
    path.write_bytes(gzip.compress(bytes(content)))


def save_spacing(path: Path, value: float) -> None:
    """pixdim[2] changed, and the q-form alone in force, which is made from it."""
    change_header(path, 84, np.float32(value))
    change_header(path, 254, np.int16(0))


LANDMARK_HEAD = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"

SPOILED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("ct.nii.gz", Path.unlink, "expected an image file, found nothing"),
    "missing CT mask": ("ct_mask.nii.gz", Path.unlink, "expected the CT's vertebra labels, found nothing"),
    "missing MR mask": ("mr_mask.nii.gz", Path.unlink, "expected the MR's vertebra labels, .* give mr_centroids.json"),
    "a folder": ("ct.nii.gz", lambda p: (p.unlink(), p.mkdir()), "expected an image file, found a folder"),
    "text": ("ct.nii.gz", lambda p: p.write_text("not an image"), "Not a gzipped file"),
    "empty file": ("ct_mask.nii.gz", lambda p: p.write_bytes(b""), "cannot be read"),
    "truncated": ("mr_t1.nii.gz", cut_short, "expected a whole NIfTI file, found one cut short or damaged"),
    "truncated mask": ("mr_mask.nii.gz", cut_short, "expected a whole NIfTI file, found one cut short or damaged"),
    "4-D": ("ct.nii.gz", save_4d, r"expected a 3-D image, found 4-D \(18 x 20 x 30 x 2\)"),
    "2-D": ("mr_t1.nii.gz", lambda p: sitk.WriteImage(sitk.GetImageFromArray(noise()[0]), str(p)), "found 2-D"),
    "colours": ("mr_t1.nii.gz", lambda p: save(p, np.stack([noise()] * 3, -1)), "expected one number a voxel, found 3"),
    "one value": ("ct.nii.gz", lambda p: save(p, 0 * noise() + 7), "found the one value 7 in all 10800 voxels"),
    "NaN": ("mr_t1.nii.gz", lambda p: save(p, with_voxel(noise(), np.nan)), "NaN or infinity in 1 of 10800"),
    "infinity": ("ct.nii.gz", lambda p: save(p, with_voxel(noise(), -np.inf)), "NaN or infinity in 1 of 10800"),
    "too large": ("ct.nii.gz", lambda p: save(p, with_voxel(noise().astype(float), 1e300)), "infinity in 1 of 10800"),
    "fractions": (
        "ct_mask.nii.gz",
        lambda p: save(p, with_voxel(labels().astype(np.float32), 20.5)),
        "expected integer labels, found 20.5 and 0 more",
    ),
    "NaN label": ("ct_mask.nii.gz", lambda p: save(p, with_voxel(labels().astype(np.float32), np.nan)), "found NaN"),
    "negative": (
        "mr_mask.nii.gz",
        lambda p: save(p, with_voxel(labels().astype(np.int16), -1)),
        "0 to 65535, found -1",
    ),
    "too many": ("ct_mask.nii.gz", lambda p: save(p, with_voxel(labels().astype(np.int32), 65536)), "found 65536"),
    "no label": ("ct_mask.nii.gz", lambda p: save(p, 0 * labels()), "expected at least one label"),
    "other size": (
        "ct_mask.nii.gz",
        lambda p: save(p, labels()[1:], replace(GRID, shape=(29, 20, 18))),
        r"expected the grid of .*ct.nii.gz, 18 x 20 x 30 voxels, found 18 x 20 x 29",
    ),
    "other spacing": (
        "mr_mask.nii.gz",
        lambda p: save(p, labels(), replace(GRID, spacing_mm=(1.0, 1.1, 1.3))),
        r"expected the grid of .*mr_t1.nii.gz, spacing mm \(1, 1.1, 1.2\), found \(1, 1.1, 1.3\)",
    ),
    "other origin": (
        "ct_mask.nii.gz",
        lambda p: save(p, labels(), replace(GRID, origin_mm=(-10.0, 5.5, 100.0))),
        r"origin mm \(-10, 5, 100\), found \(-10, 5.5, 100\): voxels lie up to 0.5 mm apart \(0.1 mm is tolerated\)",
    ),
    "other direction": (
        "mr_mask.nii.gz",
        lambda p: save(p, labels(), turned(5)),
        r"direction \(1, 0, 0, .*found \(0.99",
    ),
    "no common label": (
        "mr_mask.nii.gz",
        lambda p: save(p, labels() // 2),
        "found 20, 21, 22 in the CT label map and 10, 11 in",
    ),
    "short displacement": (
        "displacement.nii.gz",
        save_short_field,
        "expected a displacement of 3 numbers a voxel, found 2",
    ),
    "scalar displacement": ("displacement.nii.gz", lambda p: save(p, noise()), "of 3 numbers a voxel, found 1"),
    "other displacement": (
        "displacement.nii.gz",
        lambda p: save(p, np.ones((*GRID.shape, 3), np.float32), replace(GRID, origin_mm=(0.0, 0.0, 0.0))),
        "expected the grid of .*mr_t1.nii.gz, origin mm",
    ),
    "no JSON": ("mr_centroids.json", lambda p: p.write_text('{"20": [1, 2'), "expected a JSON object such as"),
    "no object": ("mr_centroids.json", lambda p: p.write_text("[1, 2, 3]"), "found list"),
    "two numbers": ("mr_centroids.json", lambda p: p.write_text('{"20": [1, 2]}'), r"found '20': \[1, 2\]"),
    "a name": ("mr_centroids.json", lambda p: p.write_text('{"L1": [1, 2, 3]}'), "found 'L1'"),
    "NaN centroid": (
        "mr_centroids.json",
        lambda p: p.write_text('{"20": [1, 2, NaN]}'),
        "three finite LPS millimetres",
    ),
    "other centroids": (
        "mr_centroids.json",
        lambda p: p.write_text('{"5": [1, 2, 3]}'),
        "20, 21, 22 .* and 5 in the MR",
    ),
    "a slice": (
        "ct.nii.gz",
        lambda p: save(p, noise()[:1], replace(GRID, shape=(1, 20, 18))),
        r"expected a volume, found a single slice \(18 x 20 x 1 voxels\)",
    ),
    "spacing 0": ("mr_t1.nii.gz", lambda p: save_spacing(p, 0), r"usable geometry, found spacing_mm \(1, 0, 1.2\)"),
    "spacing < 0": ("mr_t1.nii.gz", lambda p: save_spacing(p, -1), r"usable geometry, found spacing_mm \(1, -1, 1.2\)"),
    "spacing NaN": ("ct.nii.gz", lambda p: save_spacing(p, np.nan), r"geometry, found spacing_mm \(1, nan, 1.2\)"),
    "spacing 1e9": ("ct.nii.gz", lambda p: save_spacing(p, 1e9), r"from 0.01 to 100 mm, found spacing_mm \(1, 1e\+09"),
    "spacing 1e-9": ("ct.nii.gz", lambda p: save_spacing(p, 1e-9), r"from 0.01 to 100 mm, found spacing_mm \(1, 1e-09"),
    "two forms": (
        "ct_mask.nii.gz",
        lambda p: change_header(p, 268, np.float32(7)),  # qoffset_x; it was 10
        "expected q-form and s-form to agree, found them up to 3 mm apart",
    ),
    "two turned forms": (
        "ct.nii.gz",
        lambda p: change_header(p, 256, np.float32(0.1)),  # quatern_b
        "expected q-form and s-form to agree, found them up to",
    ),
    "no columns": ("landmarks.csv", lambda p: p.write_text("x,y,z\n1,2,3\n"), "expected the columns .* no fixed_x"),
    "no landmark": ("landmarks.csv", lambda p: p.write_text(LANDMARK_HEAD), "expected at least one landmark"),
    "NaN landmark": (
        "landmarks.csv",
        lambda p: p.write_text(LANDMARK_HEAD + "1,2,3,4,nan,6\n"),
        "expected finite numbers for point 1, found 1, 2, 3, 4, nan, 6",
    ),
    "short landmark": ("landmarks.csv", lambda p: p.write_text(LANDMARK_HEAD + "1,2,3\n"), "numbers for point 1"),
    "far landmark": (
        "landmarks.csv",
        lambda p: p.write_text(LANDMARK_HEAD + "1,2,900,1,2,900\n"),
        r"found 1 of 1 farther away, the first at \(1.0, 2.0, 900.0\) mm",
    ),
    "far centroids": ("mr_centroids.json", lambda p: p.write_text('{"20": [1, 2, 900]}'), "check mr_centroids"),
}
NAMES_THE_FOLDER = {
    "no common label",
    "other centroids",
    "far centroids",
    "far landmark",
}  # what is wrong lies between its files


@pytest.mark.parametrize("kind", SPOILED)
def test_one_clear_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    name, spoil, words = SPOILED[kind]
    folder = tmp_path / "patient 1"
    write_patient(folder, noise(), labels(), noise(), labels(), np.zeros((*GRID.shape, 3), np.float32), GRID)
    spoil(folder / name)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    capfd.readouterr()
    with pytest.raises(BadInput, match=words) as raised:
        load_patient(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder}: " if kind in NAMES_THE_FOLDER else f"{folder / name}: ")
    assert "\n" not in message and "expected" in message and "found" in message and len(message) < 500
    assert capfd.readouterr() == ("", ""), "the libraries say nothing beside it"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_the_unspoiled_patient_is_fine(tmp_path: Path) -> None:
    write_patient(tmp_path / "p", noise(), labels(), noise(), labels(), None, GRID)
    assert load_patient(tmp_path / "p").pair.case == "p"


def test_truncated_without_compression(tmp_path: Path) -> None:
    """ITK reads such a file without complaint, the rest as zeros."""
    path = tmp_path / "ct.nii"
    save(path, noise())
    cut_short(path)
    assert sitk.ReadImage(str(path)).GetSize() == (18, 20, 30)
    with pytest.raises(BadInput, match=r"ct.nii: expected 43552 bytes of image, found 29034: cut short"):
        read_image(path)


def test_damaged_inside_the_compressed_stream(tmp_path: Path) -> None:
    path = tmp_path / "ct.nii.gz"
    save(path, noise())
    damaged = bytearray(path.read_bytes())
    damaged[-6] ^= 0xFF  # in the checksum, so that every voxel still unpacks
    path.write_bytes(bytes(damaged))
    with pytest.raises(BadInput, match=r"ct.nii.gz: expected a whole NIfTI file.*CRC"):
        read_image(path)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_whole_files_of_any_format_pass(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"ct{suffix}", noise())
    image, grid = read_image(tmp_path / f"ct{suffix}")
    np.testing.assert_array_equal(image, noise())
    np.testing.assert_allclose(grid.spacing_mm, GRID.spacing_mm, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_whole_numbers_pass_as_labels_in_any_storage(tmp_path: Path, dtype: type) -> None:
    save(tmp_path / "mask.nii.gz", labels().astype(dtype))
    found, _ = read_labels(tmp_path / "mask.nii.gz")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels())


def test_bytes_in_the_other_order_are_understood(tmp_path: Path) -> None:
    """A big-endian NIfTI by hand: header 348, 2 x 2 x 2 float32 from byte 352 on."""
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


def test_not_finite_in_other_formats(tmp_path: Path) -> None:
    save(tmp_path / "ct.mha", with_voxel(noise(), np.nan))
    with pytest.raises(BadInput, match=r"ct\.mha: expected finite numbers, found NaN or infinity in 1 of 10800"):
        read_image(tmp_path / "ct.mha")


def test_geometry_of_the_header_is_judged(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    save(tmp_path / "ct.nii", noise())
    header = bytearray((tmp_path / "ct.nii").read_bytes())
    header[80:84] = np.float32(-2.0).tobytes()  # pixdim[1]
    (tmp_path / "ct.nii").write_bytes(bytes(header))
    with pytest.raises(BadInput, match=r"ct.nii: expected a usable geometry, found spacing_mm"):
        read_image(tmp_path / "ct.nii")
    assert capfd.readouterr() == ("", ""), "ITK warns of such a header on its own"


def test_dimensions_are_judged_before_pixels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_4d(tmp_path / "ct.nii.gz")
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda *_: pytest.fail("pixels were read"))
    with pytest.raises(BadInput, match="found 4-D"):
        read_image(tmp_path / "ct.nii.gz")


def test_an_image_larger_than_memory_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A header of 30000 x 30000 x 30000 voxels before a few bytes: 27e12 voxels."""
    save(tmp_path / "ct.nii.gz", noise())
    change_header(tmp_path / "ct.nii.gz", 42, np.array([30000] * 3, np.int16))
    monkeypatch.setattr(sitk.ImageFileReader, "Execute", lambda *_: pytest.fail("pixels were read"))
    change_header(tmp_path / "ct.nii.gz", 252, np.int32(0))  # no forms: these would put the corners 36 m apart
    with pytest.raises(BadInput, match=r"ct.nii.gz: expected an image that fits into memory \(.*needs 402331 GB"):
        read_image(tmp_path / "ct.nii.gz")


def test_the_limit_is_the_machine_s_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10800 voxels of 16 bytes are 1.6e-4 GB. Where the system does not say what it has, nothing is refused."""
    save(tmp_path / "ct.nii.gz", noise())
    for there, refused in ((1.7e-4, False), (1.5e-4, True), (None, False)):
        monkeypatch.setattr(images, "memory_gb", lambda there=there: there)
        with pytest.raises(BadInput, match="fits into memory") if refused else nullcontext():
            read_image(tmp_path / "ct.nii.gz")


@pytest.mark.parametrize("forms", [(1, 0), (0, 2), (1, 1), (0, 0)])
def test_forms_that_agree_or_stand_alone_pass(tmp_path: Path, forms: tuple[int, int]) -> None:
    save(tmp_path / "ct.nii.gz", noise(), turned(30))
    for offset, code in zip((252, 254), forms, strict=True):
        change_header(tmp_path / "ct.nii.gz", offset, np.int16(code))
    assert read_image(tmp_path / "ct.nii.gz")[1].shape == GRID.shape


@pytest.mark.parametrize("code", ["LPS", "RAS", "LPI", "PIR", "SAL"])
def test_both_forms_of_any_orientation_agree(tmp_path: Path, code: str) -> None:
    """The q-form has a sense of its own for left-handed axes; ITK writes both forms."""
    image = sitk.DICOMOrient(to_sitk(noise(), GRID), code)
    sitk.WriteImage(image, str(tmp_path / "ct.nii.gz"))
    np.testing.assert_array_equal(read_image(tmp_path / "ct.nii.gz")[0], sitk.GetArrayFromImage(image))


def test_labels_of_one_vertebra_are_enough(tmp_path: Path) -> None:
    """Nothing is wrong with them: pre-alignment is then a translation."""
    one = np.where(labels() == 21, 21, 0).astype(np.uint16)
    write_patient(tmp_path / "p", noise(), one, noise(), labels(), None, GRID)
    assert set(np.unique(load_patient(tmp_path / "p").pair.moving.labels)) == {0, 21}


def test_a_place_that_cannot_be_written_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new" / "é ä")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"inside: expected a folder to write into, found a file at .*/file; choose"):
        check_writable(tmp_path / "file" / "inside")
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write anywhere
    with pytest.raises(BadInput, match="new: expected a folder to write into, found a read-only folder at"):
        check_writable(tmp_path / "new")


def test_header_noise_is_tolerated() -> None:
    """What float32 headers and careful tools leave: 0.09 mm at the far corner passes, 0.11 mm does not."""
    one, two = Path("mask"), Path("ct")
    check_same_grid(one, replace(GRID, origin_mm=(-10.0, 5.09, 100.0)), two, GRID)
    check_same_grid(one, replace(GRID, spacing_mm=(1.0, 1.1, 1.2 + 0.09 / 29)), two, GRID)
    for other in (replace(GRID, origin_mm=(-10.0, 5.11, 100.0)), replace(GRID, spacing_mm=(1.0, 1.1, 1.2 + 0.11 / 29))):
        with pytest.raises(BadInput, match=r"0\.11 mm apart"):
            check_same_grid(one, other, two, GRID)


def test_tolerance_shrinks_with_the_voxels() -> None:
    fine = replace(GRID, spacing_mm=(0.2, 0.2, 0.4))
    with pytest.raises(BadInput, match=r"0.05 mm apart \(0.02 mm is tolerated\)"):
        check_same_grid(Path("mask"), replace(fine, origin_mm=(-10.0, 5.05, 100.0)), Path("ct"), fine)


def test_the_same_place_in_another_order_is_another_grid() -> None:
    cube = Grid((8, 8, 8))
    flipped = Grid((8, 8, 8), origin_mm=(7.0, 0.0, 0.0), direction=(-1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(BadInput, match="direction"):
        check_same_grid(Path("mask"), flipped, Path("ct"), cube)


@pytest.mark.parametrize("write", [write_image, write_labels, write_displacement])
def test_nothing_half_written(tmp_path: Path, write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    array = np.ones((*GRID.shape, 3), np.float32) if write is write_displacement else labels()
    with pytest.raises(BadInput, match=r"none/a.nii.gz: expected a place to write to"):
        write(tmp_path / "none" / "a.nii.gz", array, GRID)

    def breaks(_image: sitk.Image, name: str, **_: object) -> None:
        Path(name).write_bytes(b"half")
        raise RuntimeError("Exception thrown\nsitk::ERROR: disk\nfull")

    (tmp_path / "a.nii.gz").write_bytes(b"before")
    monkeypatch.setattr(sitk, "WriteImage", breaks)
    with pytest.raises(BadInput, match=r"a.nii.gz: expected a place to write to, found: disk full"):
        write(tmp_path / "a.nii.gz", array, GRID)
    assert [p.name for p in tmp_path.iterdir()] == ["a.nii.gz"]
    assert (tmp_path / "a.nii.gz").read_bytes() == b"before"


def test_displacement_round_trip_on_an_oblique_grid(tmp_path: Path) -> None:
    """NIfTI keeps RAS inside; what comes back is LPS again, in components and in geometry."""
    u = np.random.default_rng(0).normal(0, 5, (*GRID.shape, 3)).astype(np.float32)
    write_displacement(tmp_path / "u.nii.gz", u, turned(30))
    found, grid = read_displacement(tmp_path / "u.nii.gz")
    np.testing.assert_array_equal(found, u)
    np.testing.assert_allclose(grid.direction, turned(30).direction, atol=1e-6)


def test_json_is_not_needed_to_be_ascii(tmp_path: Path) -> None:
    write_patient(tmp_path / "ä", noise(), labels(), noise(), labels(), None, GRID)
    (tmp_path / "ä" / "mr_centroids.json").write_text(json.dumps({"20": [0, 0, "é"]}, ensure_ascii=False), "utf-8")
    with pytest.raises(BadInput, match="found '20'"):
        load_patient(tmp_path / "ä")
