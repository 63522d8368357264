"""Further measures: which columns they hold, over what they are averaged, and how they are printed."""

from __future__ import annotations

from dataclasses import replace

import pytest

from benchmark.results.columns import Column
from reports.printing import render
from reports.run_data import DataSet, data_sets
from reports.sections import measures_section
from reports.table1.further_measures import (
    further_columns,
    measure_tables,
    measure_text,
    measures,
    measures_by_level,
    measures_latex,
)


@pytest.fixture
def data(two_patients) -> DataSet:
    """VoxelMorph with HD95 of each vertebra and properness; oc with a null and without patient b."""
    run = two_patients.run()
    run.vertebrae.loc[run.vertebrae["method"] == "voxelmorph", "hd95_mm"] = [1.0, 3.0, 5.0]
    run.vertebrae.loc[run.vertebrae["method"] == "initial", "hd95_mm"] = [4.0, 6.0, 8.0]
    run.cases.loc[run.cases["method"] == "voxelmorph", "properness"] = [0.001, 0.003]
    return data_sets(run)[0]


def printed(data: DataSet, title: str) -> dict[str, list[str]]:
    table = next(table for table in measure_tables(data) if table.title == title)
    return {"": list(table.heads)} | {line[0].text: [cell.text for cell in line[1:]] for line in table.lines}


def test_columns_that_table_1_lacks_are_averaged_over_vertebrae_or_patients(data):
    table = measures(data).set_index(["row", "column"])
    line = table.loc[("VoxelMorph", "hd95_mm")]
    assert (line["mean"], line["sd"], line["n"], line["all"]) == (3.0, 2.0, 3, 3)
    line = table.loc[("VoxelMorph", "properness")]
    assert (line["mean"], line["n"], line["all"]) == (pytest.approx(0.002), 2, 2)
    assert "dsc" not in set(measures(data)["column"]), "Table 1 shows it"
    assert "assd_mm" not in set(measures(data)["column"]), "no row has a value"


def test_the_identity_field_is_a_reference_line(data):
    assert printed(data, "Further measures")["(Identity)"] == ["6.00(2.00)", "–"]
    assert list(dict.fromkeys(measures(data)["method"])) == ["voxelmorph", "identity"]


def test_heads_have_the_unit_and_the_better_end(data):
    assert printed(data, "Further measures")[""] == ["Method", "HD95 [mm] ↓", "Properness ↓"]


def test_a_mean_over_fewer_values_prints_their_number(data):
    data.vertebrae.loc[data.vertebrae["hd95_mm"] == 5.0, "hd95_mm"] = None
    assert printed(data, "Further measures")["VoxelMorph"][0] == "2.00(1.41) n=2"


def test_a_column_per_vertebra_has_a_table_by_level(data):
    table = measures_by_level(data).set_index(["row", "level"])
    # L1 (id 20) of patients a and b: 1 and 5; L2 of a alone.
    line = table.loc[("VoxelMorph", "L1")]
    assert (line["mean"], line["n"], line["all"]) == (3.0, 2, 2)
    by_level = printed(data, "HD95 [mm] by vertebra level ↓")
    assert by_level[""] == ["Method", "L1", "L2"] and by_level["VoxelMorph"] == ["3.00(2.83)", "3.00"]


def test_a_column_that_a_plugin_declares_is_printed_without_more(two_patients):
    run = two_patients.run()
    column = Column("jump_deg", "case", unit="deg", title="Jump", better="higher", description="A jump.", metric=True)
    run.cases["jump_deg"] = [1.0] * len(run.cases)
    data = data_sets(replace(run, columns={**run.columns, "jump_deg": column}))[0]
    assert [c.name for c in further_columns(data)] == ["jump_deg"]
    assert printed(data, "Further measures") == {
        "": ["Method", "Jump [deg] ↑"], "VoxelMorph": ["1.00(0.00)"], "(Identity)": ["1.00(0.00)"],
    }  # fmt: skip


def test_a_column_that_no_metric_computes_or_that_is_text_is_no_measure(two_patients):
    run = two_patients.run()
    run.cases["threads"] = 2
    text = Column("remark", "case", "string", metric=True)
    run.cases["remark"] = "a"
    assert further_columns(data_sets(replace(run, columns={**run.columns, "remark": text}))[0]) == []


@pytest.mark.parametrize(
    ("mean", "sd", "unit", "text"),
    [
        (2.345, 0.5, "mm", "2.35(0.50)"),
        (0.0123, 0.9, "mm", "0.01(0.90)"),
        (0.000365, 0.000142, "", "0.000365(0.000142)"),
        (1234.5, 56.7, "", "1234(57)"),
        (0.5, float("nan"), "", "0.5"),
        (float("nan"), float("nan"), "mm", "–"),
    ],
)
def test_values_with_a_unit_have_two_decimals_and_others_three_digits(mean, sd, unit, text):
    assert measure_text(mean, sd, unit) == text


def test_markdown_and_latex_print_the_same_cells(data):
    section = measures_section(data)
    assert "| VoxelMorph | 3.00(2.00) | 0.002(0.00141) |" in render("sections.md", sections=[("data", section)])
    text = measures_latex([data])
    assert r"VoxelMorph & 3.00(2.00) & 0.002(0.00141) \\" in text
    assert r"\caption{Further measures: phantom, test split. mean(SD), SD with n - 1.}" in text
    assert text.count(r"\begin{tabular}") == 2


def test_without_a_further_column_there_is_no_table(two_patients):
    assert measure_tables(two_patients.data()) == [] and measures(two_patients.data()).empty
