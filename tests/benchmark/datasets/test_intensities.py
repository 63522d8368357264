"""The range of an MR does not depend on single voxels or padding, and a plain MR keeps the paper's range."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, zoom

from benchmark.datasets import phantom
from benchmark.datasets.intensities import mr_range, scale_ct, scale_mr
from benchmark.datasets.io.images import read_image


def test_intensities_by_hand() -> None:
    scaled = scale_ct(np.array([-3000.0, -1000, 500, 2000, 3000], np.float32))
    assert scaled.dtype == np.float32
    np.testing.assert_allclose(scaled, [0, 0, 0.5, 1, 1])
    np.testing.assert_allclose(scale_mr(np.array([20.0, 30, 60], np.float32)), [0, 0.25, 1])


def plain(shape: tuple[int, int, int] = (40, 48, 44)) -> np.ndarray:
    """Tissue of 200 to 900 with noise, in air of 0 to about 20, float32."""
    rng = np.random.default_rng(0)
    z, y, x = np.indices(shape)
    inside = (y - 24) ** 2 + (x - 22) ** 2 < 18**2
    tissue = 500 + 300 * np.sin(z / 5) * np.cos(y / 6) + rng.normal(0, 12, shape)
    return np.where(inside, tissue, np.abs(rng.normal(0, 6, shape))).astype(np.float32)


def with_values(values: list[float], seed: int = 1) -> np.ndarray:
    """`plain` with values at scattered voxels."""
    image = plain()
    places = np.random.default_rng(seed).choice(image.size, len(values), replace=False)
    image.ravel()[places] = values
    return image


def padded(value: float, columns: int = 6) -> np.ndarray:
    image = plain()
    image[:, :columns] = value
    return image


SPOILED = {
    "one hot voxel": with_values([2e6]),
    "a voxel of twice the maximum": with_values([1800.0]),
    "one cold voxel": with_values([-3e4]),
    "a hundred spikes": with_values(np.linspace(1500, 60000, 100).tolist()),
    "spikes on both sides": with_values([65535.0] * 40 + [-32768.0] * 40),
    "padding of -32768": padded(-32768),
    "padding of -1024": padded(-1024),
    "padding of -1": padded(-1),
    "padding and a hot voxel": np.where(plain() == plain().max(), np.float32(4e4), padded(-2000)),
    "more padding than image": padded(-32768, 30),
}


@pytest.mark.parametrize("name", SPOILED)
def test_outliers_and_padding_do_not_move_the_range(name: str) -> None:
    spoiled, untouched = SPOILED[name], SPOILED[name] == plain()
    np.testing.assert_allclose(scale_mr(spoiled)[untouched], scale_mr(plain())[untouched], atol=0.02)
    assert scale_mr(spoiled).min() == 0 and scale_mr(spoiled).max() == 1
    assert scale_mr(spoiled)[spoiled < 0].max(initial=0) == 0


def test_a_padding_blurred_by_resampling_does_not_count() -> None:
    image = zoom(padded(-32768), 1.3, order=1)
    low, high = mr_range(image)
    assert low == pytest.approx(0, abs=1) and high == pytest.approx(plain().max(), rel=0.1)


def test_the_tail_of_an_artefact_is_limited() -> None:
    """A bright spot with smooth flanks has no gap; the tissue keeps a third of the range at least."""
    image = plain()
    spot = np.zeros_like(image)
    spot[20, 24, 22] = 1
    image += (gaussian_filter(spot, 1) / gaussian_filter(spot, 1).max() * 40000).astype(np.float32)
    assert np.percentile(scale_mr(image), 98) > 0.33


def test_a_plain_mr_has_the_range_from_least_to_greatest() -> None:
    assert mr_range(plain()) == (plain().min(), plain().max())


def test_standardised_intensities_keep_their_range() -> None:
    image = ((plain() - plain().mean()) / plain().std()).astype(np.float32)
    assert mr_range(image) == (image.min(), image.max())


def test_few_voxels_or_two_values_have_the_range_from_least_to_greatest() -> None:
    assert mr_range(np.array([20.0, 30, 600], np.float32)) == (20, 600)
    binary = np.zeros((20, 20, 20), np.float32)
    binary[5:15, 5:15] = 7
    assert mr_range(binary) == (0, 7)


@pytest.mark.parametrize("weighting", ["T1", "T2"])
def test_phantoms_keep_the_range_from_least_to_greatest(weighting: str, monkeypatch: pytest.MonkeyPatch) -> None:
    acquired = []
    monkeypatch.setattr(phantom, "scale_mr", lambda image: acquired.append(image) or scale_mr(image))
    phantom.make_patient("phantom-900", 900, 2.0, 2, weighting)
    assert mr_range(acquired[0]) == (acquired[0].min(), acquired[0].max())


@pytest.mark.parametrize("name", ["mr/VB3_01_mr.nii.gz", "tptbox/sub-mri_label-6_T2w.nii.gz"])
def test_real_mrs_keep_the_range_from_least_to_greatest(shared_data: Path, name: str) -> None:
    image, _ = read_image(shared_data / name)
    assert mr_range(image) == (image.min(), image.max())
