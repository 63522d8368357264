"""The paired bootstrap, on cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from reports.statistics import paired_bootstrap


def frame(values: dict[str, dict[str, list[float | None]]]) -> pd.DataFrame:
    """method -> patient -> DSC of vertebrae 1, 2, ..."""
    rows = [
        {"method": method, "case": case, "vertebra": vertebra, "dsc": dsc}
        for method, patients in values.items()
        for case, dscs in patients.items()
        for vertebra, dsc in enumerate(dscs, 1)
    ]
    return pd.DataFrame(rows).astype({"dsc": "Float64"})


def test_patients_weigh_alike_however_many_vertebrae_they_have():
    values = frame({"new": {"a": [0.6, 0.6, 0.6], "b": [0.9]}, "old": {"a": [0.5, 0.5, 0.5], "b": [0.5]}})
    # 0.1 for a, 0.4 for b: 0.25; over vertebrae it would be 0.7 / 4.
    assert paired_bootstrap(values, "dsc", "new", "old").mean == pytest.approx(0.25)


def test_a_constant_difference_has_an_interval_of_no_width():
    old = {str(case): [0.01 * case, 0.5] for case in range(6)}
    new = {case: [value + 0.125 for value in values] for case, values in old.items()}
    result = paired_bootstrap(frame({"new": new, "old": old}), "dsc", "new", "old")
    assert result == pytest.approx((0.125, 0.125, 0.125, 6))


def test_two_patients_are_drawn_as_patients():
    # Means of two draws from {0, 1}: 0 and 1 with probability 1/4 each, so the interval is [0, 1]. If the 200
    # vertebrae were drawn it would be about 0.5 +- 0.07.
    values = frame({"new": {"a": [0.0] * 100, "b": [1.0] * 100}, "old": {"a": [0.0] * 100, "b": [0.0] * 100}})
    result = paired_bootstrap(values, "dsc", "new", "old")
    assert (result.mean, result.low, result.high, result.patients) == (0.5, 0.0, 1.0, 2)


def test_the_interval_has_the_width_that_theory_gives():
    differences = np.random.default_rng(5).normal(0.05, 0.1, 400)
    values = frame({"new": {str(i): [d] for i, d in enumerate(differences)}, "old": {str(i): [0] for i in range(400)}})
    result = paired_bootstrap(values, "dsc", "new", "old")
    half = 1.96 * differences.std() / 20
    assert result.low == pytest.approx(differences.mean() - half, abs=0.05 * half)
    assert result.high == pytest.approx(differences.mean() + half, abs=0.05 * half)


def test_only_vertebrae_that_both_measured_are_compared():
    values = frame({"new": {"a": [0.6, None], "b": [0.7], "c": [0.9]}, "old": {"a": [0.5, 0.9], "b": [0.5], "d": [0]}})
    result = paired_bootstrap(values, "dsc", "new", "old")
    assert (result.mean, result.patients) == (pytest.approx(0.15), 2)


def test_patients_of_two_data_sets_may_share_a_name():
    values = pd.concat([frame({"new": {"a": [dsc]}, "old": {"a": [0.0]}}) for dsc in (0.2, 0.4)])
    values["dataset"] = ["x", "x", "y", "y"]
    result = paired_bootstrap(values, "dsc", "new", "old")
    assert (result.mean, result.patients) == (pytest.approx(0.3), 2)


@pytest.mark.filterwarnings("error")
def test_without_patients_there_is_no_figure_and_with_one_no_interval():
    nothing = paired_bootstrap(frame({"new": {"a": [0.6]}, "old": {"b": [0.5]}}), "dsc", "new", "old")
    assert nothing.patients == 0
    assert all(math.isnan(value) for value in nothing[:3])
    one = paired_bootstrap(frame({"new": {"a": [0.75]}, "old": {"a": [0.5]}}), "dsc", "new", "old")
    assert (one.mean, one.patients) == (0.25, 1)
    assert math.isnan(one.low)
    assert math.isnan(one.high)


def test_the_same_seed_draws_the_same_interval_and_the_input_is_left_alone():
    values = frame({"new": {str(i): [0.1 * i] for i in range(8)}, "old": {str(i): [0.3] for i in range(8)}})
    before = values.copy(deep=True)
    assert paired_bootstrap(values, "dsc", "new", "old") == paired_bootstrap(values, "dsc", "new", "old")
    assert paired_bootstrap(values, "dsc", "new", "old", seed=1) != paired_bootstrap(values, "dsc", "new", "old")
    pd.testing.assert_frame_equal(values, before)
