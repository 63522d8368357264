"""File names of the paper's authors and of VerSe."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from support.patient_folder import write

from benchmark.datasets.folders import Folders, load_patient
from benchmark.datasets.layouts import find_files, role_of
from benchmark.errors import BadInput


def test_names_of_verse_and_of_the_paper_give_the_same_case(tmp_path: Path) -> None:
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
    for scan, other in ((pair.fixed, expected.fixed), (pair.moving, expected.moving)):
        np.testing.assert_array_equal(scan.image, other.image)
        np.testing.assert_array_equal(scan.labels, other.labels)


def test_the_tree_of_a_verse_release_is_read(tmp_path: Path) -> None:
    """Scans are in rawdata, labels in derivatives; without rawdata each sub-folder is a patient."""
    plain_folder = write(tmp_path / "plain" / "sub-1")
    for part, files in (("rawdata", ("ct", "mr_t1")), ("derivatives", ("ct_mask", "mr_mask", "displacement"))):
        (tmp_path / "verse" / part / "sub-1").mkdir(parents=True)
        for file in files:
            (tmp_path / "verse" / part / "sub-1" / f"{file}.nii.gz").symlink_to(plain_folder / f"{file}.nii.gz")
    verse, plain = (Folders("folders", dir=tmp_path / d) for d in ("verse", "plain"))
    assert verse.cases("test") == plain.cases("test") == ["sub-1"] and not verse.left_out("test")
    np.testing.assert_array_equal(verse.load("sub-1").pair.fixed.labels, plain.load("sub-1").pair.fixed.labels)
    before = verse.fingerprint("sub-1")
    (tmp_path / "verse" / "derivatives" / "sub-1" / "displacement.nii.gz").unlink()
    assert verse.fingerprint("sub-1") != before
    assert verse.load("sub-1").true_displacement_mm is None


def test_two_files_of_one_role_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "sub-1")
    (folder / "sub-1_T1w.nii.gz").touch()
    with pytest.raises(
        BadInput, match=r"sub-1: expected one file of the patient's mr, found mr_t1.nii.gz and sub-1_T1w"
    ):
        load_patient(folder)
    write(tmp_path / "sub-2")
    dataset = Folders("folders", dir=tmp_path)
    assert dataset.cases("test") == ["sub-1", "sub-2"], "one patient is refused when it is loaded, the others are not"
    before = dataset.fingerprint("sub-2")
    (tmp_path / "sub-2" / ".DS_Store").touch()
    assert dataset.fingerprint("sub-2") == before, "hidden files do not change the fingerprint"


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
        ("sub-x_mod-T2w_poi.json", "mr_centroids"),
        ("CT.nii.gz", "ct"),
        ("ct.nii", "ct"),
        ("ct.mha", "ct"),
        ("mr.mha", "mr"),
        ("mask.mha", None),
        ("ct_seg.nrrd", "ct_labels"),
        ("ct.png", None),
        ("mr_t2.mhd", "mr"),
        ("mr_labels.nii.gz", "mr_labels"),
        ("12_t2.mha", "mr"),
        ("12_t2_SPACE.mha", "mr"),
        ("12_t2_mask.mha", "mr_labels"),
        ("verse004.nii.gz", "ct"),
        ("verse004_seg.nii.gz", "ct_labels"),
        ("verse004_CT-orient_seg.nii.gz", "ct_labels"),
        ("verse809_CT-iso.nii.gz", "ct"),
        ("verse809_CT-iso_iso-ctd.json", "ct_centroids"),
        ("GL017_CT_ax_iso-ctd.json", "ct_centroids"),
        ("GL017_CT_ax_seg.nii.gz", "ct_labels"),
        ("GL017_CT_ax.png", None),
        ("notes.txt", None),
    ],
)
def test_a_name_has_its_role(name: str, role: str | None) -> None:
    assert role_of(name) == role


@pytest.mark.parametrize("extension", [".nii", ".mha", ".mhd", ".nrrd", ".NII.GZ"])
def test_images_may_have_other_formats(tmp_path: Path, extension: str) -> None:
    folder = write(tmp_path / "sub-1")
    expected = load_patient(folder)
    for file in list(folder.glob("*.nii.gz")):
        renamed = file.with_name(file.name.replace(".nii.gz", extension.lower()))
        sitk.WriteImage(sitk.ReadImage(str(file)), str(renamed))
        if renamed != file:
            file.unlink()
        renamed.rename(renamed.with_name(renamed.name.replace(extension.lower(), extension)))
    assert Folders("folders", dir=tmp_path).cases("test") == ["sub-1"]
    case = load_patient(folder)
    np.testing.assert_array_equal(case.pair.moving.labels, expected.pair.moving.labels)
    np.testing.assert_allclose(case.pair.fixed.image, expected.pair.fixed.image, atol=1e-6)
    assert case.true_displacement_mm is not None


def test_a_t2_under_its_own_name_is_the_mr(tmp_path: Path) -> None:
    folder = write(tmp_path / "p1")
    (folder / "mr_t1.nii.gz").rename(folder / "mr_t2.nii.gz")
    assert load_patient(folder).notes == ()


def test_the_t1_is_used_where_a_t2_lies_beside_it(tmp_path: Path) -> None:
    folder = write(tmp_path / "p1")
    (folder / "mr_t2.nii.gz").symlink_to(folder / "mr_t1.nii.gz")
    assert find_files(folder).mr.name == "mr_t1.nii.gz"
    (note,) = load_patient(folder).notes
    assert note.endswith("the fixed scan is mr_t1.nii.gz; mr_t2.nii.gz is not used")
