"""Scans in images/ and labels in masks/ under the same names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.command_line import invoke, refused
from support.patient_folder import GRID, arrays, write

from benchmark.datasets.folders import Folders, load_patient
from benchmark.datasets.io.images import write_image, write_labels
from benchmark.errors import BadInput

MR_TO_MR = {"fixed": "mr", "moving": "mr"}
SPIDER_IDS = {20: 5, 21: 4, 22: 3}


def add(folder: Path, name: str, image: np.ndarray, labels: np.ndarray, spider: bool = False) -> None:
    """Write a scan into images/ and its labels into masks/."""
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    ids = labels if not spider else sum(np.where(labels == v, n, 0) for v, n in SPIDER_IDS.items())
    write_image(folder / "images" / name, image.astype(np.float32), GRID)
    write_labels(folder / "masks" / name, np.asarray(ids, np.uint16), GRID)


@pytest.fixture
def spider(tmp_path: Path) -> Path:
    """Patients 1 and 2 with a T1 and a T2 each, and 3 with a T1 alone, as SPIDER numbers vertebrae."""
    given, folder = arrays(), tmp_path / "spider"
    for patient in (1, 2, 3):
        add(folder, f"{patient}_t1.mha", given["mr"], given["mr_labels"], spider=True)
        if patient < 3:
            add(folder, f"{patient}_t2.mha", 300 - given["ct_hu"] / 3, given["ct_labels"], spider=True)
    add(folder, "1_t2_SPACE.mha", given["mr"], given["mr_labels"], spider=True)
    return folder


def test_ct_and_mr_give_the_same_case_as_a_patient_folder(tmp_path: Path) -> None:
    given, folder = arrays(), tmp_path / "set"
    add(folder, "anna_ct.nii.gz", np.rint(given["ct_hu"]), given["ct_labels"])
    add(folder, "anna_T1w.mha", given["mr"], given["mr_labels"])
    write(tmp_path / "anna", displacement_mm=None)
    dataset = Folders("folders", dir=folder)
    assert dataset.cases("test") == ["anna"] and dataset.left_out("test") == {}
    dataset.check("anna")
    case, other = dataset.load("anna"), load_patient(tmp_path / "anna")
    np.testing.assert_array_equal(case.pair.moving.image, other.pair.moving.image)
    np.testing.assert_array_equal(case.pair.fixed.labels, other.pair.fixed.labels)
    assert dataset.voxels("anna") is not None
    before = dataset.fingerprint("anna")
    (folder / "masks" / "anna_T1w.mha").unlink()
    assert dataset.fingerprint("anna") != before


def test_spider_registers_t2_to_t1(spider: Path) -> None:
    dataset = Folders("folders", dir=spider, modality=MR_TO_MR, label_map="spider")
    assert dataset.cases("test") == ["1", "2"]
    case = dataset.load("1")
    assert (case.pair.fixed.modality, case.pair.moving.modality) == ("mr", "mr")
    assert sorted(case.voxels) == [20, 21, 22]
    (note,) = case.notes
    assert note.endswith("1_t1.mha and 1_t2.mha are used, not 1_t2_SPACE.mha")
    assert "add 3_mr with its labels, or leave the patient out" in dataset.left_out("test")["3"]


def test_without_the_modality_one_line_says_what_to_do(spider: Path, tmp_path: Path) -> None:
    line = refused("run", "--dataset", f"folders:{spider}", "--out", tmp_path / "run")
    assert "expected a moving scan of patient 1 (ct), found 1_t1.mha, 1_t2.mha, 1_t2_SPACE.mha" in line
    assert line.endswith("set `modality: {fixed: mr, moving: mr}` to register one MR to the other")


def test_without_the_label_map_one_line_names_it(spider: Path, tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    settings = f"{{dir: {spider}, modality: {{fixed: mr, moving: mr}}}}"
    config.write_text(f"methods: [{{method: initial}}]\ndataset: {{name: folders, settings: {settings}}}\n")
    line = refused("run", "--config", config, "--out", tmp_path / "run")
    assert "expected vertebrae numbered from the head down" in line and "label_map" in line and "spider" in line
    config.write_text(config.read_text().replace("mr}}", "mr}, label_map: spider}"))
    result = invoke("run", "--config", config, "--out", tmp_path / "run")
    assert result.exit_code == 0 and "3 was left out: " in result.output
    assert "(MR to MR), 6 vertebrae of 2 patients" in result.output


def test_labels_may_have_another_ending_and_lie_in_another_folder(spider: Path) -> None:
    given = arrays()
    (spider / "masks" / "2_t2.mha").unlink()
    write_labels(spider / "masks" / "2_t2.nii.gz", given["ct_labels"], GRID)
    (spider / "masks").rename(spider / "labels")
    dataset = Folders("folders", dir=spider, modality=MR_TO_MR, label_map={"mr": "spider"})
    assert sorted(dataset.load("2").voxels) == [20, 21, 22]


def test_a_missing_mask_is_refused(spider: Path) -> None:
    (spider / "masks" / "2_t1.mha").unlink()
    dataset = Folders("folders", dir=spider, modality=MR_TO_MR, label_map="spider")
    with pytest.raises(BadInput, match=r"masks/2_t1\.mha: expected the fixed scan's vertebra labels, found nothing"):
        dataset.load("2")


def test_images_with_other_names_and_the_inner_folder_are_named(spider: Path) -> None:
    (spider / "images" / "scout.mha").symlink_to(spider / "images" / "1_t1.mha")
    dataset = Folders("folders", dir=spider, modality=MR_TO_MR, label_map="spider")
    assert "rename it to PATIENT_ct" in dataset.left_out("test")["scout.mha"]
    with pytest.raises(BadInput, match=f"give {spider}, which holds the labels too"):
        Folders("folders", dir=spider / "images").cases("test")
