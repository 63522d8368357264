"""Single image files: reading, checks and writing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.scan_files import GRID, change_header, file_with, labels, noise, save, save_4d, turned, with_voxel

from benchmark.datasets.io import images, nifti
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

ROOT = Path(__file__).parents[4]
SLOPE = 112  # byte of scl_slope and scl_inter in a NIfTI header


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".mhd", ".nrrd"])
def test_every_format_is_read(tmp_path: Path, suffix: str) -> None:
    save(tmp_path / f"ct{suffix}", noise())
    image, grid = read_image(tmp_path / f"ct{suffix}")
    np.testing.assert_array_equal(image, noise())
    np.testing.assert_allclose(grid.spacing_mm, GRID.spacing_mm, atol=1e-6)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_integer_labels_are_read_from_any_type(tmp_path: Path, dtype: type) -> None:
    save(tmp_path / "mask.nii.gz", labels().astype(dtype))
    found, _ = read_labels(tmp_path / "mask.nii.gz")
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, labels())


def test_nan_is_refused_in_other_formats(tmp_path: Path) -> None:
    save(tmp_path / "ct.mha", with_voxel(noise(), np.nan))
    with pytest.raises(BadInput, match=r"ct\.mha: expected finite numbers, found NaN or infinity in 1 of 10800"):
        read_image(tmp_path / "ct.mha")


def test_dimensions_are_checked_before_pixels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_4d(tmp_path / "ct.nii.gz")
    monkeypatch.setattr(nifti, "read_values", lambda *_: pytest.fail("pixels were read"))
    with pytest.raises(BadInput, match="found 4-D"):
        read_image(tmp_path / "ct.nii.gz")


def test_an_image_larger_than_memory_is_refused_by_its_header(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The header promises 30000 x 30000 x 30000 voxels; the file has 10800."""
    save(tmp_path / "ct.nii.gz", noise())
    change_header(tmp_path / "ct.nii.gz", 42, np.array([30000] * 3, np.int16))
    monkeypatch.setattr(nifti, "read_values", lambda *_: pytest.fail("pixels were read"))
    change_header(tmp_path / "ct.nii.gz", 252, np.int32(0))  # no forms: their corners would lie 36 m apart
    with pytest.raises(BadInput, match=r"ct.nii.gz: expected an image that fits into memory \(.*needs 402331 GB"):
        read_image(tmp_path / "ct.nii.gz")


def test_the_size_limit_is_the_memory_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """10800 voxels of 16 bytes are 1.6e-4 GB. Nothing is refused if the size of the memory is unknown."""
    save(tmp_path / "ct.nii.gz", noise())
    for there, refused in ((1.7e-4, False), (1.5e-4, True), (None, False)):
        monkeypatch.setattr(images, "memory_gb", lambda there=there: there)
        with pytest.raises(BadInput, match="fits into memory") if refused else nullcontext():
            read_image(tmp_path / "ct.nii.gz")


def test_a_folder_that_cannot_be_written_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    check_writable(tmp_path / "new" / "é ä")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match=r"inside: expected a folder to write into, found a file at .*/file; choose"):
        check_writable(tmp_path / "file" / "inside")
    monkeypatch.setattr(os, "access", lambda *_: False)  # tests may run as root, who may write anywhere
    with pytest.raises(BadInput, match="new: expected a folder to write into, found a read-only folder at"):
        check_writable(tmp_path / "new")


def test_rounding_of_headers_is_tolerated() -> None:
    """A difference of 0.09 mm at the far corner passes, 0.11 mm does not."""
    one, two = Path("mask"), Path("ct")
    check_same_grid(one, replace(GRID, origin_mm=(-10.0, 5.09, 100.0)), two, GRID)
    check_same_grid(one, replace(GRID, spacing_mm=(1.0, 1.1, 1.2 + 0.09 / 29)), two, GRID)
    for other in (replace(GRID, origin_mm=(-10.0, 5.11, 100.0)), replace(GRID, spacing_mm=(1.0, 1.1, 1.2 + 0.11 / 29))):
        with pytest.raises(BadInput, match=r"0\.11 mm apart"):
            check_same_grid(one, other, two, GRID)


def test_the_tolerance_is_at_most_a_tenth_of_the_spacing() -> None:
    fine = replace(GRID, spacing_mm=(0.2, 0.2, 0.4))
    with pytest.raises(BadInput, match=r"0.05 mm apart \(0.02 mm is tolerated\)"):
        check_same_grid(Path("mask"), replace(fine, origin_mm=(-10.0, 5.05, 100.0)), Path("ct"), fine)


def test_the_same_positions_in_another_order_are_another_grid() -> None:
    cube = Grid((8, 8, 8))
    flipped = Grid((8, 8, 8), origin_mm=(7.0, 0.0, 0.0), direction=(-1.0, 0, 0, 0, 1, 0, 0, 0, 1))
    with pytest.raises(BadInput, match="direction"):
        check_same_grid(Path("mask"), flipped, Path("ct"), cube)


@pytest.mark.parametrize("write", [write_image, write_labels, write_displacement])
def test_a_failed_write_leaves_no_file(tmp_path: Path, write: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_a_displacement_is_read_back_on_an_oblique_grid(tmp_path: Path) -> None:
    """The file stores RAS; components and geometry are LPS again after reading."""
    u = np.random.default_rng(0).normal(0, 5, (*GRID.shape, 3)).astype(np.float32)
    write_displacement(tmp_path / "u.nii.gz", u, turned(30))
    found, grid = read_displacement(tmp_path / "u.nii.gz")
    np.testing.assert_array_equal(found, u)
    np.testing.assert_allclose(grid.direction, turned(30).direction, atol=1e-6)


def test_readers_import_neither_preprocessing_nor_synthesis() -> None:
    script = """
import pkgutil, sys
from importlib import import_module
from benchmark.datasets import io
for module in pkgutil.walk_packages(io.__path__, "benchmark.datasets.io."):
    import_module(module.name)
print([name for name in sys.modules if name.startswith("benchmark.datasets.") and ".io" not in name])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("slope", [0.0, np.nan, np.inf])
@pytest.mark.parametrize("inter", [0.0, 7.0, np.nan])
def test_slope_0_or_nan_means_no_scaling(tmp_path: Path, slope: float, inter: float) -> None:
    path = file_with(tmp_path, labels(), (SLOPE, [slope, inter]))
    np.testing.assert_array_equal(read_image(path)[0], labels())
    np.testing.assert_array_equal(read_labels(path)[0], labels())


def test_slope_and_intercept_scale_images_and_labels(tmp_path: Path) -> None:
    path = file_with(tmp_path, labels(), (SLOPE, [0.5, 1.0]))
    np.testing.assert_array_equal(read_image(path)[0], labels() * 0.5 + 1)
    path = file_with(tmp_path, (labels() + 1) * 4, (SLOPE, [0.25, -1.0]))
    np.testing.assert_array_equal(read_labels(path)[0], labels())


def test_a_slope_without_a_finite_intercept_is_refused(tmp_path: Path) -> None:
    path = file_with(tmp_path, labels(), (SLOPE, [2.0, np.nan]))
    with pytest.raises(BadInput, match=r"expected finite scaling, found scl_slope 2 and scl_inter nan; set scl_inter"):
        read_image(path)


def test_labels_within_a_thousandth_of_whole_numbers_are_accepted(tmp_path: Path) -> None:
    """22 labels in 65535 steps come back as 20.9999 and the like."""
    step = 22 / 65535
    path = file_with(tmp_path, np.rint(labels() / step).astype(np.uint16), (SLOPE, [step, 0.0]))
    np.testing.assert_array_equal(read_labels(path)[0], labels())
    save(tmp_path / "near.mha", labels().astype(np.float32) - 0.0009)
    np.testing.assert_array_equal(read_labels(tmp_path / "near.mha")[0], labels())


@pytest.mark.parametrize("text", ["20.998", "21.0011", "0.5"])
def test_a_label_with_a_fraction_is_refused(tmp_path: Path, text: str) -> None:
    array = labels().astype(np.float64)
    array[3, 7, 7] = float(text)
    save(tmp_path / "seg.mha", array)
    with pytest.raises(BadInput, match=rf"expected integer labels, found {text} and 0 more values with a fraction"):
        read_labels(tmp_path / "seg.mha")


def test_a_number_that_rounds_to_a_whole_one_is_printed_exactly(tmp_path: Path) -> None:
    array = labels().astype(np.float64) * 1000
    array[3, 7, 7] = 20999.998
    save(tmp_path / "seg.mha", array)
    with pytest.raises(BadInput, match=r"found 20999\.998 and 0 more"):
        read_labels(tmp_path / "seg.mha")


@pytest.mark.parametrize(("intent", "sign"), [(1007, 1), (1006, -1)])
def test_a_field_declared_as_a_displacement_is_along_ras(tmp_path: Path, intent: int, sign: int) -> None:
    """ITK reads NIFTI_INTENT_DISPVECT (1006) as RAS, and writes NIFTI_INTENT_VECTOR (1007) along LPS."""
    vectors = np.tile(np.array([1, 2, 3], np.float32), (*GRID.shape, 1))
    path = file_with(tmp_path, vectors, (68, np.int16(intent)))
    np.testing.assert_array_equal(read_displacement(path)[0][2, 3, 4], (sign, 2 * sign, 3))


@pytest.mark.parametrize(("parameter", "works"), [(1.0, True), (0.0, False)])
def test_niftyregs_displacement_is_read_and_its_deformation_refused(
    tmp_path: Path, parameter: float, works: bool
) -> None:
    vectors = np.tile(np.array([1, 2, 3], np.float32), (*GRID.shape, 1))
    name = np.frombuffer(b"NREG_TRANS".ljust(16, b"\0"), np.uint8)
    path = file_with(tmp_path, vectors, (56, parameter), *((328 + i, byte) for i, byte in enumerate(name)))
    if works:
        np.testing.assert_array_equal(read_displacement(path)[0][2, 3, 4], (-1, -2, 3))
    else:
        with pytest.raises(
            BadInput, match=r"scan\.nii\.gz: expected a displacement field, found a deformation \(posit"
        ):
            read_displacement(path)
