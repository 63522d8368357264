"""Rows against each other: what is paired, what is a family, what counts as better."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.run_data import data_sets
from reports.stats.comparisons import against_baseline, differences, intervals, mean_interval
from reports.stats.ranking import ranks


def test_better_and_worse_follow_the_metrics_good_side(ten_patients):
    tests = against_baseline(ten_patients.data()).set_index(["row", "metric"])
    assert tests.loc[("pc", "dsc"), "better"] and not tests.loc[("oc", "dsc"), "better"]
    assert tests.loc[("pc", "dsc"), "mean"] == pytest.approx(0.05)
    assert tests.loc[("pc", "volume_change_pct"), "better"], "less volume change is better"
    assert not tests.loc[("pc", "seconds"), "better"], "slower is worse"
    assert tests["better"].isna()[("oc", "volume_change_pct")], "no difference is neither"
    assert "Initial" not in tests.index.get_level_values("row")


def test_holms_family_is_one_metric_over_the_rows(ten_patients):
    tests = against_baseline(ten_patients.data()).set_index(["row", "metric"])
    # All ten differences on one side: p = 2 / 2^10, of two rows in the family.
    assert tests.loc[("pc", "dsc"), "p"] == pytest.approx(2 / 1024)
    assert tests.loc[("pc", "dsc"), "p_holm"] == pytest.approx(4 / 1024)


def test_without_the_baseline_nothing_is_compared(two_patients):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0)})
    assert against_baseline(two_patients.data(), "staring").empty


def test_an_interval_belongs_to_the_mean_that_the_table_prints(empty):
    # Three patients with two vertebrae of 0.7 and 0.8, three with one of 0.9: 7.2 / 9 over vertebrae.
    for i in range(6):
        dscs = {20: 0.7, 21: 0.8} if i < 3 else {20: 0.9}
        for vertebra in dscs:
            empty.pair(f"p{i}", vertebra, (0.5, 0.9, 4.0))
        empty.cell("voxelmorph", f"p{i}", {vertebra: (dsc, 0.9, 5.0) for vertebra, dsc in dscs.items()})
    line = intervals(empty.data()).set_index(["row", "metric"]).loc[("VoxelMorph", "dsc")]
    assert (line["mean"], line["low"], line["high"]) == (pytest.approx(0.8), pytest.approx(0.75), pytest.approx(0.9))
    assert line["patients"] == 6


def test_motions_of_one_spine_are_one_patient(empty):
    # Six patients; one has five motions, all of them 0.4 better, where the others are 0.1 better.
    for i in range(10):
        case = f"p{i}"
        empty.pair(case, 20, (0.5, 0.9, 4.0), group="spine" if i < 5 else case)
        empty.cell("voxelmorph", case, {20: (0.5, 0.9, 5.0)})
        empty.cell("pc", case, {20: (0.9 if i < 5 else 0.6, 0.9, 5.0)})
    data = empty.data()
    row, base = (data.find_row(name) for name in ("pc", "voxelmorph"))
    assert len(differences(data, row, base, "dsc")) == 6
    line = against_baseline(data).set_index(["row", "metric"]).loc[("pc", "dsc")]
    assert (line["mean"], line["patients"]) == (pytest.approx((0.4 + 5 * 0.1) / 6), 6)
    assert mean_interval(data, row, "dsc").patients == 6


def test_times_of_another_machine_are_not_compared(ten_patients):
    run = ten_patients.run()
    run.cases["machine"] = run.cases["machine"].mask(run.cases["method"] == "pc", "another")
    data = data_sets(run)[0]
    tests = against_baseline(data)
    assert set(tests.loc[tests["metric"] == "seconds", "row"]) == {"oc"}
    assert "pc" in set(tests.loc[tests["metric"] == "dsc", "row"]) and ranks(data, "seconds") is None


@pytest.mark.parametrize(("failing", "better"), [("pc", None), ("voxelmorph", True)])
def test_failed_patients_count_as_the_worst_of_the_row_that_failed(empty, failing, better):
    """pc is better on 14 patients. Ten more of its failures take that from it; ten of the baseline's do not."""
    for i in range(24):
        empty.pair(f"p{i:02d}", 20, (0.5, 0.9, 4.0))
        for method, dsc in (("voxelmorph", 0.6), ("pc", 0.65 + 0.001 * i)):
            failed = i >= 14 and method == failing
            empty.cell(
                method, f"p{i:02d}", {} if failed else {20: (dsc, 0.9, 5.0)}, status="failed" if failed else "ok"
            )
    line = against_baseline(empty.data()).set_index(["row", "metric"]).loc[("pc", "dsc")]
    assert line["patients"] == 14 and line["mean"] == pytest.approx(0.0565)
    assert (line["better"] is pd.NA) if better is None else line["better"]


def test_the_trainings_of_a_network_are_counted(two_patients):
    row = two_patients.data().find_row("voxelmorph")
    assert two_patients.data().trainings(row) == 1
    two_patients.cell("voxelmorph", "a", {20: (0.7, 0.8, 1.0)}, seed=1)
    assert two_patients.data().trainings(row) == 2
    two_patients.cell("staring", "a", {20: (0.7, 0.8, 1.0)})
    assert two_patients.data().trainings(two_patients.data().find_row("staring")) == 0


def test_a_seed_that_lost_a_patient_does_not_move_the_mean_from_the_tables(empty):
    for case, dsc in (("a", 0.9), ("b", 0.5)):
        empty.pair(case, 20, (0.5, 0.9, 4.0))
        empty.cell("voxelmorph", case, {20: (dsc, 0.9, 5.0)})
    empty.cell("voxelmorph", "a", {20: (0.9, 0.9, 5.0)}, seed=1)
    data = empty.data()
    assert mean_interval(data, data.find_row("voxelmorph"), "dsc").mean == pytest.approx(0.7), (
        "not (0.9 + 0.9 + 0.5) / 3"
    )


def test_a_training_without_a_result_is_none(two_patients):
    row = two_patients.data().find_row("voxelmorph")
    two_patients.cell("voxelmorph", "a", {}, seed=1, status="unavailable")
    assert two_patients.data().trainings(row) == 1


def test_the_mark_has_the_sign_of_the_tested_ranks_and_not_of_an_outlier(empty):
    for i in range(24):
        case = f"p{i:02d}"
        empty.pair(case, 20, (0.5, 0.9, 4.0))
        empty.cell("voxelmorph", case, {20: (0.6, 0.9, 5.0)}, seconds=2.0)
        empty.cell("pc", case, {20: (0.6, 0.9, 5.0)}, seconds=1.9 - 0.001 * i if i else 12.0)
    line = against_baseline(empty.data()).set_index(["row", "metric"]).loc[("pc", "seconds")]
    assert line["mean"] > 0 and line["effect"] < 0 and line["p_holm"] < 0.05
    assert line["better"], "23 of 24 patients are quicker"


def test_an_interval_redraws_the_seeds_that_a_row_was_trained_from(ten_patients):
    for i in range(10):
        ten_patients.cell("pc", f"p{i}", {20: (0.85 + 0.01 * i, 0.9, 3.0)}, seed=1)
    tests = against_baseline(ten_patients.data()).set_index(["row", "metric"])
    # Better by 0.05 with one seed and by 0.25 with the other, on every patient.
    line = tests.loc[("pc", "dsc")]
    assert (line["mean"], line["low"], line["high"]) == (pytest.approx(0.15), pytest.approx(0.05), pytest.approx(0.25))
    # Patients alone, 0.01 apart, would move the mean by some 0.02; the seeds lie 0.1 to either side.
    found = intervals(ten_patients.data()).set_index(["row", "metric"]).loc[("pc", "dsc")]
    assert found["mean"] == pytest.approx(0.795) and found["low"] < 0.72 and found["high"] > 0.87
