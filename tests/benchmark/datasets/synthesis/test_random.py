"""Random numbers of patients: recorded values that every machine must reproduce."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from benchmark.datasets.synthesis.random import PortableRng, smooth_noise
from methods.base import Grid


def test_uniform_values_follow_from_the_raw_output() -> None:
    raw = np.random.PCG64([7, 1]).random_raw(3)
    expected = [((int(r) >> 12) + 0.5) / 2**52 for r in raw]
    assert PortableRng(7, 1).uniform(size=3).tolist() == expected
    one = PortableRng(7, 1)
    assert [one.uniform(2, 4) for _ in range(3)] == [2 + 2 * u for u in expected]


def test_recorded_values_are_reproduced() -> None:
    """Recorded on x86-64 with numpy 2; other machines and releases must give the same digits."""
    draws = PortableRng(0, 3)
    assert draws.uniform() == 0.8949727407898388
    assert draws.normal(size=(2, 2)).tolist() == [
        [1.0821828842163086, -0.46385765075683594],
        [-0.4764566421508789, -0.5268926620483398],
    ]
    assert [draws.choose([5, 6, 7], [0.2, 0.3, 0.5]) for _ in range(8)] == [7, 6, 7, 5, 5, 7, 7, 7]
    assert [draws.chance(0.3) for _ in range(8)] == [True, False, False, False, False, False, False, True]


def test_values_follow_their_distributions() -> None:
    draws = PortableRng(1)
    assert stats.kstest(draws.uniform(-1, 3, 20_000), "uniform", (-1, 4)).pvalue > 0.01
    assert stats.kstest(draws.normal(2, 0.5, 20_000), "norm", (2, 0.5)).pvalue > 0.01
    shares = np.bincount([draws.choose([0, 1, 2], [1, 0, 3]) for _ in range(4000)], minlength=3) / 4000
    np.testing.assert_allclose(shares, [0.25, 0, 0.75], atol=0.03)
    assert np.mean([draws.chance(0.1) for _ in range(4000)]) == pytest.approx(0.1, abs=0.02)


def test_noise_does_not_change_the_other_draws() -> None:
    plain, noisy = PortableRng(2), PortableRng(2)
    noise = noisy.noise((4, 5))
    assert noise.shape == (4, 5) and noise.dtype == np.float32
    assert plain.uniform() == noisy.uniform()


def test_smooth_noise_is_fixed_in_space() -> None:
    fine = smooth_noise(PortableRng(5), Grid((41, 41, 41)), 7.0)
    coarse = smooth_noise(PortableRng(5), Grid((21, 21, 21), (2.0, 2.0, 2.0)), 7.0)
    np.testing.assert_allclose(fine[::2, ::2, ::2], coarse, atol=1e-5)
    assert 0.7 < fine.std() < 1.3
