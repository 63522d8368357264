"""Padding is told from what a scanner measured."""

from __future__ import annotations

import numpy as np
import pytest

from benchmark.datasets.field_of_view import seen_voxels

SHAPE = (24, 26, 28)


def noise() -> np.ndarray:
    return np.random.default_rng(0).normal(50, 10, SHAPE).astype(np.float32)


@pytest.mark.parametrize("modality", ["ct", "mr", "cbct"])
def test_an_image_without_padding_is_all_seen(modality: str) -> None:
    assert seen_voxels(noise(), modality) is None


@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_values_below_minus_1500_hu_are_padding(padding: float) -> None:
    image = noise()
    y, x = np.indices(SHAPE[1:])
    circle = (y - 12.5) ** 2 + (x - 13.5) ** 2 < 12**2
    image[:, ~circle] = padding
    np.testing.assert_array_equal(seen_voxels(image, "ct"), np.broadcast_to(circle, SHAPE))


def test_air_is_seen() -> None:
    image = noise()
    image[:, :10] -= 1050
    assert seen_voxels(image, "ct") is None


@pytest.mark.parametrize("modality", ["ct", "mr"])
@pytest.mark.parametrize("value", [0, -1024, 400])
def test_slabs_of_one_value_at_the_faces_are_padding(modality: str, value: float) -> None:
    image, expected = noise(), np.ones(SHAPE, bool)
    image[:3], expected[:3] = value, False
    image[..., -1], expected[..., -1] = value, False
    np.testing.assert_array_equal(seen_voxels(image, modality), expected)


def test_the_constant_corners_of_a_rotated_mr_are_padding() -> None:
    z, y, x = np.indices(SHAPE)
    corner = (y + x < 18) | (z + x > 42)
    image = np.where(corner, np.float32(0), noise())
    assert np.mean(seen_voxels(image, "mr") == ~corner) > 0.998


def test_quantised_air_of_an_mr_is_seen() -> None:
    image = noise()
    image[:, :10] = np.random.default_rng(1).integers(0, 3, (24, 10, 28))
    assert seen_voxels(image, "mr") is None


def test_a_dark_hole_inside_an_mr_is_seen() -> None:
    image = noise()
    image[8:16, 8:16, 8:16] = 0
    assert seen_voxels(image, "mr") is None


def test_an_image_of_one_value_is_all_seen() -> None:
    assert seen_voxels(np.full(SHAPE, 3, np.float32), "mr") is None


def test_a_ct_of_padding_alone_is_not_seen() -> None:
    seen = seen_voxels(np.full(SHAPE, -2000, np.float32), "ct")
    assert seen is not None and not seen.any()
