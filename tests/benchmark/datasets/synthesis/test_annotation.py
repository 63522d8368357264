"""Drawn labels: volume bias, surface error, and the end of the field of view."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.synthesis import annotation
from benchmark.datasets.synthesis.acquisition import thick_slices
from benchmark.datasets.synthesis.annotation import View, draw_labels, draw_view
from benchmark.datasets.synthesis.random import PortableRng
from methods.base import Grid

GRID = Grid((64, 64, 64))
WHOLE_VIEW = View(0, 64, 4.0)


def two_vertebrae() -> np.ndarray:
    """Two balls of 14 mm radius as bodies, each with a thin plate behind it as a process."""
    labels = np.zeros(GRID.shape, np.uint16)
    z, y, x = np.indices(GRID.shape)
    for vertebra, middle in ((20, 47), (21, 16)):
        labels[(z - middle) ** 2 + (y - 20) ** 2 + (x - 32) ** 2 < 14**2] = vertebra
        labels[(abs(z - middle) < 5) & (y > 30) & (y < 56) & (abs(x - 32) < 1)] = vertebra
    return labels


def volumes(labels: np.ndarray) -> np.ndarray:
    return np.bincount(labels.ravel(), minlength=22)[20:22]


def test_an_mr_has_its_nearest_slice_beyond_its_field_of_view() -> None:
    image = np.random.default_rng(0).random(GRID.shape, np.float32)
    view = View(4, 50, 4.0)
    inside, extended = view.inside(GRID.shape), view.extend(image.copy())
    assert WHOLE_VIEW.inside(GRID.shape) is None
    assert inside is not None and inside[:, 0, 0].nonzero()[0].tolist() == list(range(4, 50))
    np.testing.assert_array_equal(extended[inside], image[inside])
    np.testing.assert_array_equal(extended[[0, 3, 50, 63]], image[[4, 4, 49, 49]])


def test_the_volume_bias_is_shared_by_the_vertebrae_of_a_patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(annotation, "VERTEBRA_BIAS", 0.0)
    true = volumes(two_vertebrae())
    ratios = []
    for seed in range(30):
        drawn = draw_labels(two_vertebrae(), (20, 21), GRID, WHOLE_VIEW, PortableRng(seed))
        ratio = volumes(drawn) / true
        assert ratio[0] == pytest.approx(ratio[1], abs=0.01)
        ratios.append(ratio[0] - 1)
    assert np.mean(ratios) == pytest.approx(0, abs=0.03)
    assert np.std(ratios) == pytest.approx(annotation.PATIENT_BIAS, rel=0.4)


def test_the_surface_has_an_error_and_thin_processes_lose_their_tips() -> None:
    exact = two_vertebrae()
    drawn = draw_labels(exact, (20, 21), GRID, WHOLE_VIEW, PortableRng(0))
    overlap = 2 * ((drawn == 20) & (exact == 20)).sum() / ((drawn == 20).sum() + (exact == 20).sum())
    assert 0.8 < overlap < 0.95
    tip = np.index_exp[:, 45:56]
    assert (drawn[tip] > 0).sum() < 0.6 * (exact[tip] > 0).sum()


def test_labels_are_constant_within_a_slice() -> None:
    """Voxels along x that belong to the same slice have the same label."""
    drawn = draw_labels(two_vertebrae(), (20, 21), GRID, WHOLE_VIEW, PortableRng(0))
    back = thick_slices(64, 1.0, 4.0, nearest=True)
    same = [(back[i] == back[i + 1]).all() for i in range(63)]
    assert 0.6 < np.mean(same) < 0.9
    for i in np.nonzero(same)[0]:
        np.testing.assert_array_equal(drawn[:, :, i], drawn[:, :, i + 1])


def test_nothing_is_drawn_outside_the_field_of_view() -> None:
    drawn = draw_labels(two_vertebrae(), (20, 21), GRID, View(10, 50, 4.0), PortableRng(0))
    assert drawn[10:50].any() and not drawn[:10].any() and not drawn[50:].any()


def test_the_field_of_view_ends_within_a_vertebra_in_some_patients() -> None:
    exact = two_vertebrae()
    views = [draw_view(exact, (20, 21), PortableRng(seed)) for seed in range(200)]
    cut = [view for view in views if view.stop < 64]
    assert len(cut) / 200 == pytest.approx(annotation.CUT_SHARE, abs=0.06)
    shares = [(exact[: view.stop] == 20).sum() / (exact == 20).sum() for view in cut]
    low, high = annotation.CUT_INSIDE
    assert min(shares) > low - 0.05 and max(shares) < high + 0.05
    assert all(2.7 <= view.thickness_mm <= 5 for view in views)
