"""Table 1's numbers, derived by hand."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from benchmark.results.columns import all_declared
from reports.run_data import data_sets
from reports.table1.values import complete, mean_sd, table1, texts


def row_of(table: pd.DataFrame, label: str) -> pd.Series:
    return table.set_index("row").loc[label]


def printed(table: pd.DataFrame, key: str) -> dict[str, str]:
    return {name: text.text for name, text in zip(table["row"], texts(table, all_declared()[key]), strict=True)}


def best(table: pd.DataFrame, key: str) -> list[str]:
    return [name for name, text in zip(table["row"], texts(table, all_declared()[key]), strict=True) if text.best]


def test_label_columns_average_over_vertebrae_and_field_columns_over_patients(two_patients):
    row = row_of(table1(two_patients.data()), "VoxelMorph")
    # 0.7, 0.8, 0.9: mean 0.8, sample SD sqrt((0.01 + 0 + 0.01) / 2). By patient it would be (0.75 + 0.9) / 2 = 0.825.
    assert (row["dsc_mean"], row["dsc_sd"], row["dsc_n"]) == (pytest.approx(0.8), pytest.approx(0.1), 3)
    # 1, 3, 8: mean 4, sample SD sqrt((9 + 1 + 16) / 2).
    assert (row["volume_change_pct_mean"], row["volume_change_pct_sd"]) == (4.0, pytest.approx(13**0.5))
    # 2, 4: mean 3, sample SD sqrt(2).
    assert (row["seconds_mean"], row["seconds_sd"], row["seconds_n"]) == (3.0, pytest.approx(2**0.5), 2)
    assert (row["vertebrae"], row["patients"]) == (3, 2)


def test_initial_shows_the_ceiling_and_the_difference_of_the_labels_not_the_identity(two_patients):
    row = row_of(table1(two_patients.data()), "Initial")
    assert row["dsc_mean"] == pytest.approx(0.6)
    assert (row["rigid_dsc_mean"], row["rigid_dsc_sd"]) == (pytest.approx(0.9), pytest.approx(0.1))
    assert (row["volume_change_pct_mean"], row["volume_change_pct_sd"]) == (4.0, 2.0)
    assert row[["folding_voxels_mean", "sd_log_jacobian_mean", "seconds_mean"]].isna().all()


def test_initial_is_there_though_it_was_not_run(empty):
    empty.pair("a", 20, (0.5, 0.8, 2.0))
    empty.cell("oc", "a", {20: (0.7, 0.8, 1.0)})
    table = table1(empty.data())
    assert list(table["row"]) == ["Initial", "oc"]
    assert (row_of(table, "Initial")["dsc_mean"], row_of(table, "Initial")["missing"]) == (0.5, 0)


def test_a_null_is_left_out_and_never_counted_as_zero(two_patients):
    two_patients.cell("pc", "a", {20: (0.7, None, 1.0), 21: (0.8, 0.9, 3.0)}, folding_voxels=None, seconds=2.0)
    two_patients.cell("pc", "b", {20: (0.9, None, 8.0)}, folding_voxels=6, seconds=4.0)
    table = table1(two_patients.data())
    row = row_of(table, "pc")
    assert (row["rigid_dsc_mean"], row["rigid_dsc_n"]) == (0.9, 1)
    assert (row["folding_voxels_mean"], row["folding_voxels_n"]) == (6.0, 1)
    assert pd.isna(row["sd_log_jacobian_mean"])
    assert row["sd_log_jacobian_n"] == 0
    assert printed(table, "rigid_dsc")["pc"] == "0.90 n=1"
    assert printed(table, "sd_log_jacobian")["pc"] == "–"


@pytest.mark.parametrize("status", ["failed", "timeout", "crashed", "invalid"])
def test_a_lost_cell_is_counted_and_not_averaged(two_patients, status):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)}, seconds=2.0)
    two_patients.cell("oc", "b", {20: (0.0, 0.0, 99.0)}, status=status, seconds=600.0)
    row = row_of(table1(two_patients.data()), "oc")
    assert (row["dsc_mean"], row["seconds_mean"]) == (pytest.approx(0.7), 2.0)
    assert (row["vertebrae"], row["all_vertebrae"], row["patients"], row["all_patients"]) == (2, 3, 1, 2)
    assert (row["ok"], row[status], row["missing"]) == (1, 1, 0)


def test_a_cell_that_never_ran_is_missing(two_patients):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)})
    assert row_of(table1(two_patients.data()), "oc")["missing"] == 1


def test_a_patient_that_cannot_be_measured_is_nobodys_loss(two_patients):
    two_patients.pair("c", 0, (0.5, 0.5, 0.5), excluded_reason="no labels of the fixed scan")
    run = two_patients.run()
    run.pairs.loc[run.pairs["case"] == "c", "vertebra"] = pd.NA
    table = table1(data_sets(run)[0])
    assert set(table["all_patients"]) == {2} and not table["missing"].any()
    assert table.set_index("method").loc["initial", "patients"] == 2 and complete(table).all()


def test_a_row_of_failed_cells_stays_without_values(two_patients):
    for case in ("a", "b"):
        two_patients.cell("staring", case, {}, status="failed")
    table = table1(two_patients.data())
    assert printed(table, "dsc")["Staring"] == "–"
    assert row_of(table, "Staring")["failed"] == 2


def test_a_run_in_which_everything_failed_still_has_a_table(empty):
    empty.pair("a", 20, (0.5, 0.8, 2.0))
    empty.cell("oc", "a", {}, status="crashed")
    table = table1(empty.data())
    assert printed(table, "dsc") == {"Initial": "0.50", "oc": "–"}


def test_an_excluded_vertebra_counts_for_no_row(two_patients):
    two_patients.pair("b", 24, (0.0, 0.0, 90.0), excluded_reason="under 500 voxels")
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)})
    two_patients.cell("oc", "b", {20: (0.7, 0.8, 1.0), 24: (0.0, 0.0, 90.0)})
    table = table1(two_patients.data())
    assert row_of(table, "Initial")["dsc_mean"] == pytest.approx(0.6)
    assert row_of(table, "oc")["dsc_mean"] == pytest.approx(0.7)
    assert row_of(table, "oc")["all_vertebrae"] == 3


def test_time_leaves_out_cells_that_ran_beside_other_work(two_patients):
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)}, seconds=90.0, contended=True)
    two_patients.cell("oc", "b", {20: (0.7, 0.8, 1.0)}, seconds=3.0)
    table = table1(two_patients.data())
    assert (row_of(table, "oc")["seconds_mean"], row_of(table, "oc")["seconds_n"]) == (3.0, 1)
    assert printed(table, "seconds")["oc"] == "3.0 n=1"


def test_seeds_are_averaged_within_a_vertebra_before_they_are_counted(two_patients):
    for seed, dsc in enumerate((0.6, 0.8)):
        two_patients.cell("oc", "a", {20: (dsc, 0.8, 1.0), 21: (dsc, 0.8, 1.0)}, seed=seed, seconds=2.0)
        two_patients.cell("oc", "b", {20: (dsc, 0.8, 1.0)}, seed=seed, seconds=2.0)
    row = row_of(table1(two_patients.data()), "oc")
    assert (row["dsc_mean"], row["dsc_sd"], row["dsc_n"]) == (pytest.approx(0.7), pytest.approx(0.0), 3)


def test_two_devices_are_two_rows_and_one_device_is_not_named(two_patients):
    assert list(table1(two_patients.data())["row"]) == ["Initial", "VoxelMorph"]
    for case, vertebrae in {"a": (20, 21), "b": (20,)}.items():
        cell = dict.fromkeys(vertebrae, (0.5, 0.8, 1.0))
        two_patients.cell("voxelmorph", case, cell, device="cuda", seconds=0.5)
        two_patients.cell("staring", case, cell, seconds=50.0)
        two_patients.cell("staring", case, {}, device="cuda", status="unavailable")
    table = table1(two_patients.data(), with_paper=True)
    assert list(table["row"]) == ["Initial", "Staring@cpu", "VoxelMorph@cpu", "VoxelMorph@cuda"]
    assert row_of(table, "VoxelMorph@cuda")["dsc_mean"] == pytest.approx(0.5)
    # The paper timed on a CPU.
    assert row_of(table, "VoxelMorph@cpu")["paper_seconds_mean"] == 3.5
    assert pd.isna(row_of(table, "VoxelMorph@cuda")["paper_seconds_mean"])


def test_a_method_that_is_unavailable_everywhere_keeps_its_row(two_patients):
    for case in ("a", "b"):
        two_patients.cell("staring", case, {}, status="unavailable")
    row = row_of(table1(two_patients.data()), "Staring")
    assert (row["unavailable"], row["patients"]) == (2, 0)


def test_rows_stand_in_the_papers_order_kin_beside_kin_and_strangers_last(two_patients):
    for method in ("zebra", "aardvark", "pc+oc", "pc", "staring-fast", "staring", "rigid-dice"):
        two_patients.cell(method, "a", {20: (0.7, 0.8, 1.0)})
    rows = ["Initial", "Staring", "Staring fast", "VoxelMorph", "pc", "rigid dice", "pc+oc", "aardvark", "zebra"]
    table = table1(two_patients.data(), with_paper=True)
    assert list(table["row"]) == rows
    assert row_of(table, "rigid dice")["paper_rigid_dsc_sd"] == 0.05
    assert pd.isna(row_of(table, "Staring fast")["paper_dsc_mean"])
    assert pd.isna(row_of(table, "zebra")["paper_dsc_mean"])
    two_patients.asked = ("initial", "zebra", "pc", "voxelmorph")
    rows = ["Initial", "zebra", "pc", "VoxelMorph", "Staring", "Staring fast", "rigid dice", "pc+oc", "aardvark"]
    assert list(table1(two_patients.data())["row"]) == rows, "the order asked for comes first"


def test_data_sets_and_splits_are_never_averaged_together(two_patients):
    two_patients.pair("a", 20, (0.1, 0.8, 2.0), dataset="folders", split=None)
    two_patients.cell("voxelmorph", "a", {20: (0.2, 0.8, 1.0)}, dataset="folders", split=None)
    run = two_patients.run()
    run.vertebrae.loc[run.vertebrae["dataset"] == "folders", "split"] = pd.NA
    table = pd.concat([table1(data) for data in data_sets(run)])
    measured = table.set_index(["dataset", "row"])["dsc_mean"]
    assert measured["folders", "VoxelMorph"] == pytest.approx(0.2)
    assert measured["phantom", "VoxelMorph"] == pytest.approx(0.8)


def test_the_best_is_taken_as_printed_and_initial_does_not_compete(two_patients):
    # 0.804 prints as VoxelMorph's 0.80 does; Initial's ceiling of 0.90 is above oc's 0.85.
    for method, figures in {"oc": (0.804, 0.85, 9.0), "pc": (0.7, 0.85, 9.0)}.items():
        two_patients.cell(method, "a", {20: figures, 21: figures}, folding_voxels=0)
        two_patients.cell(method, "b", {20: figures}, folding_voxels=0)
    table = table1(two_patients.data())
    assert best(table, "dsc") == ["VoxelMorph", "oc"]
    assert best(table, "rigid_dsc") == ["VoxelMorph"]
    assert best(table, "volume_change_pct") == ["VoxelMorph"]
    assert best(table, "folding_voxels") == ["pc", "oc"]


def test_a_row_that_lost_a_patient_or_a_vertebra_is_never_the_best(two_patients):
    good = (0.99, 0.99, 0.1)
    two_patients.cell("oc", "a", {20: good, 21: good})
    two_patients.cell("pc", "a", {20: good, 21: (None, None, None)})
    two_patients.cell("pc", "b", {20: good})
    two_patients.cell("rigid-dice", "a", {20: (0.6, 0.6, 9.0), 21: (0.6, 0.6, 9.0)})
    two_patients.cell("rigid-dice", "b", {20: (0.6, 0.6, 9.0)})
    assert best(table1(two_patients.data()), "dsc") == ["VoxelMorph"]


def test_the_fastest_row_finished_every_patient_and_was_timed_on_as_many_as_others(two_patients):
    for method, seconds in {"oc": 1.0, "pc": 1.5, "staring": 9.0}.items():
        two_patients.cell(method, "a", {20: (0.7, 0.8, 1.0), 21: (0.7, 0.8, 1.0)}, seconds=seconds)
    two_patients.cell("pc", "b", {20: (0.7, 0.8, 1.0)}, seconds=99.0, contended=True)
    two_patients.cell("staring", "b", {20: (0.7, 0.8, 1.0)}, seconds=9.0)
    assert best(table1(two_patients.data()), "seconds") == ["VoxelMorph"], "pc has no time of b, who is larger"


def test_a_row_alone_is_not_called_the_best(two_patients):
    assert best(table1(two_patients.data()), "dsc") == []


@pytest.mark.parametrize(
    ("column", "mean", "sd", "text"),
    [
        ("dsc", 0.776, 0.1349, "0.78(0.13)"),
        ("volume_change_pct", 10.214, 8.906, "10.21(8.91)"),
        ("folding_voxels", 0.0, 0.0, "0"),
        ("folding_voxels", 18.3, 63.2, "18.30(63.20)"),
        ("folding_voxels", 1523.4, 842.6, "1523(843)"),
        ("seconds", 242.7, None, "243"),
        ("seconds", 3.52, 1.27, "3.5(1.3)"),
        ("seconds", 0.042, 0.001, "0.04(0.00)"),
        ("dsc", 0.0, 0.0, "0.00(0.00)"),
        ("dsc", 0.5, float("nan"), "0.50"),
        ("dsc", float("nan"), float("nan"), "–"),
        ("dsc", None, None, "–"),
    ],
)
def test_figures_are_printed_at_the_papers_precision(column, mean, sd, text):
    assert mean_sd(column, mean, sd) == text


def test_inputs_are_left_as_they_were(two_patients):
    run = two_patients.run()
    frames = (run.pairs, run.vertebrae, run.cases)
    before = [frame.copy(deep=True) for frame in frames]
    table1(data_sets(run)[0], with_paper=True)
    for frame, copy in zip(frames, before, strict=True):
        pd.testing.assert_frame_equal(frame, copy)


def test_the_best_value_of_a_column_is_no_oracles(ten_patients):
    for i in range(10):
        ten_patients.cell("ceiling", f"p{i}", {20: (0.99, 1.0, 0.1)}, oracle=True)
    data = ten_patients.data()
    table = table1(data)
    best = [text.best for text in texts(table, data.columns["dsc"])]
    assert list(table["method"]) == ["initial", "voxelmorph", "pc", "oc", "ceiling"]
    assert best == [False, False, True, False, False] and list(table["bracketed"]) == [False] * 4 + [True]


def test_columns_of_errors_are_shown_where_a_row_has_a_value(two_patients):
    def keys() -> list[str]:
        return [column.key for column in two_patients.data().table_columns]

    assert "tre_mm" not in keys() and "landmark_tre_mm" not in keys()
    two_patients.cell("oc", "a", {20: (0.7, 0.8, 1.0)}, {"tre_mm": 1.5})
    assert "tre_mm" in keys() and "landmark_tre_mm" not in keys()
    assert row_of(table1(two_patients.data()), "oc")["tre_mm_mean"] == 1.5
    two_patients.cell("pc", "a", {20: (0.7, 0.8, 1.0)}, landmark_tre_mm=2.5)
    assert row_of(table1(two_patients.data()), "pc")["landmark_tre_mm_mean"] == 2.5


def test_a_run_without_soft_columns_has_its_table(two_patients):
    run = two_patients.run()
    soft = ["soft_dsc", "soft_rigid_dsc"]
    old = replace(run, vertebrae=run.vertebrae.drop(columns=soft), pairs=run.pairs.drop(columns="soft_rigid_fit_dsc"),
                  columns={name: c for name, c in run.columns.items() if name not in soft})  # fmt: skip
    table = table1(data_sets(old)[0], with_paper=True)
    assert row_of(table, "VoxelMorph")["dsc_mean"] == pytest.approx(0.8) and "soft_dsc_mean" not in table
