"""Labels and image of a scan lie on each other wherever the project resamples them.

The scans are made from their own labels, on oblique and anisotropic grids. A label map has whole voxels, so that its
centroid cannot follow the image exactly: 0.05 mm are allowed.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.phantom_ct import ct_with_touching_labels
from support.self_labelled import apart_mm, oblique_grid, self_labelled_ct

from benchmark.datasets.folders import load_patient
from benchmark.datasets.io.images import write_image, write_labels
from benchmark.datasets.simulated import Simulated
from methods.base import Case, Grid, Pair, Scan
from methods.voxelmorph.samples import make_sample

ALLOWED_MM = 0.05


def centroids_apart_mm(image: np.ndarray, labels: np.ndarray, grid: Grid) -> np.ndarray:
    """The vector (3,) between the centroids of all labels and of the bright image."""
    weight, points = np.clip(image - np.median(image), 0, None), grid.points_mm()
    of_labels = points[labels > 0].mean(axis=0)
    return np.average(points.reshape(-1, 3), axis=0, weights=weight.ravel()) - of_labels


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A patient in a folder; both scans show their labels and nothing else."""
    folder = tmp_path_factory.mktemp("patients") / "p1"
    folder.mkdir()
    ct_grid, mr_grid = oblique_grid(), oblique_grid((1.7, 0.7, 0.8), (-6, 4, -8), (3.6, -2.2, 5.1))
    for name, grid in (("ct", ct_grid), ("mr", mr_grid)):
        image, labels = self_labelled_ct(grid)
        write_image(folder / ("ct.nii.gz" if name == "ct" else "mr_t1.nii.gz"), image, grid)
        write_labels(folder / f"{name}_mask.nii.gz", labels, grid)
    return load_patient(folder)


@pytest.mark.parametrize("scan", ["fixed", "moving"])
def test_a_patient_folder(case: Case, scan: str) -> None:
    loaded: Scan = getattr(case.pair, scan)
    assert loaded.labels is not None
    assert apart_mm(loaded.image, loaded.labels, loaded.grid) < ALLOWED_MM


@pytest.mark.parametrize("factor", [2, 3])
def test_training_samples(factor: int) -> None:
    """On average over positions, since a label of few voxels is coarser than 0.05 mm."""
    rng = np.random.default_rng(0)
    apart = []
    for _ in range(60):
        grid = Grid((48, 48, 48), origin_mm=tuple(rng.uniform(-25, -22, 3)))
        labels = 20 * (((grid.points_mm() / (19.0, 14.0, 11.0)) ** 2).sum(-1) < 1).astype(np.uint16)
        image = (0.2 + 0.5 * (labels > 0)).astype(np.float32)
        sample = make_sample(Pair("p", Scan(image, None, grid), Scan(image, labels, grid)), factor)
        shrunk = Grid(sample.labels.shape, (factor, factor, factor))
        apart.append(centroids_apart_mm(sample.moving[0, 0].numpy(), sample.labels.numpy(), shrunk))
    assert np.linalg.norm(np.mean(apart, axis=0)) < ALLOWED_MM


def test_a_simulated_pair(tmp_path: Path) -> None:
    _, labels, stored = ct_with_touching_labels()
    turn = oblique_grid(angles=(5, -4, 6)).direction
    grid = Grid(stored.shape, (1.9, 2.0, 2.1), (0.37, -0.41, 0.29), turn)
    hu = (1000.0 * (labels > 0)).astype(np.float32)
    hu[:: hu.shape[0] - 1, :: hu.shape[1] - 1, :: hu.shape[2] - 1] = 1  # a face of one value would count as padding
    write_image(tmp_path / "ct.nii.gz", hu, grid)
    write_labels(tmp_path / "seg.nii.gz", labels, grid)
    case = Simulated("simulated", ct=tmp_path / "ct.nii.gz", labels=tmp_path / "seg.nii.gz").load("simulated-000")
    moving = case.pair.moving
    assert moving.labels is not None
    assert np.linalg.norm(centroids_apart_mm(moving.image, moving.labels, moving.grid)) < ALLOWED_MM
