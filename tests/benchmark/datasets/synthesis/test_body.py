"""The region and the patient that a simulation takes from a CT."""

from __future__ import annotations

import numpy as np

from benchmark.datasets.preprocessing import centroids_mm
from benchmark.datasets.synthesis.body import crop_to_labels, outside_patient
from methods.base import Grid


def test_a_crop_keeps_positions_and_40_mm_around_the_labels() -> None:
    grid = Grid((80, 90, 30), (5.0, 1.0, 2.0), (3.0, -7.0, 100.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))
    labels = np.zeros(grid.shape, np.uint16)
    labels[40:44, 45:50, 14:18] = 22
    image = np.random.default_rng(0).random(grid.shape).astype(np.float32)
    cropped, ids, onto = crop_to_labels(image, labels, grid)
    assert onto.shape == cropped.shape == ids.shape == (44, 85, 20)
    np.testing.assert_allclose(centroids_mm(ids, onto)[22], centroids_mm(labels, grid)[22])
    np.testing.assert_array_equal(cropped[ids > 0], image[labels > 0])


def test_a_ct_without_surroundings_stays_whole() -> None:
    grid = Grid((20, 20, 20))
    labels = np.full(grid.shape, 22, np.uint16)
    assert crop_to_labels(labels, labels, grid)[2] == grid


def test_table_and_air_are_outside_and_gas_is_inside() -> None:
    hu = np.full((20, 80, 80), -1000.0)
    hu[:, 10:60, 10:70] = 40
    hu[:, 20:26, 20:26] = -950  # gas
    hu[:, 60:64, 5:75] = -120  # a table that touches the back
    hu[:, 70:74, 5:75] = 300  # and its shell
    labels = np.zeros(hu.shape, np.uint16)
    labels[:, 40:50, 30:40] = 22
    outside = outside_patient(hu, labels, 1.0)
    assert not outside[:, 16:54, 10:70].any() and not outside[:, 10:60, 16:64].any()
    assert outside[:, 70:74].all() and outside[:, :9].all() and outside[:, 60:64, 5:8].all()
