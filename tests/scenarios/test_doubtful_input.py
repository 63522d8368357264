"""What a run, `simulate` and `register` say about scans and labels that are not what they should be."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from support.command_line import invoke, refused
from support.patient_folder import GRID, arrays, write

from benchmark.datasets.folders import load_patient
from benchmark.datasets.io.images import write_image, write_labels
from benchmark.datasets.patients import LabelSettings

GRID_CUT = replace(GRID, shape=(GRID.shape[0] - 1, *GRID.shape[1:]))


def relabelled(labels: np.ndarray, ids: dict[int, int]) -> np.ndarray:
    """The labels with other ids."""
    return sum((np.where(labels == before, now, 0) for before, now in ids.items()), np.zeros_like(labels)).astype(
        np.uint16
    )


@pytest.fixture
def files(tmp_path: Path) -> dict[str, Path]:
    """A CT, an MR, and the CT's labels as TotalSegmentator numbers them."""
    given = arrays()
    paths = {name: tmp_path / f"{name}.nii.gz" for name in ("ct", "mr", "labels")}
    write_image(paths["ct"], given["ct_hu"], GRID)
    write_image(paths["mr"], given["mr"].astype(np.float32), GRID)
    write_labels(paths["labels"], relabelled(given["ct_labels"], {20: 31, 21: 30, 22: 29}), GRID)
    return paths


def test_simulate_refuses_ids_that_it_cannot_use_and_takes_a_label_map(files: dict[str, Path], tmp_path: Path) -> None:
    command = ["simulate", "--ct", files["ct"], "--labels", files["labels"], "--out", tmp_path / "out", "--count", 1]
    assert "found 29, 30, 31, which are no vertebrae" in refused(*command)
    assert not (tmp_path / "out").exists()
    result = invoke(*command, "--label-map", "totalsegmentator-2")
    assert result.exit_code == 0 and "3 vertebrae" in result.output, result.output


def test_register_takes_a_label_map(files: dict[str, Path], tmp_path: Path) -> None:
    command = ["register", "--method", "initial", "--fixed", files["mr"], "--moving", files["ct"], "--moving-labels",
               files["labels"], "--out", tmp_path / "out"]  # fmt: skip
    assert "found 29, 30, 31, which are no vertebrae" in refused(*command)
    assert invoke(*command, "--label-map", "totalsegmentator").exit_code == 0


def test_register_takes_a_label_map_for_each_scan(files: dict[str, Path], tmp_path: Path) -> None:
    """The CT is TotalSegmentator's, the labels of the MR have VerSe ids."""
    write_labels(tmp_path / "mr_seg.nii.gz", arrays()["mr_labels"], GRID)
    command = ["register", "--method", "initial", "--fixed", files["mr"], "--moving", files["ct"], "--moving-labels",
               files["labels"], "--fixed-labels", tmp_path / "mr_seg.nii.gz", "--out", tmp_path / "out"]  # fmt: skip
    assert "mr_seg.nii.gz: expected labels that label_map" in refused(*command, "--label-map", "totalsegmentator-2")
    result = invoke(*command, "--label-map", "ct=totalsegmentator-2,mr=verse")
    assert result.exit_code == 0 and "L1" in result.output, result.output
    assert "or ct=NAME,mr=NAME" in refused(*command, "--label-map", "ct: totalsegmentator-2")


def test_run_takes_the_label_options_as_its_yaml_does(files: dict[str, Path], tmp_path: Path) -> None:
    patient = write(tmp_path / "patients" / "p1")
    files["labels"].replace(patient / "ct_mask.nii.gz")
    command = ["run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", "initial", "--out",
               tmp_path / "run"]  # fmt: skip
    assert "which are no vertebrae" in refused(*command)
    result = invoke(*command, "--label-map", "ct=totalsegmentator-2,mr=verse", "--evaluate", "bodies")
    assert result.exit_code == 0, result.output
    settings = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text(encoding="utf-8"))["dataset"]["settings"]
    assert settings["label_map"] == {"ct": "totalsegmentator-2"} and settings["evaluate"] == "bodies"
    assert "no such setting" in refused("run", "--dataset", "phantom", "--label-map", "spider", "--out", tmp_path / "x")
    assert "--evaluate discs: expected vertebrae, bodies" in refused(*command, "--evaluate", "discs")


def masks(folder: Path) -> Path:
    """The CT's labels as TotalSegmentator writes them by default: one mask for each structure."""
    folder.mkdir(parents=True)
    for v, name in {20: "vertebrae_L1", 21: "vertebrae_L2", 22: "vertebrae_L3", 5: "vertebrae_C5"}.items():
        write_labels(folder / f"{name}.nii.gz", arrays()["ct_labels"] == v, GRID)
    write_labels(folder / "liver.nii.gz", np.ones(GRID.shape, np.uint16), GRID)
    return folder


def test_every_command_takes_a_folder_of_masks(files: dict[str, Path], tmp_path: Path) -> None:
    folder = masks(tmp_path / "segmentations")
    made = invoke("simulate", "--ct", files["ct"], "--labels", folder, "--out", tmp_path / "out", "--count", 1)
    assert made.exit_code == 0 and "3 vertebrae" in made.output, made.output
    command = ["register", "--method", "initial", "--fixed", files["mr"], "--moving", files["ct"], "--out",
               tmp_path / "registered", "--moving-labels"]  # fmt: skip
    assert invoke(*command, folder, "--label-map", "totalsegmentator-2").exit_code == 0
    assert "the mask of L1 alone; give the folder" in refused(*command, folder / "vertebrae_L1.nii.gz")


@pytest.mark.parametrize("name", ["ct_mask", "segmentations"])
def test_a_run_takes_a_folder_of_masks_in_a_patient_s_folder(tmp_path: Path, name: str) -> None:
    patient = write(tmp_path / "patients" / "p1")
    expected = load_patient(patient).pair.moving.labels
    (patient / "ct_mask.nii.gz").unlink()
    masks(patient / name)
    np.testing.assert_array_equal(load_patient(patient).pair.moving.labels, expected)
    result = invoke("run", "--dataset", f"folders:{patient.parent}", "--methods", "initial", "--out", tmp_path / "run",
                    "--dry-run")  # fmt: skip
    assert result.exit_code == 0 and "1 cell to run" in result.output, result.output


def test_the_simulated_dataset_takes_a_label_map(files: dict[str, Path], tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    settings = f"{{ct: {files['ct']}, labels: {files['labels']}, count: 1}}"
    text = "methods: [{method: initial}]\ndataset: {name: simulated, settings: %s}\n"
    config.write_text(text % settings)
    assert "which are no vertebrae" in refused("run", "--config", config, "--out", tmp_path / "run")
    config.write_text(text % settings.replace("}", ", label_map: totalsegmentator-2}"))
    result = invoke("run", "--config", config, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output


def test_a_doubt_is_printed_and_stands_under_the_table(tmp_path: Path) -> None:
    """The CT is in unsigned HU + 1024, and a rerun without work says so again."""
    write(tmp_path / "patients" / "p1", ct_hu=(arrays()["ct_hu"] + 1024).clip(0))
    for _ in range(2):
        result = invoke("run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", "initial", "--out",
                        tmp_path / "run")  # fmt: skip
        assert result.exit_code == 0
        words = "".join(result.output.split())
        assert "p1isusedwithdoubt:" in words and "1patientisusedwithdoubt(p1:" in words
        assert words.count("expectedaCTinHU,foundnovaluebelow") == 2
    notes = pd.read_parquet(tmp_path / "run" / "pairs.parquet")["notes"]
    assert notes.str.contains("expected a CT in HU").all() and len(notes) == 3
    assert "expected a CT in HU" in (tmp_path / "run" / "report" / "table1.md").read_text(encoding="utf-8")


def test_simulate_says_that_a_ct_is_not_in_hu(files: dict[str, Path], tmp_path: Path) -> None:
    write_image(files["ct"], arrays()["ct_hu"] - 1024, GRID)
    result = invoke("simulate", "--ct", files["ct"], "--labels", files["labels"], "--out", tmp_path / "out", "--count",
                    1, "--label-map", "totalsegmentator-2")  # fmt: skip
    assert result.exit_code == 0
    assert "ct.nii.gz: expected a CT in HU, found vertebrae of -4" in result.output


def test_a_vertebra_cut_by_the_scan_touches_the_border(tmp_path: Path) -> None:
    """The lowest vertebra of the CT loses its lower half; the 1 mm grid goes 20 mm beyond the labels."""
    labels = arrays()["ct_labels"]
    labels[:10] = 0
    labels[0] = labels[12]
    folder = write(tmp_path / "p1", ct_labels=labels)
    assert load_patient(folder).cut == {22}


def test_a_moving_mr_is_scaled_as_an_mr_without_a_doubt(tmp_path: Path) -> None:
    folder = tmp_path / "patients" / "p1"
    write(folder, ct_hu=500 - arrays()["ct_hu"] / 2)
    settings = LabelSettings(modality={"fixed": "mr", "moving": "mr"})
    case = load_patient(folder, settings=settings)
    moving, fixed = case.pair.moving.image, case.pair.fixed.image
    assert case.notes == () and moving.max() == 1.0
    assert "expected a CT in HU" in load_patient(folder).notes[0]
    inside = case.pair.fixed.labels > 0
    assert abs(moving[inside].mean() - fixed[inside].mean()) < 0.05, "the same scale"


def test_a_fixed_ct_is_compared_with_hu(tmp_path: Path) -> None:
    folder = write(tmp_path / "p1", mr=arrays()["ct_hu"] + 1024)
    (note,) = load_patient(folder, settings=LabelSettings(modality={"fixed": "ct"})).notes
    assert "mr_t1.nii.gz: expected a CT in HU" in note


def test_register_takes_the_modalities(files: dict[str, Path], tmp_path: Path) -> None:
    command = ["register", "--method", "initial", "--fixed", files["mr"], "--moving", files["mr"], "--moving-labels",
               files["labels"], "--label-map", "totalsegmentator", "--out", tmp_path / "out"]  # fmt: skip
    assert "expected a CT in HU" in invoke(*command).output
    result = invoke(*command, "--moving-modality", "mr")
    assert result.exit_code == 0 and "expected a CT" not in result.output
    assert (tmp_path / "out" / "warped_mr.nii.gz").exists()
    assert "--moving-modality pet: expected ct, mr, cbct" in refused(*command, "--moving-modality", "pet")


def test_a_run_takes_modalities_and_neutral_file_names(tmp_path: Path) -> None:
    folder = write(tmp_path / "patients" / "p1", ct_hu=arrays()["mr"], displacement_mm=None)
    for before, after in (("ct", "moving"), ("ct_mask", "moving_mask"), ("mr_t1", "fixed"), ("mr_mask", "fixed_mask")):
        (folder / f"{before}.nii.gz").rename(folder / f"{after}.nii.gz")
    config = tmp_path / "c.yaml"
    settings = f"{{dir: {folder.parent}, modality: {{fixed: mr, moving: mr}}}}"
    config.write_text(f"methods: [{{method: initial}}]\ndataset: {{name: folders, settings: {settings}}}\n")
    result = invoke("run", "--config", config, "--out", tmp_path / "run")
    assert result.exit_code == 0 and "with doubt" not in result.output
    report = tmp_path / "run" / "report"
    for file in ("table1.md", "table1.tex", "table1.html", "index.md", "report.html"):
        text = re.sub(r"base64,[\w+/=]+", "", (report / file).read_text(encoding="utf-8"))  # pictures
        assert not re.search(r"\bCT\b", text), f"{file} must not call either MR a CT"
    assert "Table 1: folders, test split (MR to MR), 3 vertebrae" in (report / "table1.md").read_text(encoding="utf-8")
    page = (report / "report.html").read_text(encoding="utf-8")
    for words in (
        "fixed MR and warped MR",
        "moving MR",
        "labels of the fixed MR",
        "moving MR and fixed MR with warped",
    ):
        assert words in page


def test_a_dry_run_reads_headers(tmp_path: Path) -> None:
    for name in ("p1", "p2", "p3"):
        write(tmp_path / "patients" / name)
    write_labels(tmp_path / "patients" / "p2" / "ct_mask.nii.gz", arrays()["ct_labels"][1:], GRID_CUT)
    (tmp_path / "patients" / "p3" / "ct_mask.nii.gz").unlink()
    (tmp_path / "patients" / "p4" / "ses-1").mkdir(parents=True)
    (tmp_path / "patients" / "p4" / "ses-1" / "ct.nii.gz").touch()
    result = invoke("run", "--dataset", f"folders:{tmp_path / 'patients'}", "--methods", "initial", "--out",
                    tmp_path / "run", "--dry-run")  # fmt: skip
    assert result.exit_code == 0
    lines = [line.partition(":")[0] for line in result.output.splitlines() if "would be left out" in line]
    assert lines == ["p4 would be left out", "p2 would be left out", "p3 would be left out"]
    assert "expected the grid of" in result.output and not (tmp_path / "run").exists()
