"""Ranks and the Learn2Reg ranking: what failed, what is missing, and what a row that does nothing gains."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from reports.run_data import data_sets
from reports.stats.ranking import idle, learn2reg_scores, notes, ranked_values, ranking, ranks, uncounted_time


def test_learn2reg_scores_count_wins_and_share_places():
    base = np.random.default_rng(0).random(12)
    # Two that cannot be told apart, one clearly worse, one that has nothing.
    values = pd.DataFrame({"a": base + 1, "b": base + 1, "c": base, "none": np.nan})
    scores = learn2reg_scores(values, "higher")
    # Places 1 (c), 2.5 and 2.5 of three: 0.1 + 0.9 * 1.5 / 2. What was not measured is missing and not the worst.
    assert dict(scores) == pytest.approx({"a": 0.775, "b": 0.775, "c": 0.1, "none": math.nan}, nan_ok=True)
    assert learn2reg_scores(values, "lower")["c"] == 1


def test_the_ranking_is_the_geometric_mean_of_scores_best_first(ten_patients):
    order = ranking(ten_patients.data())
    scores = order.set_index("row")
    assert list(scores["dsc"][["pc", "VoxelMorph", "oc"]]) == pytest.approx([1, 0.55, 0.1])
    # Of three, two share the places that pc leaves: 1 and 2 of 3.
    assert list(scores["volume_change_pct"][["pc", "VoxelMorph", "oc"]]) == pytest.approx([1, 0.325, 0.325])
    assert scores.loc["pc", "score"] == pytest.approx((1 * 0.55 * 1 * 0.55) ** 0.25), "rigid DSC and time are alike"
    assert list(order["row"]) == ["pc", "VoxelMorph", "oc"] and "hd95_mm" not in order
    assert list(order["patients"]) == [10, 10, 10]


def test_networks_of_one_architecture_share_their_time(ten_patients):
    values = ranked_values(ten_patients.data(), "seconds")
    assert values.loc["p0"].tolist() == pytest.approx([7 / 3] * 3), "the mean of 2, 3 and 2 s"
    for i in range(10):
        ten_patients.cell("staring", f"p{i}", {20: (0.9, 0.9, 1.0)}, seconds=100.0)
    scores = ranking(ten_patients.data()).set_index("row")["seconds"]
    assert scores["Staring"] == pytest.approx(0.1) and scores["pc"] == scores["VoxelMorph"] == scores["oc"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"contended": True}, "Staring: no time of a patient on whom another row was timed"),
        ({"threads": 2}, "the rows were timed on different machines or with different threads"),
        ({"machine": "another"}, "the rows were timed on different machines or with different threads"),
        ({}, ""),
    ],
)
def test_time_counts_only_where_all_rows_were_timed_alike(ten_patients, change, why):
    for i in range(10):
        cell = {"seconds": 100.0, **(change if i == 0 else {})}
        ten_patients.cell("staring", f"p{i}", {20: (0.9, 0.9, 1.0)}, **cell)
    data = ten_patients.data()
    assert uncounted_time(data) == why
    assert ("seconds" in ranking(data)) == (why == "")
    assert (f"Time does not count in the ranking: {why}." in notes(data)) == (why != "")


def test_few_timed_patients_rank_no_times(ten_patients):
    run = ten_patients.run()
    run.cases["contended"] = run.cases["contended"].mask(~run.cases["case"].isin(["p0", "p1", "p2"]), True)
    assert uncounted_time(data_sets(run)[0]) == "3 patients were timed, and 6 are needed"


def test_a_failed_cell_ranks_last_on_its_patient(ten_patients):
    for i in range(10):
        status = "ok" if i < 6 else ("failed", "crashed", "timeout", "invalid")[i - 6]
        values = {20: (0.95, 0.95, 1.0)} if status == "ok" else {}
        ten_patients.cell("staring", f"p{i}", values, status=status)
        ten_patients.cell("mine", f"p{i}", {}, status="unavailable")
    data = ten_patients.data()
    found = ranks(data, "dsc")
    # The best of four on six patients, the last on four.
    assert found.patients == 10 and found.ranks["Staring"] == pytest.approx((6 * 1 + 4 * 4) / 10)
    assert "mine" not in found.ranks, "unavailable is not failed"
    assert "Staring" not in idle(data), "it does something where it does not fail"
    values = ranked_values(data, "volume_change_pct")
    assert (values["Staring"][6:] > values["oc"].max()).all(), "a lost cell is at the worse end of each column"
    order = ranking(data).set_index("row")
    assert math.isnan(order.loc["mine", "score"]) and order.loc["mine", "patients"] == 0


def test_a_row_that_always_failed_ranks_last(ten_patients):
    for i in range(10):
        ten_patients.cell("staring", f"p{i}", {}, status="crashed")
    order = ranking(ten_patients.data())
    assert order["row"].iloc[-1] == "Staring" and order["dsc"].iloc[-1] == pytest.approx(0.1)


def test_a_vertebra_that_vanished_counts_as_the_worst(ten_patients):
    for i in range(10):
        ten_patients.pair(f"p{i}", 21, (0.5, 0.9, 4.0))
        lost = (0.0, None, 100.0)
        ten_patients.cell("staring", f"p{i}", {20: (0.9, 0.96, 1.0), 21: lost if i == 0 else (0.9, 0.96, 1.0)})
    data = ten_patients.data()
    row = data.find_row("staring")
    assert data.values(row, "rigid_dsc")["p0", 21] == 0 and len(data.values(row, "rigid_dsc")) == 20
    assert ranked_values(data, "rigid_dsc").loc["p0", "Staring"] == pytest.approx(0.48)


def test_a_distance_that_a_lost_vertebra_lacks_is_the_worst(ten_patients):
    for i in range(10):
        measured = {20: (0.0, None, 100.0)} if i == 0 else {20: (0.9, 0.96, 1.0)}
        ten_patients.cell("staring", f"p{i}", measured)
    run = ten_patients.run()
    frame = run.vertebrae
    frame["hd95_mm"] = frame["hd95_mm"].mask(frame["dsc"] > 0, 3.0)
    values = ranked_values(data_sets(run)[0], "hd95_mm")
    assert values.loc["p0", "Staring"] > 3 and (values.loc["p0", ["VoxelMorph", "pc", "oc"]] == 3).all()


def test_a_row_that_does_nothing_gains_nothing(ten_patients):
    for i in range(10):
        ten_patients.cell("identity-plus", f"p{i}", {20: (0.5, 1.0, 0.0)}, seconds=0.01, sd_log_jacobian_l2r=0.0)
    data = ten_patients.data()
    assert idle(data) == ["identity-plus"]
    order = ranking(data)
    assert order["row"].iloc[-1] == "identity-plus"
    assert order.set_index("row").loc["identity-plus"].drop("patients").tolist() == pytest.approx([0.1] * 6)
    assert order.set_index("row").loc["pc", "volume_change_pct"] == 1, "the others are ranked without it"
    assert any("identity-plus: DSC is not shown to be above Initial's" in note for note in notes(data))


def test_what_was_not_run_is_missing(ten_patients):
    ten_patients.cell("staring", "p0", {20: (0.7, 0.8, 1.0)})
    values = ranked_values(ten_patients.data(), "dsc")
    assert len(values) == 10 and values["Staring"].notna().sum() == 1


def test_a_row_of_few_patients_is_not_ranked_since_it_could_win_nothing(ten_patients):
    for i in range(4):
        ten_patients.cell("staring", f"p{i}", {20: (0.99, 0.99, 0.1)})
    order = ranking(ten_patients.data()).set_index("row")
    assert math.isnan(order.loc["Staring", "score"]) and order.loc["Staring", "patients"] == 4
    assert order.loc["oc", "dsc"] == pytest.approx(0.1), "the others are ranked without it"
    assert ranks(ten_patients.data(), "dsc").patients == 10, "and their mean ranks too"
    said = notes(ten_patients.data())
    assert "Not ranked, since fewer than 6 patients were run: Staring (4)." in said
    assert not any("Staring: DSC is not shown" in note for note in said)


def test_motions_of_one_spine_are_ranked_once(empty):
    for i in range(8):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0), group=f"spine{i // 2}")
        for method, dsc in (("voxelmorph", 0.6), ("pc", 0.7), ("oc", 0.8)):
            empty.cell(method, f"p{i}", {20: (dsc, 0.9, 5.0)})
    assert ranks(empty.data(), "dsc").patients == 4


def test_an_oracle_is_not_ranked_and_its_time_hides_none(ten_patients):
    before = ranking(ten_patients.data())
    for i in range(10):
        ten_patients.cell("ceiling", f"p{i}", {20: (0.99, 1.0, 0.1)}, oracle=True, seconds=0.1, machine="another")
    pd.testing.assert_frame_equal(ranking(ten_patients.data()), before)
