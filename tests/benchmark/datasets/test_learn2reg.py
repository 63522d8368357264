"""The format of Learn2Reg: pairs as the file lists them, all files inside its folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmark.datasets.io.images import write_image, write_labels
from benchmark.datasets.learn2reg import Learn2Reg
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from methods.base import Grid
from methods.registry import DATASETS

GRID = Grid((40, 24, 20), (1.0, 1.0, 1.0), (-10.0, 5.0, 100.0))
SHIFT = 2  # voxels along x, of the moving labels to the left


def labels(shift: int) -> np.ndarray:
    array = np.zeros(GRID.shape, np.uint16)
    array[26:34, 8:16, 4 + shift : 12 + shift], array[10:18, 8:16, 4 + shift : 12 + shift] = 20, 21
    return array


def write_scan(folder: Path, name: str, shift: int, where: str = "Tr") -> None:
    for kind in ("images", "labels"):
        (folder / f"{kind}{where}").mkdir(parents=True, exist_ok=True)
    ids = labels(shift)
    image = np.where(ids > 0, 700, 0) + np.random.default_rng(0).normal(0, 30, ids.shape)
    write_image(folder / f"images{where}" / f"{name}.nii.gz", image.astype(np.float32), GRID)
    write_labels(folder / f"labels{where}" / f"{name}.nii.gz", ids, GRID)


def pair(number: int, where: str = "Tr") -> dict[str, str]:
    names = {"fixed": f"S_{number:04d}_0000", "moving": f"S_{number:04d}_0001"}
    return {side: f"./images{where}/{name}.nii.gz" for side, name in names.items()}


def make(folder: Path, **changed: Any) -> Path:
    """Write a data set: patients 1 and 2 for training, 3 for validation, 4 for test; _0000 is the MR, _0001 the CT."""
    for number in (1, 2, 3, 4):
        where = "Ts" if number == 4 else "Tr"
        for modality, shift in ((0, 0), (1, SHIFT)):
            write_scan(folder, f"S_{number:04d}_{modality:04d}", shift, where)
    content = {
        "name": "Spines",
        "modality": {"0": "MR", "1": "CT"},
        "training": [{"image": "./imagesTr/S_0001_0000.nii.gz", "label": "./labelsTr/S_0001_0000.nii.gz"}],
        "training_paired_images": [pair(2), pair(1)],
        "registration_val": [pair(3)],
        "registration_test": [pair(4, "Ts")],
    }
    (folder / "Spines_dataset.json").write_text(json.dumps({**content, **changed}))
    return folder


def test_pairs_have_the_order_of_the_file(tmp_path: Path) -> None:
    dataset = DATASETS.create("learn2reg", {"dir": str(make(tmp_path / "Wirbelsäule é 1"))})
    assert dataset.cases("train") == ["S_0002_0000--S_0002_0001", "S_0001_0000--S_0001_0001"]
    assert dataset.cases("val") == ["S_0003_0000--S_0003_0001"]
    assert dataset.cases("test") == ["S_0004_0000--S_0004_0001"]
    with pytest.raises(ValueError, match="expected one of train, val, test"):
        dataset.cases("tests")
    with pytest.raises(ValueError, match=r"expected a pair that Spines_dataset\.json lists"):
        dataset.load("S_0001_0000--S_0002_0001")


@pytest.mark.parametrize(("pre_aligned", "apart"), [(True, SHIFT), (False, 0)])
def test_pairs_are_pre_aligned_only_on_request(tmp_path: Path, pre_aligned: bool, apart: float) -> None:
    dataset = Learn2Reg("learn2reg", dir=make(tmp_path), pre_aligned=pre_aligned)
    case = dataset.load(dataset.cases("test")[0])
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (case.pair.moving, case.pair.fixed))
    for vertebra in (20, 21):
        np.testing.assert_allclose(moving[vertebra] - fixed[vertebra], (apart, 0, 0), atol=0.1)
    assert 0.5 < case.pair.moving.image[case.pair.moving.labels > 0].mean() < 0.6, "700 HU within [-1000, 2000]"


def test_keypoints_are_landmarks(tmp_path: Path) -> None:
    dataset = Learn2Reg("learn2reg", dir=make(tmp_path))
    assert dataset.load("S_0004_0000--S_0004_0001").landmarks_mm is None
    (tmp_path / "keypointsTs").mkdir()
    (tmp_path / "keypointsTs" / "S_0004_0000.csv").write_text("4,8,26\n11.5,15,10\n")
    (tmp_path / "keypointsTs" / "S_0004_0001.csv").write_text("6,8,26\n13.5,15,10\n")
    landmarks = dataset.load("S_0004_0000--S_0004_0001").landmarks_mm
    np.testing.assert_allclose(landmarks[0], [[-6, 13, 126], [1.5, 20, 110]], atol=1e-4)
    np.testing.assert_allclose(landmarks[1] - landmarks[0], [[2, 0, 0]] * 2, atol=1e-4)
    (tmp_path / "keypointsTs" / "S_0004_0001.csv").write_text("6,8,26\n")
    with pytest.raises(BadInput, match=r"S_0004_0001\.csv: expected as many keypoints as .*, 2, found 1"):
        dataset.load("S_0004_0000--S_0004_0001")


def test_a_pair_without_fixed_labels_serves_training_alone(tmp_path: Path) -> None:
    dataset = Learn2Reg("learn2reg", dir=make(tmp_path))
    for where, number in (("Tr", 1), ("Ts", 4)):
        (tmp_path / f"labels{where}" / f"S_{number:04d}_0000.nii.gz").unlink()
    assert len(dataset.cases("train")) == 2 and dataset.cases("test") == []
    assert list(dataset.left_out("test")) == ["S_0004_0000--S_0004_0001"] and dataset.left_out("train") == {}
    assert dataset.load("S_0001_0000--S_0001_0001").pair.fixed.labels is None


def test_training_pairs_of_patients_in_another_split_are_separated(tmp_path: Path) -> None:
    """Challenges list the validation pairs under training_paired_images too."""
    dataset = Learn2Reg("learn2reg", dir=make(tmp_path, training_paired_images=[pair(1), pair(3), pair(2)]))
    assert dataset.cases("train") == ["S_0001_0000--S_0001_0001", "S_0002_0000--S_0002_0001"]
    assert dataset.left_out("train") == {
        "S_0003_0000--S_0003_0001": "S_0003 is also in split 'val', so that it is not trained on"
    }
    assert dataset.cases("val") == ["S_0003_0000--S_0003_0001"] and dataset.left_out("val") == {}


def test_a_replaced_file_changes_the_fingerprint(tmp_path: Path) -> None:
    dataset = Learn2Reg("learn2reg", dir=make(tmp_path))
    before = dataset.fingerprint("S_0004_0000--S_0004_0001")
    write_labels(tmp_path / "labelsTs" / "S_0004_0001.nii.gz", labels(3), GRID)
    assert dataset.fingerprint("S_0004_0000--S_0004_0001") != before


OUTSIDE = {"fixed": "./imagesTr/S_0001_0000.nii.gz", "moving": "../other/imagesTr/S_0001_0001.nii.gz"}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"registration_test": [OUTSIDE]}, "expected files inside its folder, found '../other"),
        ({"registration_test": [{**OUTSIDE, "moving": "/etc/a.nii.gz"}]}, "inside its folder, found '/etc/a.nii.gz'"),
        ({"registration_test": [{**OUTSIDE, "moving": "..\\a.nii.gz"}]}, "expected files inside its folder"),
        ({"training": [{"image": "imagesTr/S_0001_0000.nii.gz", "label": "../a.nii.gz"}]}, "found '../a.nii.gz'"),
        ({"registration_test": [pair(3)]}, "expected each scan in one split, found S_0003 in 'val' and in 'test'"),
        ({"registration_val": [pair(3), pair(3)]}, "expected each pair once"),
        ({"registration_val": ["S_0003"]}, "expected pairs such as .* under registration_val, found S_0003"),
        ({"registration_val": [{"fixed": 3, "moving": 4}]}, "expected pairs such as"),
        ({"modality": {"0": "CT", "1": "MR"}}, r"expected CT as the moving scan, found MR \(imagesTr/S_0002_0001"),
        (
            {"training_paired_images": [], "registration_val": [], "registration_test": []},
            "expected pairs under training_paired_images, registration_val, registration_test, test_paired_images",
        ),
    ],
)
def test_files_with_other_content_are_refused(tmp_path: Path, changed: dict, words: str) -> None:
    dataset = Learn2Reg("learn2reg", dir=make(tmp_path, **changed))
    with pytest.raises(BadInput, match=f"Spines_dataset.json: .*{words}"):
        dataset.cases("test")


def test_a_folder_without_dataset_json_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=r"none: expected one dataset\.json in the folder, found none"):
        Learn2Reg("learn2reg", dir=tmp_path / "none").cases("test")
    (tmp_path / "dataset.json").write_text("[1]")
    with pytest.raises(BadInput, match=r"dataset.json: expected a Learn2Reg dataset.json.*found list"):
        Learn2Reg("learn2reg", dir=tmp_path).cases("test")


def test_check_reads_headers_and_the_size_of_a_pair_is_estimated(tmp_path: Path) -> None:
    dataset = DATASETS.create("learn2reg", {"dir": make(tmp_path)})
    (case,) = dataset.cases("test")
    dataset.check(case)
    assert dataset.voxels(case) == np.prod(dataset.load(case).pair.grid.shape)
    write_labels(tmp_path / "labelsTs" / "S_0004_0001.nii.gz", labels(SHIFT)[1:], Grid((39, 24, 20), GRID.spacing_mm))
    with pytest.raises(BadInput, match=r"labelsTs/S_0004_0001\.nii\.gz: expected the grid of"):
        dataset.check(case)


def test_pairs_that_share_a_patient_are_one_group(tmp_path: Path) -> None:
    def between(fixed: str, moving: str) -> dict[str, str]:
        return {"fixed": f"./imagesTr/S_{fixed}_0000.nii.gz", "moving": f"./imagesTr/S_{moving}_0001.nii.gz"}

    chain = [between("0001", "0002"), between("0005", "0005"), between("0003", "0002"), between("0003", "0004")]
    folder = make(tmp_path, registration_val=chain, training_paired_images=[], registration_test=[])
    dataset = Learn2Reg("learn2reg", dir=folder)
    groups = [dataset.group(case) for case in ("S_0001_0000--S_0002_0001", "S_0003_0000--S_0004_0001")]
    assert groups == ["S_0001", "S_0001"], "patients 2 and 3 connect the two pairs"
    assert dataset.group("S_0005_0000--S_0005_0001") == "S_0005"
