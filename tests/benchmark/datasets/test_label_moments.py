"""Moments of hard labels: kept where a threshold at one half loses them, and left alone on the label's own grid."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import shift as shifted

from benchmark.datasets.label_moments import keep_moments


def ellipsoid() -> np.ndarray:
    """One hot, float32, with a thin plate behind it."""
    z, y, x = np.meshgrid(*(np.arange(n) - n / 2 + 0.3 for n in (24, 40, 32)), indexing="ij")
    body = (z / 8) ** 2 + (y / 11) ** 2 + (x / 12) ** 2 < 1
    plate = (np.abs(x) < 1.2) & (np.abs(z) < 5) & (y > 0) & (y < 17)
    return (body | plate).astype(np.float32)


def moments(values: np.ndarray) -> tuple[float, np.ndarray]:
    """The sum and the centroid."""
    index = np.indices(values.shape).reshape(3, -1)
    return float(values.sum()), index @ values.ravel().astype(np.float64) / values.sum()


def test_labels_of_zeros_and_ones_do_not_change() -> None:
    soft = ellipsoid()
    assert keep_moments(soft) is soft


@pytest.mark.parametrize("by", [(0.3, 0.3, 0.3), (0, 0, 0.25), (0, 0.5, 0), (0.5, 0.5, 0.5), (0.1, 0.45, 0.2)])
def test_values_above_one_half_have_the_volume_and_the_centroid(by: tuple[float, float, float]) -> None:
    soft = np.clip(shifted(ellipsoid(), by, order=1), 0, 1)
    volume, centroid = moments(soft)
    found = keep_moments(soft)
    kept_volume, kept_centroid = moments(found > 0.5)
    assert found.dtype == np.float32 and found.min() >= 0 and found.max() <= 1
    assert kept_volume == pytest.approx(volume, rel=0.01)
    assert np.linalg.norm(kept_centroid - centroid) < 0.05
    lost_volume, left_centroid = moments(soft > 0.5)
    assert abs(lost_volume / volume - 1) > 0.01 or np.linalg.norm(left_centroid - centroid) > 0.05


def test_only_partial_voxels_change_by_less_than_one_half() -> None:
    soft = np.clip(shifted(ellipsoid(), (0.3, 0.2, 0.1), order=1), 0, 1)
    found = keep_moments(soft)
    whole = (soft == 0) | (soft == 1)
    assert np.array_equal(found[whole], soft[whole])
    assert np.abs(found - soft).max() < 0.5


@pytest.mark.parametrize("voxels", [1, 2, 9])
def test_a_label_of_a_few_voxels_is_not_lost_or_blown_up(voxels: int) -> None:
    one_hot = np.zeros((9, 9, 12), np.float32)
    one_hot.reshape(-1)[500 : 500 + voxels] = 1
    found = keep_moments(shifted(one_hot, (0.2, 0.2, 0.2), order=1)) > 0.5
    assert abs(int(found.sum()) - voxels) <= max(1, voxels // 2)


def test_no_label_stays_no_label() -> None:
    assert not keep_moments(np.zeros((3, 4, 5), np.float32)).any()
