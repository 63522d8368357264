"""The paper's patient folders: written whole, read back, split, and real scans brought together."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from benchmark.datasets import folders
from benchmark.datasets.folders import Folders, load_patient, write_patient
from benchmark.datasets.io.centroids import read_centroids
from benchmark.datasets.io.images import read_displacement, read_image, read_labels, write_labels
from benchmark.datasets.layouts import role_of
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.datasets.splits import read_splits
from benchmark.errors import BadInput
from benchmark.evaluation import evaluate
from methods.base import Grid, Registration

ROOT = Path(__file__).parents[2]
GRID = Grid((40, 24, 20), (1.0, 1.0, 1.0), (-10.0, 5.0, 100.0))
SHIFT_MM = np.array([2.0, -1.0, 3.0])  # whole voxels of GRID, so that moved arrays are exact


def arrays() -> dict[str, np.ndarray]:
    """A CT of three labelled blocks and the MR of the same blocks: MR point p is CT point p + SHIFT_MM."""
    ct = np.random.default_rng(0).normal(0, 50, GRID.shape).astype(np.float32)
    ct_labels = np.zeros(GRID.shape, np.uint16)
    for i, vertebra in enumerate((20, 21, 22)):
        ct_labels[26 - 10 * i : 34 - 10 * i, 8:16, 6:14] = vertebra
    ct[ct_labels > 0] += 600
    x, y, z = (-int(n) for n in SHIFT_MM)
    moved = {"axis": (0, 1, 2), "shift": (z, y, x)}
    return {
        "ct_hu": ct,
        "ct_labels": ct_labels,
        "mr": 500 - np.roll(ct, **moved) / 2,
        "mr_labels": np.roll(ct_labels, **moved),
        "displacement_mm": np.broadcast_to(SHIFT_MM, (*GRID.shape, 3)).astype(np.float32),
    }


def write(folder: Path, **changed: np.ndarray | None) -> Path:
    write_patient(folder, **{**arrays(), **changed}, grid=GRID)
    return folder


def test_written_patient_reads_back(tmp_path: Path) -> None:
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


def test_written_displacement_is_itk_s_own(tmp_path: Path) -> None:
    """SimpleITK makes a displacement field transform of the file as it is: the MR point goes to its CT point."""
    image = sitk.ReadImage(str(write(tmp_path / "p1") / "displacement.nii.gz"), sitk.sitkVectorFloat64)
    point = sitk.DisplacementFieldTransform(image).TransformPoint((-5.0, 10.0, 120.0))
    np.testing.assert_allclose(point, np.array([-5.0, 10.0, 120.0]) + SHIFT_MM, atol=1e-4)


def test_labels_above_255_survive(tmp_path: Path) -> None:
    labels = np.where(arrays()["ct_labels"] == 20, 65535, arrays()["ct_labels"]).astype(np.uint16)
    write(tmp_path / "p1", ct_labels=labels)
    np.testing.assert_array_equal(read_labels(tmp_path / "p1" / "ct_mask.nii.gz")[0], labels)


def test_a_patient_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(folders, "write_displacement", full)
    with pytest.raises(BadInput, match=r"p1: expected a place to write to.*No space left"):
        write(tmp_path / "p1")
    assert list(tmp_path.iterdir()) == []


def test_a_patient_is_never_written_over(tmp_path: Path) -> None:
    write(tmp_path / "p1")
    before = (tmp_path / "p1" / "ct.nii.gz").read_bytes()
    with pytest.raises(BadInput, match="p1: expected a new folder"):
        write(tmp_path / "p1", ct_hu=arrays()["mr"])
    assert (tmp_path / "p1" / "ct.nii.gz").read_bytes() == before


def test_load_brings_both_scans_together(tmp_path: Path) -> None:
    """The MR is the shifted CT, so pre-alignment finds the shift exactly and nothing is left to register."""
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


def test_unknown_truth_is_none(tmp_path: Path) -> None:
    assert load_patient(write(tmp_path / "p1", displacement_mm=None)).true_displacement_mm is None


def test_centroids_in_the_folder_are_used(tmp_path: Path) -> None:
    """Annotated 4 mm further back than the mask has them: the CT labels come to lie 4 mm behind the fixed ones."""
    folder = write(tmp_path / "p1")
    annotated = centroids_mm(arrays()["mr_labels"], GRID)
    content = {str(v): list(p + np.array([0, 4, 0])) for v, p in annotated.items()}
    (folder / "mr_centroids.json").write_text(json.dumps(content))
    assert sorted(read_centroids(folder / "mr_centroids.json")) == [20, 21, 22]
    pair = load_patient(folder).pair
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (pair.moving, pair.fixed))
    np.testing.assert_allclose(moving[21] - fixed[21], (0, 4, 0), atol=0.05)


def test_cases_are_the_patient_folders_sorted(tmp_path: Path) -> None:
    for name in ("p 2", "p10", "ä1", ".unfinished"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct.nii.gz").touch()
    (tmp_path / "notes").mkdir()
    (tmp_path / "readme.txt").touch()
    dataset = Folders("folders", dir=str(tmp_path))
    assert dataset.cases("test") == dataset.cases("train") == ["p 2", "p10", "ä1"]


def test_a_path_with_spaces_and_accents(tmp_path: Path) -> None:
    write(tmp_path / "Rücken MR" / "Patient é 1")
    dataset = Folders("folders", dir=tmp_path / "Rücken MR")
    assert dataset.load(dataset.cases("test")[0]).pair.case == "Patient é 1"


def test_a_patient_without_mr_labels_is_for_training_only(tmp_path: Path) -> None:
    write(tmp_path / "p1")
    folder = write(tmp_path / "p2")
    (folder / "mr_mask.nii.gz").unlink()
    dataset = Folders("folders", dir=tmp_path)
    assert dataset.cases("test") == ["p1", "p2"], "without centroids the missing mask is an error, not a choice"
    with pytest.raises(BadInput, match=r"mr_mask\.nii\.gz: expected the MR's vertebra labels, found nothing"):
        dataset.load("p2")
    content = {str(v): list(p) for v, p in centroids_mm(arrays()["mr_labels"], GRID).items()}
    (folder / "mr_centroids.json").write_text(json.dumps(content))
    assert dataset.cases("train") == ["p1", "p2"]
    assert dataset.cases("val") == dataset.cases("test") == ["p1"]
    assert list(dataset.left_out("test")) == ["p2"] and "no labels of the MR" in dataset.left_out("test")["p2"]
    assert dataset.left_out("train") == {}
    assert dataset.load("p2").pair.fixed.labels is None


def test_verse_names_and_the_paper_s_give_the_same(tmp_path: Path) -> None:
    write(tmp_path / "paper" / "sub-1", displacement_mm=None)
    folder = write(tmp_path / "verse" / "sub-1", displacement_mm=None)
    names = {
        "ct.nii.gz": "sub-1_ct.nii.gz",
        "ct_mask.nii.gz": "sub-1_seg-vert_msk.nii.gz",
        "mr_t1.nii.gz": "sub-1_ses-a_T2w.nii.gz",
        "mr_mask.nii.gz": "sub-1_ses-a_mod-T2w_seg-vert_msk.nii.gz",
    }
    for old, new in names.items():
        (folder / old).rename(folder / new)
    dataset = Folders("folders", dir=tmp_path / "verse")
    assert dataset.cases("test") == ["sub-1"]
    pair, expected = dataset.load("sub-1").pair, load_patient(tmp_path / "paper" / "sub-1").pair
    for ours, theirs in ((pair.fixed, expected.fixed), (pair.moving, expected.moving)):
        np.testing.assert_array_equal(ours.image, theirs.image)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_a_tree_as_verse_is_handed_out(tmp_path: Path) -> None:
    """Scans under rawdata, labels under derivatives; a folder without rawdata stays one patient a sub-folder."""
    whole = write(tmp_path / "plain" / "sub-1")
    for part, files in (("rawdata", ("ct", "mr_t1")), ("derivatives", ("ct_mask", "mr_mask", "displacement"))):
        (tmp_path / "verse" / part / "sub-1").mkdir(parents=True)
        for file in files:
            (tmp_path / "verse" / part / "sub-1" / f"{file}.nii.gz").symlink_to(whole / f"{file}.nii.gz")
    verse, plain = (Folders("folders", dir=tmp_path / d) for d in ("verse", "plain"))
    assert verse.cases("test") == plain.cases("test") == ["sub-1"] and not verse.left_out("test")
    np.testing.assert_array_equal(verse.load("sub-1").pair.fixed.labels, plain.load("sub-1").pair.fixed.labels)
    before = verse.fingerprint("sub-1")
    (tmp_path / "verse" / "derivatives" / "sub-1" / "displacement.nii.gz").unlink()
    assert verse.fingerprint("sub-1") != before
    assert verse.load("sub-1").true_displacement_mm is None


def test_verse_centroids_of_both_scans_pre_align(tmp_path: Path) -> None:
    """The MR's in voxels of the MR, moved 4 mm back; the CT's as its mask has them."""
    folder = write(tmp_path / "sub-1", displacement_mm=None)
    for name, labels, back in (("sub-1", "ct_labels", 0), ("sub-1_mod-T1w", "mr_labels", 4)):
        index = {v: GRID.to_indices_xyz(p) for v, p in centroids_mm(arrays()[labels], GRID).items()}
        entries = [{"label": v, "X": i[0], "Y": i[1] + back, "Z": i[2]} for v, i in index.items()]
        file = folder / f"{name}_seg-subreg_ctd.json"
        file.write_text(json.dumps([{"direction": ["L", "P", "S"]}, *entries]))
    pair = load_patient(folder).pair
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (pair.moving, pair.fixed))
    np.testing.assert_allclose(moving[21] - fixed[21], (0, 4, 0), atol=0.05)


def test_two_files_for_one_part_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "sub-1")
    (folder / "sub-1_T1w.nii.gz").touch()
    with pytest.raises(
        BadInput, match=r"sub-1: expected one file of the patient's mr, found mr_t1.nii.gz and sub-1_T1w"
    ):
        load_patient(folder)
    write(tmp_path / "sub-2")
    dataset = Folders("folders", dir=tmp_path)
    assert dataset.cases("test") == ["sub-1", "sub-2"], "one patient is refused when it is read, not the whole folder"
    before = dataset.fingerprint("sub-2")
    (tmp_path / "sub-2" / ".DS_Store").touch()
    assert dataset.fingerprint("sub-2") == before, "what a file manager leaves is no other patient"


@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("sub-verse500_dir-ax_ct.nii.gz", "ct"),
        ("sub-verse500_dir-ax_seg-vert_msk.nii.gz", "ct_labels"),
        ("sub-verse500_dir-ax_seg-subreg_ctd.json", "ct_centroids"),
        ("sub-x_seg-subreg_msk.nii.gz", "ct_subregions"),
        ("sub-x_mod-T1w_seg-subreg_ctd.json", "mr_centroids"),
        ("sub-x_mod-T1w_seg-subreg_msk.nii.gz", None),
        ("sub-verse500_dir-ax_seg-vert_snp.png", None),
        ("sub-x_ct.json", None),
        ("notes.txt", None),
    ],
)
def test_what_a_name_stands_for(name: str, role: str | None) -> None:
    assert role_of(name) == role


def test_label_maps_of_either_scan(tmp_path: Path) -> None:
    """The CT in TotalSegmentator's ids (L1-L3 = 31, 30, 29), the MR in SPIDER's (5, 4, 3) with a disc."""
    ct, mr = (arrays()[k].astype(int) for k in ("ct_labels", "mr_labels"))
    mr[0, 0, 0] = 25 - 204  # a disc, 204
    write(tmp_path / "p1", ct_labels=np.where(ct > 0, 51 - ct, 52), mr_labels=np.where(mr != 0, 25 - mr, 0))
    settings = {"ct": "totalsegmentator", "mr": "spider"}
    dataset = Folders("folders", dir=tmp_path, label_map=settings)
    for scan in (dataset.load("p1").pair.fixed, dataset.load("p1").pair.moving):
        assert set(np.unique(scan.labels)) == {0, 20, 21, 22}
    own = tmp_path / "map.yaml"
    own.write_text("31: 20\n")
    mapped = Folders("folders", dir=tmp_path, label_map={"ct": str(own), "mr": "spider"})
    before = mapped.fingerprint("p1")
    assert set(np.unique(mapped.load("p1").pair.moving.labels)) == {0, 20}
    own.write_text("30: 20\n")
    assert mapped.fingerprint("p1") != before, "another map makes another case"


def test_landmarks_in_the_folder_give_an_error_after_pre_alignment(tmp_path: Path) -> None:
    """Both landmarks are off by (3, 0, 4) mm; the shift between the scans is pre-aligned away."""
    folder = write(tmp_path / "p1")
    assert load_patient(folder).landmarks_mm is None
    rows = ["name,fixed_x,fixed_y,fixed_z,moving_x,moving_y,moving_z"]
    for p in ((-3.0, 15.0, 110.0), (1.0, 18.5, 125.0)):
        rows.append(",".join(map(str, ["tip", *p, *(np.array(p) + SHIFT_MM + (3, 0, 4))])))
    (folder / "landmarks.csv").write_text("\n".join(rows) + "\n")
    case = load_patient(folder)
    field = np.zeros((*case.pair.grid.shape, 3), np.float32)
    assert evaluate(case, Registration(field))[0]["landmark_tre_mm"] == pytest.approx(5, abs=1e-3)
    field[...] = (3, 0, 0)
    assert evaluate(case, Registration(field))[0]["landmark_tre_mm"] == pytest.approx(4, abs=1e-3)
    (folder / "landmarks.csv").unlink()
    assert evaluate(load_patient(folder), Registration(field))[0]["landmark_tre_mm"] is None


def test_bodies_alone_are_compared_on_request(tmp_path: Path) -> None:
    folder = write(tmp_path / "p1")
    subregions = np.where(arrays()["ct_labels"] == 21, 49, np.where(arrays()["ct_labels"] > 0, 41, 0))
    write_labels(folder / "ct_subregions.nii.gz", subregions, GRID)
    case = Folders("folders", dir=tmp_path, evaluate="bodies").load("p1")
    assert set(np.unique(case.compared_labels)) == {0, 21}
    assert set(np.unique(case.pair.moving.labels)) == {0, 20, 21, 22}
    assert load_patient(folder).moving_compared is None
    with pytest.raises(ValueError, match="evaluate"):
        Folders("folders", dir=tmp_path, evaluate="body")


def test_split_file_decides(tmp_path: Path) -> None:
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


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "expected a JSON object"),
        ("[]", "found list"),
        ('{"tests": []}', "expected lists of names under train, val and test"),
        ('{"test": [1]}', "expected lists of names"),
        ('{"train": ["a"], "test": ["a"]}', "found 'a' more than once"),
    ],
)
def test_bad_split_files(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(BadInput, match=f"split.json: .*{words}"):
        read_splits(tmp_path / "split.json")


@pytest.mark.parametrize("case", ["../p1", "p1/..", "..", ".", "", "/etc", "a\\b"])
def test_a_case_cannot_leave_the_folder(tmp_path: Path, case: str) -> None:
    write(tmp_path / "p1")
    with pytest.raises(BadInput, match="found a path"):
        Folders("folders", dir=tmp_path / "p1").load(case)


def test_requests_that_cannot_be_met(tmp_path: Path) -> None:
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


# Real scans, linked to where they are


def linked(folder: Path, ct: Path, ct_labels: Path, mr: Path, mr_labels: Path) -> Path:
    folder.mkdir()
    names = ("ct.nii.gz", "ct_mask.nii.gz", "mr_t1.nii.gz", "mr_mask.nii.gz")
    for name, target in zip(names, (ct, ct_labels, mr, mr_labels), strict=True):
        (folder / name).symlink_to(target)
    return folder


def test_real_oblique_anisotropic_ct_with_itself(shared_data: Path, tmp_path: Path) -> None:
    """sub-verse008 is stored in sagittal slices, turned by 0.6 degrees, 2 mm apart: all labels arrive, in place."""
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


def test_real_ct_and_mr_of_two_patients(shared_data: Path, tmp_path: Path) -> None:
    """Whole vertebrae against bodies alone, another patient, another orientation: still on top of each other."""
    verse, mr = shared_data / "verse" / "sub-verse005", shared_data / "mr" / "VB3_01"
    ct, ct_labels = (verse.with_name(f"{verse.name}_{part}.nii.gz") for part in ("ct", "seg-vert_msk"))
    images = (mr.with_name(f"{mr.name}_{part}.nii.gz") for part in ("mr", "vb"))
    pair = load_patient(linked(tmp_path / "p1", ct, ct_labels, *images)).pair
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (pair.moving, pair.fixed))
    assert list(moving) == list(fixed) == [20, 21, 22, 23, 24]
    assert max(np.linalg.norm(moving[v] - fixed[v]) for v in fixed) < 10
    inside = pair.fixed.labels > 0
    assert (pair.moving.labels[inside] > 0).mean() > 0.5
    assert pair.fixed.image[inside].std() > 0.02 and pair.moving.image[inside].std() > 0.02


def test_reading_folders_imports_no_synthesis() -> None:
    script = """
import sys
import benchmark.datasets.folders
synthesis = ("motion", "anatomy", "rasterise", "contrast", "acquisition", "annotation", "phantom", "from_ct")
ours = [name.split(".") for name in sys.modules if name.startswith("benchmark.")]
print(sorted(".".join(name) for name in ours if name[-1] in synthesis))
"""
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
