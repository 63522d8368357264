"""The dataset `simulated`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.phantom_ct import ct_with_touching_labels

from benchmark.datasets.folders import load_patient, write_patient
from benchmark.datasets.io.images import read_image, write_image, write_labels
from benchmark.datasets.synthesis.from_ct import simulate
from benchmark.errors import BadInput
from methods.base import Grid
from methods.registry import DATASETS

ScanWithLabels = tuple[np.ndarray, np.ndarray, Grid]


@pytest.fixture(scope="module")
def scan() -> ScanWithLabels:
    """HU, labels and grid."""
    return ct_with_touching_labels()


def test_the_dataset_equals_a_patient_folder_of_the_same_pair(tmp_path: Path, scan: ScanWithLabels) -> None:
    hu, labels, grid = scan
    write_image(tmp_path / "ct.nii.gz", hu, grid)
    write_labels(tmp_path / "labels.nii.gz", labels, grid)
    dataset = DATASETS.create(
        "simulated", {"ct": tmp_path / "ct.nii.gz", "labels": tmp_path / "labels.nii.gz", "seed": 2, "count": 2}
    )
    assert dataset.cases("test") == ["simulated-002", "simulated-003"] and dataset.cases("train") == []
    case = dataset.load("simulated-002")
    ct, read_grid = read_image(tmp_path / "ct.nii.gz")
    # The CT is read back, because a file stores the origin in single precision.
    written = simulate(ct, labels, read_grid, 2)
    write_patient(
        tmp_path / "p", written.ct_hu, written.ct_labels, written.mr, written.mr_labels, written.displacement_mm,
        written.grid, written.mr_centroids_mm,
    )  # fmt: skip
    stored_case = load_patient(tmp_path / "p")
    np.testing.assert_array_equal(case.pair.moving.labels, stored_case.pair.moving.labels)
    np.testing.assert_array_equal(case.pair.fixed.labels, stored_case.pair.fixed.labels)
    np.testing.assert_allclose(case.pair.fixed.image, stored_case.pair.fixed.image, atol=1e-3)
    np.testing.assert_allclose(case.true_displacement_mm, stored_case.true_displacement_mm, atol=5e-3)
    with pytest.raises(BadInput, match="expected an image file, found nothing"):
        DATASETS.create("simulated", {"ct": tmp_path / "no.nii.gz", "labels": tmp_path / "labels.nii.gz"}).load(
            "simulated-000"
        )


def test_a_tilde_is_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = DATASETS.create("simulated", {"ct": "~/ct.nii.gz", "labels": "~/seg.nii.gz"})
    absent = dataset.fingerprint("simulated-000")
    with pytest.raises(BadInput, match=rf"{tmp_path}/ct.nii.gz: "):
        dataset.load("simulated-000")
    (tmp_path / "ct.nii.gz").write_bytes(b"x")
    assert dataset.fingerprint("simulated-000") != absent, "the fingerprint includes the files"


def test_check_reads_headers_and_ids_and_the_size_of_a_pair_is_estimated(tmp_path: Path, scan: ScanWithLabels) -> None:
    hu, labels, grid = scan
    write_image(tmp_path / "ct.nii.gz", hu, grid)
    write_labels(tmp_path / "labels.nii.gz", labels, grid)
    dataset = DATASETS.create("simulated", {"ct": tmp_path / "ct.nii.gz", "labels": tmp_path / "labels.nii.gz"})
    dataset.check("simulated-000")
    real = np.prod(dataset.load("simulated-000").pair.grid.shape)
    assert 0.6 < dataset.voxels("simulated-000") / real < 1.4
    write_labels(tmp_path / "labels.nii.gz", np.where(labels > 0, labels + 30, 0).astype(np.uint16), grid)
    with pytest.raises(BadInput, match="expected VerSe ids"):
        dataset.check("simulated-000")
    (tmp_path / "labels.nii.gz").unlink()
    with pytest.raises(BadInput, match="expected an image file, found nothing"):
        dataset.check("simulated-000")


def test_every_motion_of_a_spine_is_one_patient(tmp_path: Path) -> None:
    ct = tmp_path / "sub-7" / "ct.nii.gz"
    dataset = DATASETS.create("simulated", {"ct": ct, "labels": tmp_path / "seg.nii.gz", "count": 3})
    assert {dataset.group(case) for case in dataset.cases("test")} == {"sub-7/ct.nii.gz"}
