"""Pairs simulated from a CT with labels; the CT of a phantom is the input here."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from support.phantom_ct import ct_with_touching_labels

from benchmark.datasets.io.images import read_image
from benchmark.datasets.preprocessing import centroids_mm, pre_align
from benchmark.datasets.synthesis.from_ct import SimulatedPair, estimate_tissues, simulate
from benchmark.datasets.synthesis.motion import warp_image
from benchmark.datasets.vertebral_bodies import find_bodies
from benchmark.errors import BadInput
from methods.base import Grid, vertebra_ids
from methods.geometry import to_voxels
from metrics.fields import jacobian, jacobian_determinant
from metrics.label_warping import warp_labels

ScanWithLabels = tuple[np.ndarray, np.ndarray, Grid]


@pytest.fixture(scope="module")
def scan() -> ScanWithLabels:
    """HU, labels and grid."""
    return ct_with_touching_labels()


@pytest.fixture(scope="module")
def pair(scan: ScanWithLabels) -> SimulatedPair:
    return simulate(*scan, seed=1)


def check(pair: SimulatedPair, least_dsc: float = 0.75) -> None:
    """The displacement explains the labels and folds nowhere but where bones slide; MR is no function of CT."""
    grid, ids = pair.grid, list(vertebra_ids(pair.ct_labels))
    assert grid.spacing_mm == (1.0, 1.0, 1.0)
    u = to_voxels(pair.displacement_mm, grid)
    warped = warp_labels(torch.from_numpy(pair.ct_labels.astype(np.int32)), u, ids).numpy()
    determinant = jacobian_determinant(jacobian(u))[0].numpy()
    # On a surface on which bones slide the displacement jumps, and few voxels beside it may fold.
    assert (determinant > 0.1).mean() > 0.9999 and determinant[pair.core].min() > 0.1
    for v in ids:
        a, b = warped == v, pair.mr_labels == v
        assert least_dsc < 2 * (a & b).sum() / (a.sum() + b.sum()) <= 1
    assert (pair.mr_labels != pair.ct_labels).any() and (pair.mr_labels[pair.core] > 0).all()
    assert (warped == pair.mr_labels)[pair.core].mean() > 0.98
    ct = warp_image(pair.ct_hu, pair.displacement_mm, grid)
    body = ct > -300
    assert np.corrcoef(ct[body], pair.mr[body])[0, 1] ** 2 < 2 / 3
    assert np.isfinite(pair.mr).all() and pair.mr.min() >= 0


def test_the_true_displacement_explains_the_pair(pair: SimulatedPair) -> None:
    check(pair)


def test_exact_labels_replace_the_drawn_ones(scan: ScanWithLabels, pair: SimulatedPair) -> None:
    """Drawn labels differ from the exact ones as much as in the phantom."""
    exact = simulate(*scan, seed=1, exact_labels=True)
    check(exact, 0.95)
    np.testing.assert_array_equal(exact.displacement_mm, pair.displacement_mm)
    overlap = ((exact.mr_labels == pair.mr_labels) & (exact.mr_labels > 0)).sum()
    assert 0.8 < 2 * overlap / ((exact.mr_labels > 0).sum() + (pair.mr_labels > 0).sum()) < 0.97


def test_the_field_of_view_cuts_image_and_labels(scan: ScanWithLabels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmark.datasets.synthesis.annotation.CUT_SHARE", 1.0)
    pair = simulate(*scan, seed=1, weighting="T2")
    imaged, labelled = (np.nonzero(a.any(axis=(1, 2)))[0] for a in (pair.mr, pair.mr_labels))
    assert 0 < imaged[0] <= labelled[0] and labelled[-1] <= imaged[-1] < len(pair.mr) - 1


def test_the_same_seed_gives_the_same_pair(scan: ScanWithLabels, pair: SimulatedPair) -> None:
    again = simulate(*scan, seed=1)
    for name in ("ct_hu", "ct_labels", "mr", "mr_labels", "displacement_mm", "core"):
        np.testing.assert_array_equal(getattr(again, name), getattr(pair, name))


def test_marrow_is_bright_and_discs_are_darker(scan: ScanWithLabels, pair: SimulatedPair) -> None:
    inside = np.zeros(pair.mr.shape, bool)
    bodies = find_bodies(pair.mr_labels, pair.grid)
    assert [b.id for b in bodies] == list(vertebra_ids(scan[1])), "from the top down"
    centres = []
    for body in bodies:
        z, y, x = np.round(pair.grid.to_indices_xyz(body.centre_mm)[::-1]).astype(int)
        inside[z - 3 : z + 4, y - 3 : y + 4, x - 3 : x + 4] = True
        centres.append((z, y, x))
    discs = [np.mean([a, b], axis=0).astype(int) for a, b in pairwise(centres)]
    disc = np.median([pair.mr[z, y - 2 : y + 3, x - 2 : x + 3].mean() for z, y, x in discs])
    assert pair.mr[inside].mean() > 1.2 * disc


def test_an_empty_label_map_is_refused(scan: ScanWithLabels) -> None:
    with pytest.raises(BadInput, match="expected at least one vertebra"):
        simulate(scan[0], np.zeros_like(scan[1]), scan[2], 0)


def test_tissues_are_estimated_around_one_vertebra(scan: ScanWithLabels) -> None:
    ct, labels, grid = scan
    one = np.where(labels == labels.max(), labels, 0)
    bodies = find_bodies(one, grid)
    assert len(bodies) == 1
    assert estimate_tissues(ct, one, grid, bodies).bone_mm.min() < -2


@pytest.mark.parametrize("name", ["verse005", "verse008"])
def test_a_pair_is_simulated_from_a_real_ct(shared_data: Path, name: str) -> None:
    from benchmark.datasets.io.images import read_labels

    ct, grid = read_image(shared_data / "verse" / f"sub-{name}_ct.nii.gz")
    labels, _ = read_labels(shared_data / "verse" / f"sub-{name}_seg-vert_msk.nii.gz")
    check(simulate(ct, labels, grid, 1))


def test_pre_alignment_on_the_annotated_centroids_is_the_identity(pair: SimulatedPair) -> None:
    to_moving = pre_align(pair.mr_centroids_mm, centroids_mm(pair.ct_labels, pair.grid))
    corners = np.array([[-50.0, -50, -50], [50, 50, 50], [50, -50, 100]])
    np.testing.assert_allclose(to_moving(corners), corners, atol=0.5)
    exact = pre_align(centroids_mm(pair.mr_labels, pair.grid), centroids_mm(pair.ct_labels, pair.grid))
    assert np.abs(exact(corners) - corners).max() > 1, "exact centroids would remove the rigid part of the motion"
