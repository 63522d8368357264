"""Bootstrap, tests, ranks and scores, on cases whose answer is known by hand or from the literature."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from reports.frames import seed_columns
from reports.stats.intervals import Difference, flip_mean
from reports.stats.tests import (
    friedman,
    holm,
    paired,
    signed_rank,
)


def frame(values: dict[str, dict[str, list[float | None]]]) -> pd.DataFrame:
    """method -> patient -> DSC of vertebrae 1, 2, ..."""
    rows = [
        {"method": method, "case": case, "vertebra": vertebra, "dsc": dsc}
        for method, patients in values.items()
        for case, dscs in patients.items()
        for vertebra, dsc in enumerate(dscs, 1)
    ]
    return pd.DataFrame(rows).astype({"dsc": "Float64"})


def compared(values: pd.DataFrame, method: str, other: str) -> Difference:
    """Method minus other in DSC, paired by vertebra, averaged by patient, with its interval."""
    keys = [key for key in ("dataset", "case", "vertebra") if key in values]

    def of(name: str) -> pd.DataFrame:
        chosen = values[values["method"] == name].astype({"dsc": float})
        return seed_columns(chosen.assign(seed=chosen.get("seed", 0)), keys, "dsc")

    return flip_mean(paired(of(method), of(other)).to_numpy().T)


def test_patients_weigh_alike_however_many_vertebrae_they_have():
    values = frame({"new": {"a": [0.6, 0.6, 0.6], "b": [0.9]}, "old": {"a": [0.5, 0.5, 0.5], "b": [0.5]}})
    # 0.1 for a, 0.4 for b: 0.25; over vertebrae it would be 0.7 / 4.
    assert compared(values, "new", "old").mean == pytest.approx(0.25)


def test_the_interval_is_over_patients_and_not_over_vertebrae():
    # Patients 0 to 5, each with 100 vertebrae: test_intervals has the same interval for six values. Over 600 vertebrae
    # it would be about 2.5 +- 0.14.
    new = {str(patient): [float(patient)] * 100 for patient in range(6)}
    result = compared(frame({"new": new, "old": {case: [0.0] * 100 for case in new}}), "new", "old")
    assert result == pytest.approx((2.5, 0.3, 4.7, 6))


def test_only_vertebrae_that_both_measured_are_compared():
    values = frame({"new": {"a": [0.6, None], "b": [0.7], "c": [0.9]}, "old": {"a": [0.5, 0.9], "b": [0.5], "d": [0]}})
    result = compared(values, "new", "old")
    assert (result.mean, result.patients) == (pytest.approx(0.15), 2)


def test_patients_of_two_data_sets_may_share_a_name():
    values = pd.concat([frame({"new": {"a": [dsc]}, "old": {"a": [0.0]}}) for dsc in (0.2, 0.4)])
    values["dataset"] = ["x", "x", "y", "y"]
    result = compared(values, "new", "old")
    assert (result.mean, result.patients) == (pytest.approx(0.3), 2)


def trained(values: dict[str, dict[int, dict[str, float]]]) -> pd.DataFrame:
    """method -> seed -> patient -> DSC of its one vertebra"""
    rows = [
        {"method": method, "seed": seed, "case": case, "vertebra": 20, "dsc": dsc}
        for method, seeds in values.items()
        for seed, patients in seeds.items()
        for case, dsc in patients.items()
    ]
    return pd.DataFrame(rows)


def test_seeds_are_resampled_as_patients_are():
    # The two trainings are 0 and 1 apart from the baseline, on each patient: sets of patients alone give no width.
    old = {case: 0.1 * number for number, case in enumerate("abcdef")}
    values = trained({"new": {0: old, 1: {case: value + 1 for case, value in old.items()}}, "old": {0: old}})
    assert compared(values, "new", "old") == pytest.approx((0.5, 0.0, 1.0, 6))
    assert compared(values, "old", "new") == pytest.approx((-0.5, -1.0, 0.0, 6))


def test_trainings_of_one_seed_are_compared_with_each_other():
    values = trained({
        "new": {0: {"a": 0.5, "b": 0.6}, 1: {"a": 0.7, "b": 0.8}, 2: {"a": 0.0, "b": 0.0}},
        "old": {0: {"a": 0.4, "b": 0.5}, 1: {"a": 0.6, "b": 0.7}},
    })  # fmt: skip
    result = compared(values, "new", "old")
    assert (result.mean, result.patients) == (pytest.approx(0.1), 2)


def test_without_a_seed_in_common_means_over_seeds_are_compared():
    values = trained({
        "new": {0: {"a": 0.5, "b": 0.6}, 1: {"a": 0.7, "b": 0.8}},
        "old": {2: {"a": 0.2, "b": 0.3}, 3: {"a": 0.4, "b": 0.5}},
    })  # fmt: skip
    result = compared(values, "new", "old")
    assert (result.mean, result.patients) == (pytest.approx(0.3), 2)


def test_a_patient_that_a_training_lost_counts_for_the_others_alone():
    values = trained({"new": {0: {"a": 0.5, "b": 0.7}, 1: {"a": 0.9}}, "old": {0: {"a": 0.5, "b": 0.5}}})
    assert compared(values, "new", "old").mean == pytest.approx((0.0 + 0.2 + 0.4) / 3)


@pytest.mark.filterwarnings("error")
def test_without_patients_there_is_no_figure_and_with_one_no_interval():
    nothing = compared(frame({"new": {"a": [0.6]}, "old": {"b": [0.5]}}), "new", "old")
    assert nothing.patients == 0
    assert all(math.isnan(value) for value in nothing[:3])
    one = compared(frame({"new": {"a": [0.75]}, "old": {"a": [0.5]}}), "new", "old")
    assert (one.mean, one.patients) == (0.25, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_the_signed_rank_test_is_wilcoxons_own_small_sample():
    # Five positive differences: of 2^5 signs one is as extreme on each side, p = 2 / 32.
    result = signed_rank(np.array([0.1, 0.2, 0.3, 0.4, 0.5]))
    assert (result.p, result.effect, result.patients) == (pytest.approx(2 / 32), 1.0, 5)
    # Ranks 1 to 4, the largest negative: R+ = 6, R- = 4, effect (6 - 4) / 10; P(R <= 4) = 7 / 16.
    result = signed_rank(np.array([1.0, 2.0, 3.0, -4.0]))
    assert (result.p, result.effect) == (pytest.approx(14 / 16), pytest.approx(0.2))


@pytest.mark.filterwarnings("error")
def test_without_a_difference_p_is_1_and_without_patients_there_is_none():
    assert signed_rank(np.array([0.0, 1e-17, 0.0])) == (1.0, 0.0, 3)
    assert signed_rank(np.array([])).patients == 0


def test_holm_steps_down_and_ignores_missing_values():
    # Holm 1979: smallest times 3, next times 2, last times 1, each at least as large as the one before.
    assert holm([0.01, math.nan, 0.04, 0.03]) == pytest.approx([0.03, math.nan, 0.06, 0.06], nan_ok=True)
    assert len(holm([])) == 0


def test_friedman_ranks_the_better_end_first():
    values = pd.DataFrame({"good": [0.9, 0.8, 0.9], "fair": [0.7, 0.7, 0.8], "bad": [0.1, 0.2, 0.3]})
    found = friedman(values, "higher")
    assert found is not None and list(found.ranks) == [1, 2, 3] and found.patients == 3
    # chi2 = 12 / (3 * 3 * 4) * (3^2 + 6^2 + 9^2) - 3 * 3 * 4 = 6 on 2 degrees of freedom: exp(-3).
    assert found.p == pytest.approx(math.exp(-3))
    assert list(friedman(values, "lower").ranks) == [3, 2, 1]
    assert friedman(values[["good", "bad"]], "higher") is None, "two rows are no field"
    assert friedman(values * 0, "higher") is None


def test_friedman_drops_patients_that_lack_a_row():
    values = pd.DataFrame({"a": [1.0, 2, 3, math.nan], "b": [2.0, 3, 4, 0], "c": [3.0, 4, 5, 0]})
    assert friedman(values, "lower").patients == 3
