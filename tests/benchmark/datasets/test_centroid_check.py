"""Annotated centroids of another part, frame or unit than the labels of their scan."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.patient_folder import write

from benchmark.datasets.centroid_check import check_centroids, check_inside
from benchmark.datasets.folders import load_patient, write_patient
from benchmark.datasets.io.centroids import Centroids
from benchmark.datasets.layouts import find_files
from benchmark.datasets.patients import LabelSettings, read_patient
from benchmark.datasets.preprocessing import centroids_mm
from benchmark.errors import BadInput
from methods.base import Grid

FILE = Path("mr_centroids.json")
GRID = Grid((60, 40, 30), (1.5, 1.5, 1.5), (-20.0, 15.0, 300.0))  # LPS: y runs to the back


def vertebrae() -> tuple[np.ndarray, np.ndarray]:
    """Three vertebrae with an arch behind the body, and the bodies alone."""
    labels = np.zeros(GRID.shape, np.uint16)
    for level, vertebra in enumerate((22, 21, 20)):
        z = 5 + 18 * level
        labels[z : z + 14, 6:18, 7:23] = vertebra
        labels[z + 3 : z + 11, 18:32, 12:18] = vertebra
    bodies = labels.copy()
    bodies[:, 18:] = 0
    return labels, bodies


def moved(points: Centroids, change: Callable[[np.ndarray], np.ndarray]) -> Centroids:
    return {v: np.asarray(change(p)) for v, p in points.items()}


WHOLE, BODIES = (centroids_mm(labels, GRID) for labels in vertebrae())


def test_the_marked_part_is_recognized() -> None:
    labels, _ = vertebrae()
    assert check_centroids(FILE, WHOLE, labels, GRID) == ("vertebrae", ())
    assert check_centroids(FILE, BODIES, labels, GRID) == ("bodies", ())
    assert check_centroids(FILE, moved(BODIES, lambda p: p + 1), labels, GRID) == ("bodies", ())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p: p * [-1, -1, 1], "fit them as RAS millimetres"),
        (GRID.to_indices_xyz, r"fit them as voxels \(x, y, z\)"),
        (lambda p: GRID.to_indices_xyz(p)[::-1], r"fit them as voxels \(z, y, x\)"),
        (lambda p: GRID.to_indices_xyz(p) * 1.5, "fit them as millimetres from the first voxel"),
        (lambda p: p + np.array([0, 0, 90]), "give the file that belongs to this scan"),
    ],
)
@pytest.mark.parametrize("points", [WHOLE, BODIES], ids=["vertebrae", "bodies"])
def test_another_frame_or_unit_is_refused(
    points: Centroids, change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    with pytest.raises(BadInput, match=rf"mr_centroids\.json: expected .*{words}"):
        check_centroids(FILE, moved(points, change), vertebrae()[0], GRID)


def test_points_beside_the_labels_are_a_doubt_unless_they_are_trusted() -> None:
    aside = moved(WHOLE, lambda p: p + np.array([12, 0, 0]))
    _, (doubt,) = check_centroids(FILE, aside, vertebrae()[0], GRID)
    assert "points lie 12 mm off the centroids" in doubt
    assert check_centroids(FILE, aside, vertebrae()[0], GRID, trusted=True) == ("vertebrae", ())


def test_another_frame_near_the_isocentre_is_a_doubt() -> None:
    """Points 3 mm aside of the isocentre lie 6 mm off in the other frame: too near to refuse them."""
    labels, _ = vertebrae()
    x, y = GRID.origin_mm[:2] - np.mean(list(WHOLE.values()), axis=0)[:2] + [3, 0]
    grid = replace(GRID, origin_mm=(float(x), float(y), 300.0))
    whole = centroids_mm(labels, grid)
    _, (doubt,) = check_centroids(FILE, moved(whole, lambda p: p * [-1, -1, 1]), labels, grid)
    assert "mm off the labels, and 0 mm as RAS millimetres: convert them if they are" in doubt


def test_a_single_point_off_its_label_is_a_doubt() -> None:
    labels, _ = vertebrae()
    for points, part in ((WHOLE, "vertebrae"), (BODIES, "bodies")):
        found, (doubt,) = check_centroids(FILE, {**points, 21: points[21] + [0, 0, 27]}, labels, GRID)
        assert found == part
        assert "points of 1 of 3 vertebrae lie off their labels: 21 (27 mm); pre-aligned on them" in doubt


@pytest.mark.parametrize("with_points_of_the_ct", [True, False])
def test_without_labels_the_points_of_the_ct_say_which_part_is_marked(
    tmp_path: Path, with_points_of_the_ct: bool
) -> None:
    labels, _ = vertebrae()
    folder = patient(tmp_path / "p1", labels)
    for scan in ("mr", "ct")[: 1 + with_points_of_the_ct]:
        text = json.dumps({str(v): list(p) for v, p in BODIES.items()})
        (folder / f"{scan}_centroids.json").write_text(text, encoding="utf-8")
    read = read_patient("p1", replace(find_files(folder), mr_labels=None), LabelSettings())
    if with_points_of_the_ct:
        assert read.notes == () and read.ct_centroids is not None
    else:
        (note,) = read.notes
        assert "taken for points of whole vertebrae, which cannot be checked without labels of this scan" in note


def test_without_labels_points_must_lie_in_the_scan() -> None:
    check_inside(FILE, WHOLE, GRID)
    with pytest.raises(BadInput, match="found most points outside; as RAS millimetres"):
        check_inside(FILE, moved(WHOLE, lambda p: p * [-1, -1, 1]), GRID)
    with pytest.raises(BadInput, match=r"found most points outside; as .*voxels"):
        check_inside(FILE, moved(WHOLE, GRID.to_indices_xyz), GRID)


def patient(folder: Path, mr_labels: np.ndarray) -> Path:
    """A patient whose scans lie on each other."""
    labels, _ = vertebrae()
    hu = np.random.default_rng(0).normal(-200, 50, GRID.shape) + 500.0 * (labels > 0)
    write_patient(folder, hu, labels, hu, mr_labels, None, GRID)
    return folder


def test_bodies_are_pre_aligned_with_bodies(tmp_path: Path) -> None:
    labels, _ = vertebrae()
    folder = patient(tmp_path / "p1", labels)
    (folder / "mr_centroids.json").write_text(json.dumps({str(v): list(p) for v, p in BODIES.items()}))
    case = load_patient(folder)
    moving, fixed = (centroids_mm(s.labels, s.grid) for s in (case.pair.moving, case.pair.fixed))
    np.testing.assert_allclose(moving[21], fixed[21], atol=0.8)
    assert len(case.notes) == 1 and "points mark vertebral bodies" in case.notes[0]


def test_mr_labels_of_bodies_alone_are_hinted_at(tmp_path: Path) -> None:
    labels, bodies = vertebrae()
    (note,) = load_patient(patient(tmp_path / "p1", bodies)).notes
    assert "like vertebral bodies alone; `evaluate: bodies`" in note
    assert load_patient(patient(tmp_path / "p2", labels)).notes == ()


def test_a_simulated_offset_is_no_doubt(tmp_path: Path) -> None:
    assert load_patient(write(tmp_path / "p1")).notes == ()
