"""Patient folders: writing, reading, splits, and real scans."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.patient_folder import GRID, SHIFT_MM, arrays, write

from benchmark.datasets import folders
from benchmark.datasets.folders import Folders, load_patient
from benchmark.datasets.io.images import read_displacement, read_image, read_labels
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.datasets.vertebral_bodies import bodies_by_cut
from benchmark.errors import BadInput

ROOT = Path(__file__).parents[3]


def test_a_written_patient_is_read_back(tmp_path: Path) -> None:
    folder = write(tmp_path / "new" / "p1")
    given = arrays()
    ct, grid = read_image(folder / "ct.nii.gz")
    assert grid.shape == GRID.shape
    np.testing.assert_allclose([grid.origin_mm, grid.spacing_mm], [GRID.origin_mm, GRID.spacing_mm], atol=1e-5)
    np.testing.assert_array_equal(ct, np.rint(given["ct_hu"]))
    np.testing.assert_array_equal(read_image(folder / "mr_t1.nii.gz")[0], given["mr"].astype(np.float32))
    for file, labels in (("ct_mask.nii.gz", given["ct_labels"]), ("mr_mask.nii.gz", given["mr_labels"])):
        np.testing.assert_array_equal(read_labels(folder / file)[0], labels)
    np.testing.assert_array_equal(read_displacement(folder / "displacement.nii.gz")[0], given["displacement_mm"])
    assert sorted(p.name for p in folder.parent.iterdir()) == ["p1"]


def test_a_written_displacement_is_a_displacement_field_of_itk(tmp_path: Path) -> None:
    """SimpleITK's transform of the file takes the MR point to its CT point."""
    image = sitk.ReadImage(str(write(tmp_path / "p1") / "displacement.nii.gz"), sitk.sitkVectorFloat64)
    point = sitk.DisplacementFieldTransform(image).TransformPoint((-5.0, 10.0, 120.0))
    np.testing.assert_allclose(point, np.array([-5.0, 10.0, 120.0]) + SHIFT_MM, atol=1e-4)


def test_labels_above_255_are_written(tmp_path: Path) -> None:
    labels = np.where(arrays()["ct_labels"] == 20, 65535, arrays()["ct_labels"]).astype(np.uint16)
    write(tmp_path / "p1", ct_labels=labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "p1" / "ct_mask.nii.gz")[0], labels)


def test_a_patient_is_written_atomically(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_displacement", full)
    with pytest.raises(BadInput, match=r"p1: expected a place to write to.*No space left"):
        write(tmp_path / "p1")
    assert list(tmp_path.iterdir()) == []


def test_an_existing_patient_is_not_overwritten(tmp_path: Path) -> None:
    write(tmp_path / "p1")
    before = (tmp_path / "p1" / "ct.nii.gz").read_bytes()
    with pytest.raises(BadInput, match="p1: expected a new folder"):
        write(tmp_path / "p1", ct_hu=arrays()["mr"])
    assert (tmp_path / "p1" / "ct.nii.gz").read_bytes() == before


def test_load_aligns_both_scans(tmp_path: Path) -> None:
    """The MR is the shifted CT, so pre-alignment finds the shift exactly and no displacement remains."""
    write(tmp_path / "p1")
    case = Folders("folders", dir=tmp_path).load("p1")
    pair = case.pair
    assert pair.case == "p1" and all(n % 16 == 0 for n in pair.grid.shape)
    np.testing.assert_array_equal(pair.moving.labels, pair.fixed.labels)
    assert set(np.unique(pair.fixed.labels)) == {0, 20, 21, 22}
    np.testing.assert_allclose(case.true_displacement_mm, 0, atol=1e-3)
    expected = {v: p - SHIFT_MM for v, p in centroids_mm(arrays()["ct_labels"], GRID).items()}
    for vertebra, position in centroids_mm(pair.fixed.labels, pair.grid).items():
        np.testing.assert_allclose(position, expected[vertebra], atol=1e-3)


def test_load_gives_the_same_arrays_every_time(tmp_path: Path) -> None:
    write(tmp_path / "p1")
    first, second = (Folders("folders", dir=tmp_path).load("p1") for _ in range(2))
    np.testing.assert_array_equal(first.pair.moving.image, second.pair.moving.image)
    np.testing.assert_array_equal(first.true_displacement_mm, second.true_displacement_mm)


def test_an_unknown_displacement_is_none(tmp_path: Path) -> None:
    assert load_patient(write(tmp_path / "p1", displacement_mm=None)).true_displacement_mm is None


def test_cases_are_the_patient_folders_sorted(tmp_path: Path) -> None:
    for name in ("p 2", "p10", "ä1", ".unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct.nii.gz").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    dataset = Folders("folders", dir=str(tmp_path))
    assert dataset.cases("test") == dataset.cases("train") == ["p 2", "p10", "ä1"]


def test_paths_may_have_spaces_and_accents(tmp_path: Path) -> None:
    write(tmp_path / "Rücken MR" / "Patient é 1")
    dataset = Folders("folders", dir=tmp_path / "Rücken MR")
    assert dataset.load(dataset.cases("test")[0]).pair.case == "Patient é 1"


def test_a_patient_without_mr_labels_serves_training_alone(tmp_path: Path) -> None:
    write(tmp_path / "p1")
    folder = write(tmp_path / "p2")
    (folder / "mr_mask.nii.gz").unlink()
    dataset = Folders("folders", dir=tmp_path)
    assert dataset.cases("test") == ["p1", "p2"], "without centroids a missing mask is an error"
    with pytest.raises(BadInput, match=r"mr_mask\.nii\.gz: expected the fixed scan's vertebra labels, found nothing"):
        dataset.load("p2")
    content = {str(v): list(p) for v, p in centroids_mm(arrays()["mr_labels"], GRID).items()}
    (folder / "mr_centroids.json").write_text(json.dumps(content))
    assert dataset.cases("train") == ["p1", "p2"]
    assert dataset.cases("val") == dataset.cases("test") == ["p1"]
    assert list(dataset.left_out("test")) == ["p2"] and "no labels of the fixed scan" in dataset.left_out("test")["p2"]
    assert dataset.left_out("train") == {}
    assert dataset.load("p2").pair.fixed.labels is None


def test_a_split_file_assigns_the_patients(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "mr_mask.nii.gz").touch()
    split_file = tmp_path / "split.json"
    split_file.write_text('{"train": ["c", "a"], "test": ["b"]}')
    dataset = Folders("folders", dir=tmp_path, split_file=split_file)
    assert [dataset.cases(split) for split in ("train", "val", "test")] == [["a", "c"], [], ["b"]]
    split_file.write_text('{"train": ["d"]}')
    with pytest.raises(BadInput, match=r"split.json: .*found 'd' in 'train'"):
        dataset.cases("train")


@pytest.mark.parametrize("case", ["../p1", "p1/..", "..", ".", "", "/etc", "a\\b"])
def test_a_case_outside_the_folder_is_refused(tmp_path: Path, case: str) -> None:
    write(tmp_path / "p1")
    with pytest.raises(BadInput, match="found a path"):
        Folders("folders", dir=tmp_path / "p1").load(case)


def test_impossible_requests_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="expected a sub-folder per patient"):
        Folders("folders", dir=tmp_path).cases("test")
    with pytest.raises(BadInput, match="none: expected a folder of patients, found no folder"):
        Folders("folders", dir=tmp_path / "none").cases("test")
    with pytest.raises(BadInput, match=r"p7: expected a folder with ct\.nii\.gz"):
        Folders("folders", dir=tmp_path).load("p7")
    with pytest.raises(ValueError, match="expected one of train, val, test, got 'tests'"):
        Folders("folders", dir=tmp_path).cases("tests")
    with pytest.raises(ValueError, match="folder"):
        Folders("folders", folder=tmp_path)


# Real scans


def linked(folder: Path, ct: Path, ct_labels: Path, mr: Path, mr_labels: Path) -> Path:
    """A patient folder of links to files."""
    folder.mkdir()
    names = ("ct.nii.gz", "ct_mask.nii.gz", "mr_t1.nii.gz", "mr_mask.nii.gz")
    for name, target in zip(names, (ct, ct_labels, mr, mr_labels), strict=True):
        (folder / name).symlink_to(target)
    return folder


def test_a_real_oblique_anisotropic_ct_is_aligned_with_itself(shared_data: Path, tmp_path: Path) -> None:
    """sub-verse008 has sagittal slices 2 mm apart, rotated by 0.6 degrees; every label keeps its position."""
    ct, labels = (shared_data / "verse" / f"sub-verse008_{part}.nii.gz" for part in ("ct", "seg-vert_msk"))
    pair = load_patient(linked(tmp_path / "p1", ct, labels, ct, labels)).pair
    np.testing.assert_array_equal(pair.moving.labels, pair.fixed.labels)
    stored, stored_grid = read_labels(labels)
    before, after = centroids_mm(stored, stored_grid), centroids_mm(pair.fixed.labels, pair.grid)
    assert list(after) == [19, 20, 21, 22, 23, 24]
    volume_mm3 = float(np.prod(stored_grid.spacing_mm))
    for vertebra in after:  # nearest neighbour moves a label by up to half a voxel, the same for all
        assert np.linalg.norm(after[vertebra] - before[vertebra]) < 0.5
        assert (pair.fixed.labels == vertebra).sum() == pytest.approx((stored == vertebra).sum() * volume_mm3, rel=0.01)


def test_a_real_ct_and_mr_of_two_patients_are_aligned(shared_data: Path, tmp_path: Path) -> None:
    """Labels of whole vertebrae in one scan and of bodies in the other, otherwise oriented, are aligned on bodies."""
    verse, mr = shared_data / "verse" / "sub-verse005", shared_data / "mr" / "VB3_01"
    ct, ct_labels = (verse.with_name(f"{verse.name}_{part}.nii.gz") for part in ("ct", "seg-vert_msk"))
    images = (mr.with_name(f"{mr.name}_{part}.nii.gz") for part in ("mr", "vb"))
    pair = load_patient(linked(tmp_path / "p1", ct, ct_labels, *images)).pair
    moving = centroids_mm(bodies_by_cut(pair.moving.labels, pair.grid), pair.grid)
    fixed = centroids_mm(pair.fixed.labels, pair.grid)
    assert list(moving) == list(fixed) == [20, 21, 22, 23, 24]
    assert max(np.linalg.norm(moving[v] - fixed[v]) for v in fixed) < 6
    inside = pair.fixed.labels > 0
    assert (pair.moving.labels[inside] > 0).mean() > 0.75
    assert pair.fixed.image[inside].std() > 0.02 and pair.moving.image[inside].std() > 0.02


def test_reading_folders_imports_no_synthesis() -> None:
    script = """
import sys
import benchmark.datasets.folders
datasets = [name for name in sys.modules if name.startswith("benchmark.datasets.")]
print([name for name in datasets if name.split(".")[2] in ("synthesis", "phantom", "simulated")])
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.strip() == "[]"


def test_a_folder_may_name_its_patient(tmp_path: Path) -> None:
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct.nii.gz").touch()
    (tmp_path / "first" / "patient.txt").write_text("anna\n", encoding="utf-8")
    (tmp_path / "second" / "patient.txt").write_text("anna", encoding="utf-8")
    dataset = Folders("folders", dir=tmp_path)
    assert [dataset.group(name) for name in ("first", "second", "third")] == ["anna", "anna", "third"]
    (tmp_path / "second" / "patient.txt").write_text("\n", encoding="utf-8")
    with pytest.raises(BadInput, match=r"patient.txt: expected the patient's name on one line, got ''"):
        dataset.group("second")
