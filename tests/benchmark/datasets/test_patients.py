"""Optional files and label settings of a patient."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.patient_folder import GRID, SHIFT_MM, arrays, write

from benchmark.datasets.folders import Folders, load_patient
from benchmark.datasets.io.centroids import read_centroids
from benchmark.datasets.io.images import write_labels
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.evaluation import evaluate
from methods.base import Registration


def test_annotated_centroids_are_used(tmp_path: Path) -> None:
    """The annotation is 4 mm behind the centroids of the mask; so are the pre-aligned CT labels."""
    folder = write(tmp_path / "p1")
    annotated = centroids_mm(arrays()["mr_labels"], GRID)
    content = {str(v): list(p + np.array([0, 4, 0])) for v, p in annotated.items()}
    (folder / "mr_centroids.json").write_text(json.dumps(content))
    assert sorted(read_centroids(folder / "mr_centroids.json")) == [20, 21, 22]
    pair = load_patient(folder).pair
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (pair.moving, pair.fixed))
    np.testing.assert_allclose(moving[21] - fixed[21], (0, 4, 0), atol=0.05)


def test_verse_centroids_of_both_scans_pre_align(tmp_path: Path) -> None:
    """The centroids of the MR are shifted 4 mm back; those of the CT are the ones of its mask."""
    folder = write(tmp_path / "sub-1", displacement_mm=None)
    for name, labels, back in (("sub-1", "ct_labels", 0), ("sub-1_mod-T1w", "mr_labels", 4)):
        index = {v: GRID.to_indices_xyz(p) for v, p in centroids_mm(arrays()[labels], GRID).items()}
        entries = [{"label": v, "X": i[0], "Y": i[1] + back, "Z": i[2]} for v, i in index.items()]
        file = folder / f"{name}_seg-subreg_ctd.json"
        file.write_text(json.dumps([{"direction": ["L", "P", "S"]}, *entries]))
    pair = load_patient(folder).pair
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (pair.moving, pair.fixed))
    np.testing.assert_allclose(moving[21] - fixed[21], (0, 4, 0), atol=0.05)


def test_each_scan_may_have_its_own_label_map(tmp_path: Path) -> None:
    """The CT in TotalSegmentator's ids (L1-L3 = 31, 30, 29), the MR in SPIDER's (5, 4, 3) with a disc."""
    ct, mr = (arrays()[k].astype(int) for k in ("ct_labels", "mr_labels"))
    mr[0, 0, 0] = 25 - 204  # a disc, 204
    write(tmp_path / "p1", ct_labels=np.where(ct > 0, 51 - ct, 52), mr_labels=np.where(mr != 0, 25 - mr, 0))
    settings = {"ct": "totalsegmentator", "mr": "spider"}
    dataset = Folders("folders", dir=tmp_path, label_map=settings)
    for scan in (dataset.load("p1").pair.fixed, dataset.load("p1").pair.moving):
        assert set(np.unique(scan.labels)) == {0, 20, 21, 22}
    own_map = tmp_path / "map.yaml"
    own_map.write_text("31: 20\n")
    mapped = Folders("folders", dir=tmp_path, label_map={"ct": str(own_map), "mr": "spider"})
    before = mapped.fingerprint("p1")
    assert set(np.unique(mapped.load("p1").pair.moving.labels)) == {0, 20}
    own_map.write_text("30: 20\n")
    assert mapped.fingerprint("p1") != before, "another map gives another fingerprint"


def test_landmarks_give_an_error_after_pre_alignment(tmp_path: Path) -> None:
    """Both landmarks have an error of (3, 0, 4) mm; pre-alignment removes the shift between the scans."""
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


def test_the_setting_evaluate_compares_bodies_alone(tmp_path: Path) -> None:
    folder = write(tmp_path / "p1")
    subregions = np.where(arrays()["ct_labels"] == 21, 49, np.where(arrays()["ct_labels"] > 0, 41, 0))
    write_labels(folder / "ct_subregions.nii.gz", subregions, GRID)
    case = Folders("folders", dir=tmp_path, evaluate="bodies").load("p1")
    assert set(np.unique(case.compared_labels)) == {0, 21}
    assert set(np.unique(case.pair.moving.labels)) == {0, 20, 21, 22}
    assert load_patient(folder).moving_compared is None
    with pytest.raises(ValueError, match="evaluate"):
        Folders("folders", dir=tmp_path, evaluate="body")
