"""A view of a run: its patients, and the frames that it does not change."""

from __future__ import annotations

import pandas as pd
import pytest

from reports.run_data import data_sets


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
