"""A patient with one unusable file: the error is one line with file, expected, found and next step."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.scan_files import (
    GRID,
    change_header,
    cut_short,
    labels,
    noise,
    save,
    save_4d,
    turned,
    with_voxel,
)

from benchmark.datasets.folders import load_patient, write_patient
from benchmark.errors import BadInput


def save_short_field(path: Path) -> None:
    """Write a displacement with two components."""
    sitk.WriteImage(sitk.GetImageFromArray(np.ones((*GRID.shape, 2), np.float32), isVector=True), str(path))


def save_spacing(path: Path, value: float) -> None:
    """Change pixdim[2], and leave only the q-form in use, which is computed from pixdim."""
    change_header(path, 84, np.float32(value))
    change_header(path, 254, np.int16(0))


LANDMARK_HEAD = "fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z\n"

DAMAGED: dict[str, tuple[str, Callable[[Path], object], str]] = {
    "missing": ("ct.nii.gz", Path.unlink, "expected an image file, found nothing"),
    "missing CT mask": ("ct_mask.nii.gz", Path.unlink, "expected the moving scan's vertebra labels, found nothing"),
    "missing MR mask": (
        "mr_mask.nii.gz",
        Path.unlink,
        "expected the fixed scan's vertebra labels, .* give mr_centroids.json",
    ),
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
        "found 20, 21, 22 in the moving label map and 10, 11 in",
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
    "no JSON": (
        "mr_centroids.json",
        lambda p: p.write_text('{"20": [1, 2'),
        "expected an object or a list of centroids",
    ),
    "no object": ("mr_centroids.json", lambda p: p.write_text("[1, 2, 3]"), "found no direction in its first"),
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
        "20, 21, 22 .* and 5 in the fixed scan",
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
NAMES_THE_FOLDER = {"no common label", "other centroids", "far centroids", "far landmark"}  # two files disagree


@pytest.mark.parametrize("kind", DAMAGED)
def test_an_unusable_file_gives_one_line(kind: str, tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    name, damage, words = DAMAGED[kind]
    folder = tmp_path / "patient 1"
    write_patient(folder, noise(), labels(), noise(), labels(), np.zeros((*GRID.shape, 3), np.float32), GRID)
    damage(folder / name)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    capfd.readouterr()
    with pytest.raises(BadInput, match=words) as raised:
        load_patient(folder)
    message = str(raised.value)
    assert message.startswith(f"{folder}: " if kind in NAMES_THE_FOLDER else f"{folder / name}: ")
    assert "\n" not in message and "expected" in message and "found" in message and len(message) < 500
    assert capfd.readouterr() == ("", ""), "the libraries print nothing"
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_the_undamaged_patient_loads(tmp_path: Path) -> None:
    write_patient(tmp_path / "p", noise(), labels(), noise(), labels(), None, GRID)
    assert load_patient(tmp_path / "p").pair.case == "p"


def test_labels_of_one_vertebra_are_enough(tmp_path: Path) -> None:
    """Pre-alignment is then a translation."""
    one = np.where(labels() == 21, 21, 0).astype(np.uint16)
    write_patient(tmp_path / "p", noise(), one, noise(), labels(), None, GRID)
    assert set(np.unique(load_patient(tmp_path / "p").pair.moving.labels)) == {0, 21}


def test_centroids_with_other_than_ascii_letters_are_read(tmp_path: Path) -> None:
    write_patient(tmp_path / "ä", noise(), labels(), noise(), labels(), None, GRID)
    (tmp_path / "ä" / "mr_centroids.json").write_text(json.dumps({"20": [0, 0, "é"]}, ensure_ascii=False), "utf-8")
    with pytest.raises(BadInput, match="found '20'"):
        load_patient(tmp_path / "ä")
