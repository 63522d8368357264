"""A view of a run: its patients, and the frames that it does not change."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from reports.run_data import Row, data_sets


def test_common_patients_are_those_that_every_row_with_a_result_has(empty):
    for i in range(10):
        case = f"p{i}"
        empty.pair(case, 20, (0.5, 0.9, 4.0))
        empty.cell("voxelmorph", case, {20: (0.6, 0.9, 5.0)})
        empty.cell("staring", case, {20: (0.7, 0.8, 1.0)}, status="ok" if i < 4 else "timeout")
        empty.cell("volume", case, {}, status="unavailable")
    run = empty.run()
    before = [frame.copy(deep=True) for frame in (run.pairs, run.vertebrae, run.cases)]
    common = data_sets(run)[0].common_patients()
    assert sorted(set(common.pairs["case"])) == ["p0", "p1", "p2", "p3"] == sorted(set(common.cases["case"]))
    assert set(common.vertebrae["case"]) == {"p0", "p1", "p2", "p3"} and common.patients == ["p0", "p1", "p2", "p3"]
    for frame, copy in zip((run.pairs, run.vertebrae, run.cases), before, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


def test_values_are_computed_once(two_patients):
    data = two_patients.data()
    assert data.vertebra_values is data.vertebra_values and data.rows is data.rows
    row = data.find_row("voxelmorph")
    assert data.by_seed(row, "dsc") is data.by_seed(row, "dsc")


def test_initial_comes_from_the_pairs_and_lost_cells_have_no_values(two_patients):
    two_patients.cell("oc", "a", {20: (0.0, 0.0, 99.0)}, status="failed")
    data = two_patients.data()
    assert list(data.values(data.rows[0], "dsc")) == [0.5, 0.6, 0.7]
    assert [row.label for row in data.rows] == ["Initial", "VoxelMorph", "oc"]
    assert [row.label for row in data.measured_rows] == ["Initial", "VoxelMorph"]
    assert list(data.lost_cells["method"]) == ["oc"]


def test_the_identity_is_averaged_over_the_devices_of_initial(two_patients):
    two_patients.cell("initial", "a", {20: (0.65, 1.0, 0.0), 21: (0.55, 1.0, 0.0)}, device="cuda", folding_voxels=0)
    values = two_patients.data().identity_values["vertebra"].set_index(["case", "vertebra"])["dsc"]
    assert values.to_dict() == pytest.approx({("a", 20): 0.6, ("a", 21): 0.55, ("b", 20): 0.55})


def test_motions_of_a_spine_are_one_patient_with_one_value(empty):
    for case, dsc in (("a-0", 0.6), ("a-1", 0.8), ("b", 0.9)):
        empty.pair(case, 20, (0.5, 0.9, 4.0), group=case[0])
        empty.cell("voxelmorph", case, {20: (dsc, 0.9, 5.0)})
    data = empty.data()
    row = data.find_row("voxelmorph")
    assert data.groups == {"a-0": "a", "a-1": "a", "b": "b"} and data.independent_patients == 2
    assert data.by_patient(row, "dsc").to_dict() == pytest.approx({"a": 0.7, "b": 0.9})
    assert data.by_case(row, "dsc").to_dict() == pytest.approx({"a-0": 0.6, "a-1": 0.8, "b": 0.9})


def test_a_run_of_an_earlier_version_has_a_patient_per_case(two_patients):
    run = two_patients.run()
    data = data_sets(replace(run, pairs=run.pairs.drop(columns="group")))[0]
    assert data.groups == {"a": "a", "b": "b"}


def test_a_row_of_another_name_may_be_a_network(two_patients):
    two_patients.cell("heavy", "a", {20: (0.7, 0.8, 1.0)})
    run = two_patients.run()
    methods = [{"method": "pc", "name": "heavy"}, {"method": "staring", "name": "slow"}]
    data = data_sets(replace(run, config={"methods": methods, "seed": 0}))[0]
    assert "heavy" in data.networks and "slow" not in data.networks
    assert data.trainings(data.find_row("heavy")) == 1


@pytest.fixture
def with_oracle(ten_patients):
    """An oracle that is better than every method, on all patients but one, timed on another machine."""
    for i in range(9):
        ten_patients.cell("ceiling", f"p{i}", {20: (0.99, 1.0, 0.1)}, oracle=True, seconds=0.1, machine="another")
    return ten_patients.data()


def test_an_oracle_is_in_the_table_and_in_no_comparison(with_oracle):
    assert [row.method for row in with_oracle.rows] == ["initial", "voxelmorph", "pc", "oc"]
    assert with_oracle.table_rows == [*with_oracle.rows, Row("ceiling", "cpu", "ceiling", oracle=True)]
    assert with_oracle.find_row("ceiling") is None
    assert set(with_oracle.compared_cases["method"]) == {"voxelmorph", "pc", "oc"}


def test_an_oracle_without_a_result_takes_no_patient_from_the_common_ones(with_oracle):
    assert len(with_oracle.common_patients().patients) == 10


def test_a_run_of_an_earlier_version_has_no_oracle(ten_patients):
    data = ten_patients.data()
    assert replace(data, cases=data.cases.drop(columns="oracle")).oracles == frozenset()
