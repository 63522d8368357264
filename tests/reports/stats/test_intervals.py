"""Sign-flip intervals: their rate of false positives on simulated data, and small cases known by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from reports.stats.intervals import Difference, flip_mean, flip_ratio, mean_p, powerless, ratio_p

RNG = np.random.default_rng
# Differences whose mean is 0: normal, skewed (gamma, skewness 0.7), heavy-tailed (t, 3 degrees of freedom), tied.
NULLS = {
    "normal": lambda rng, size: rng.normal(size=size),
    "skewed": lambda rng, size: rng.gamma(8, size=size) - 8,
    "heavy-tailed": lambda rng, size: rng.standard_t(3, size=size),
    "tied": lambda rng, size: np.round(rng.normal(size=size) * 4) / 4,
}


def false_positives(interval, name: str, patients: int, runs: int = 3000) -> float:
    """The share of simulated data sets whose interval does not hold the true mean, 0."""
    drawn = NULLS[name](RNG(3), (runs, patients))
    found = [interval(differences, draws=1000) for differences in drawn]
    return float(np.mean([not f.low <= 0 <= f.high for f in found]))


@pytest.mark.parametrize("patients", [6, 10, 25])
@pytest.mark.parametrize("name", NULLS)
def test_one_null_effect_in_twenty_is_outside_its_interval(name, patients):
    assert false_positives(flip_mean, name, patients) == pytest.approx(0.05, abs=0.015)


def percentile_bootstrap(differences: np.ndarray, draws: int) -> Difference:
    drawn = differences[RNG(0).integers(len(differences), size=(draws, len(differences)))].mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Difference(differences.mean(), low, high, len(differences))


def test_the_percentile_bootstrap_has_twice_as_many_false_positives():
    assert false_positives(percentile_bootstrap, "normal", 6) > 0.1
    assert false_positives(percentile_bootstrap, "normal", 10) > 0.08


@pytest.mark.parametrize("patients", [6, 10, 25])
def test_a_null_speed_up_is_covered_too(patients):
    times = RNG(4).lognormal(1, 0.3, (2, 1000, patients))
    found = [flip_ratio(a, b, draws=1000) for a, b in zip(*times, strict=True)]
    assert np.mean([not f.low <= 1 <= f.high for f in found]) == pytest.approx(0.05, abs=0.015)


def test_the_interval_and_the_p_value_agree():
    compared = 0
    for differences in RNG(5).normal(0.5, 1, (200, 10)):
        found, p = flip_mean(differences), mean_p(differences)
        # p is a multiple of 2 / 1024, and the interval interpolates: at 0.05 they differ by less than one step.
        if not 0.048 < p < 0.052:
            assert (p < 0.05) == (found.low > 0 or found.high < 0)
            compared += 1
    assert compared > 190


def test_the_ends_are_interpolated_means_of_sets_of_patients():
    # 63 sets of six patients. 2.5 % of 64 gaps lie below 1.6: between the smallest mean, 0, and the next, {0, 1}.
    found = flip_mean(np.arange(6.0))
    assert found == pytest.approx((2.5, 0.6 * 0.5, 5 - 0.6 * 0.5, 6))


def test_a_constant_difference_has_an_interval_of_no_width():
    assert flip_mean(np.full(9, 0.125)) == pytest.approx((0.125, 0.125, 0.125, 9))
    assert flip_mean(np.full(9, 1e-17))[1:3] == (0, 0), "a difference by rounding alone is none"


def test_fewer_than_six_patients_have_no_interval():
    found = flip_mean(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert (found.mean, found.patients) == (pytest.approx(0.3), 5)
    assert math.isnan(found.low) and math.isnan(found.high), "the smallest p of five patients is 2 / 32"


@pytest.mark.filterwarnings("error")
def test_without_patients_there_is_no_value():
    nothing = flip_mean(np.array([]))
    assert nothing.patients == 0 and all(math.isnan(value) for value in nothing[:3])
    assert math.isnan(mean_p(np.array([])))


def test_the_interval_has_the_width_that_theory_gives():
    differences = RNG(5).normal(0.05, 0.1, 400)
    found = flip_mean(differences)
    half = 1.96 * differences.std() / 20
    assert found.low == pytest.approx(differences.mean() - half, abs=0.05 * half)
    assert found.high == pytest.approx(differences.mean() + half, abs=0.05 * half)


def test_the_same_seed_draws_the_same_interval():
    differences = RNG(6).normal(size=20)
    before = differences.copy()
    assert flip_mean(differences) == flip_mean(differences) != flip_mean(differences, seed=1)
    np.testing.assert_array_equal(differences, before)


def test_p_counts_the_arrangements_of_signs():
    # Of 2^6 arrangements one is as extreme on each side.
    assert mean_p(np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])) == pytest.approx(2 / 64)
    assert mean_p(np.zeros(8)) == 1
    assert mean_p(np.array([0.1, 0.2, 0.3]), value=0.2) == 1
    assert ratio_p(np.array([2.0, 4.0, 6.0]), np.array([1.0, 2.0, 3.0]), 1.0) == pytest.approx(2 / 8)


def test_few_patients_cannot_pass_the_correction_of_many_tests():
    said = "With 8 patients no p can be below 0.05 after the correction over 9 tests, so that nothing can be shown."
    assert powerless(9, 8) == said, "9 * 2 / 2^8 = 0.07"
    assert powerless(6, 8) == "" and powerless(0, 2) == ""


def test_a_ratio_weighs_patients_by_what_is_below():
    # Two vertebrae of 0.6 in three patients, and one of 0.9 in three.
    found = flip_ratio(np.array([1.2, 0.9] * 3), np.array([2.0, 1.0] * 3))
    assert found.mean == pytest.approx((3 * 1.2 + 3 * 0.9) / 9)
    assert found.low == pytest.approx(0.6) and found.high == pytest.approx(0.9)


def test_seeds_are_resampled_as_patients_are():
    # Two trainings 0 and 1 apart, on each of eight patients: sets of patients alone give no width.
    found = flip_mean(np.array([[0.0] * 8, [1.0] * 8]))
    assert found == pytest.approx((0.5, 0.0, 1.0, 8))
    assert mean_p(np.array([[0.0] * 8, [1.0] * 8])) > 0.2


def test_equal_seeds_give_no_smaller_p_than_one():
    differences = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6])
    assert mean_p(np.stack([differences] * 3)) == pytest.approx(mean_p(differences)) == pytest.approx(2 / 64)


def test_a_seed_without_a_value_does_not_count():
    found = flip_mean(np.array([[0.0] * 8, [np.nan] * 7 + [1.0]]))
    assert found.mean == pytest.approx(1 / 9)
