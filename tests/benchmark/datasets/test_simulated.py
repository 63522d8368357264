"""`simulate`: the phantom's motion and MR on a CT that someone brings. A phantom's CT stands in for it here."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import grey_dilation

from benchmark.datasets.folders import load_patient, write_patient
from benchmark.datasets.io.images import read_image, write_image, write_labels
from benchmark.datasets.phantom import Phantom
from benchmark.datasets.preprocessing import centroids_mm, pre_align
from benchmark.datasets.synthesis.from_ct import SimulatedPair, estimate_tissues, simulate
from benchmark.datasets.synthesis.motion import carry_image
from benchmark.datasets.vertebral_bodies import find_bodies
from benchmark.errors import BadInput
from methods.base import Grid, vertebra_ids
from methods.geometry import to_voxels
from methods.registry import DATASETS
from metrics.fields import jacobian, jacobian_determinant
from metrics.label_warping import warp_labels

Stored = tuple[np.ndarray, np.ndarray, Grid]


@pytest.fixture(scope="module")
def stored() -> Stored:
    """CT in HU with its labels, grown by a voxel in plane, so that facets touch as real ones do."""
    pair = Phantom("phantom", spacing_mm=2.0, vertebrae=3).load("phantom-0005").pair
    assert pair.moving.labels is not None
    labels = np.where(pair.moving.labels > 0, pair.moving.labels, grey_dilation(pair.moving.labels, (1, 3, 3)))
    return (pair.moving.image * 3000 - 1000).astype(np.float32), labels, pair.grid


@pytest.fixture(scope="module")
def pair(stored: Stored) -> SimulatedPair:
    return simulate(*stored, seed=1)


def check(pair: SimulatedPair, least_dsc: float = 0.75) -> None:
    grid, ids = pair.grid, list(vertebra_ids(pair.ct_labels))
    assert grid.spacing_mm == (1.0, 1.0, 1.0)
    u = to_voxels(pair.displacement_mm, grid)
    assert jacobian_determinant(jacobian(u)).min() > 0.1
    warped = warp_labels(torch.from_numpy(pair.ct_labels.astype(np.int32)), u, ids).numpy()
    for v in ids:
        a, b = warped == v, pair.mr_labels == v
        assert least_dsc < 2 * (a & b).sum() / (a.sum() + b.sum()) <= 1
    assert (pair.mr_labels != pair.ct_labels).any() and (pair.mr_labels[pair.core] > 0).all()
    assert (warped == pair.mr_labels)[pair.core].mean() > 0.98
    ct = carry_image(pair.ct_hu, pair.displacement_mm, grid)
    body = ct > -300
    assert np.corrcoef(ct[body], pair.mr[body])[0, 1] ** 2 < 2 / 3
    assert np.isfinite(pair.mr).all() and pair.mr.min() >= 0


def test_a_pair_has_a_truth_that_explains_it(pair: SimulatedPair) -> None:
    check(pair)


def test_exact_labels_on_request(stored: Stored, pair: SimulatedPair) -> None:
    """Else the MR has what a reader would draw, as far from the truth as the phantom's."""
    exact = simulate(*stored, seed=1, exact_labels=True)
    check(exact, 0.95)
    np.testing.assert_array_equal(exact.displacement_mm, pair.displacement_mm)
    overlap = ((exact.mr_labels == pair.mr_labels) & (exact.mr_labels > 0)).sum()
    assert 0.8 < 2 * overlap / ((exact.mr_labels > 0).sum() + (pair.mr_labels > 0).sum()) < 0.97


def test_a_field_of_view_that_ends_within_a_vertebra_cuts_image_and_label(
    stored: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmark.datasets.synthesis.annotation.CUT_SHARE", 1.0)
    pair = simulate(*stored, seed=1, weighting="T2")
    seen, labelled = (np.nonzero(a.any(axis=(1, 2)))[0] for a in (pair.mr, pair.mr_labels))
    assert 0 < seen[0] <= labelled[0] and labelled[-1] <= seen[-1] < len(pair.mr) - 1


def test_the_same_seed_gives_the_same_pair(stored: Stored, pair: SimulatedPair) -> None:
    again = simulate(*stored, seed=1)
    for name in ("ct_hu", "ct_labels", "mr", "mr_labels", "displacement_mm", "core"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pair, name))


def test_marrow_is_bright_and_discs_are_darker(stored: Stored, pair: SimulatedPair) -> None:
    inside = np.zeros(pair.mr.shape, bool)
    found = find_bodies(pair.mr_labels, pair.grid)
    assert [b.id for b in found] == list(vertebra_ids(stored[1])), "from the top down"
    middles = []
    for body in found:
        z, y, x = np.round(pair.grid.to_indices_xyz(body.centre_mm)[::-1]).astype(int)
        inside[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] = True
        middles.append((z, y, x))
    discs = [np.mean([a, b], axis=0).astype(int) for a, b in pairwise(middles)]
    disc = np.median([pair.mr[z, y - 2 : y + 3, x - 2 : x + 3].mean() for z, y, x in discs])
    assert pair.mr[inside].mean() > 1.2 * disc


def test_an_empty_label_map_is_refused(stored: Stored) -> None:
    with pytest.raises(BadInput, match="expected at least one vertebra"):
        simulate(stored[0], np.zeros_like(stored[1]), stored[2], 0)


def test_one_vertebra_is_enough(stored: Stored) -> None:
    ct, labels, grid = stored
    one = np.where(labels == labels.max(), labels, 0)
    bodies = find_bodies(one, grid)
    assert len(bodies) == 1
    assert estimate_tissues(ct, one, grid, bodies).bone_mm.min() < -2


@pytest.mark.parametrize("name", ["verse005", "verse008"])
def test_real_scans(shared_data: Path, name: str) -> None:
    from benchmark.datasets.io.images import read_image, read_labels

    ct, grid = read_image(shared_data / "verse" / f"sub-{name}_ct.nii.gz")
    labels, _ = read_labels(shared_data / "verse" / f"sub-{name}_seg-vert_msk.nii.gz")
    check(simulate(ct, labels, grid, 1))


def test_pre_alignment_on_the_annotated_centroids_changes_nothing(pair: SimulatedPair) -> None:
    to_moving = pre_align(pair.mr_centroids_mm, centroids_mm(pair.ct_labels, pair.grid))
    corners = np.array([[-50.0, -50, -50], [50, 50, 50], [50, -50, 100]])
    np.testing.assert_allclose(to_moving(corners), corners, atol=0.5)
    exact = pre_align(centroids_mm(pair.mr_labels, pair.grid), centroids_mm(pair.ct_labels, pair.grid))
    assert np.abs(exact(corners) - corners).max() > 1, "exact centroids would fit the rigid part of the motion away"


def test_the_dataset_gives_what_the_command_writes(tmp_path: Path, stored: Stored) -> None:
    hu, labels, grid = stored
    write_image(tmp_path / "ct.nii.gz", hu, grid)
    write_labels(tmp_path / "labels.nii.gz", labels, grid)
    dataset = DATASETS.create(
        "simulated", {"ct": tmp_path / "ct.nii.gz", "labels": tmp_path / "labels.nii.gz", "count": 2}
    )
    assert dataset.cases("test") == ["simulated-000", "simulated-001"] and dataset.cases("train") == []
    case = dataset.load("simulated-001")
    ct, read_grid = read_image(tmp_path / "ct.nii.gz")
    # As read: a file keeps the origin in single precision.
    written = simulate(ct, labels, read_grid, 1)
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


def test_a_file_in_the_home_folder_may_be_named_by_its_tilde(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    dataset = DATASETS.create("simulated", {"ct": "~/ct.nii.gz", "labels": "~/seg.nii.gz"})
    absent = dataset.fingerprint("simulated-000")
    with pytest.raises(BadInput, match=rf"{tmp_path}/ct.nii.gz: "):
        dataset.load("simulated-000")
    (tmp_path / "ct.nii.gz").write_bytes(b"x")
    assert dataset.fingerprint("simulated-000") != absent, "a file that came is noticed"
