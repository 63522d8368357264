"""The chapters of the report as texts."""

from __future__ import annotations

from dataclasses import replace

import pytest

from reports.sections import claims_section, statistics_section
from reports.stats.comparisons import against_baseline


def statistics(run):
    return statistics_section(run.data(), against_baseline(run.data()), "voxelmorph")


def titles(section):
    return [table.title for table in section.tables]


def test_claims_without_a_result_are_a_sentence_and_no_row(paper_rows):
    """Of Staring, VoxelMorph, pc, rigid dice and volume: four on Staring, two on pc, one on rigid dice, two "same"."""
    section = claims_section(paper_rows.data())
    assert [len(table.lines) for table in section.tables] == [9] and section.text[0].startswith("9 comparisons: ")
    assert section.text[-1] == (
        "19 of 28 comparisons could not be made: no result of rigid field, oc, pc+oc, pc+rigid dice, pc+rigid field."
    )
    assert len(section.numbers["claims"]) == 28


def test_a_run_that_is_not_the_papers_comparison_says_so_in_one_line(empty):
    for i in range(8):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for method in ("rigid", "staring", "bspline"):
            empty.cell(method, f"p{i}", {20: (0.6, 0.9, 4.0)}, seconds=1.0)
    section = claims_section(empty.data())
    assert section.tables == [] and not section.numbers
    why = "this run is not the paper's comparison, since it has no result of VoxelMorph, the paper's baseline."
    assert section.text == [f"The paper's claims are not tested: {why}"]
    shown = statistics(empty)
    assert titles(shown) == ["Mean ranks"] and f"No ranking: {why}" in shown.text
    assert "ranking" not in shown.numbers


def test_fewer_than_six_patients_are_not_ranked(empty):
    for i in range(5):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0))
        for method in ("staring", "voxelmorph", "pc"):
            empty.cell(method, f"p{i}", {20: (0.6, 0.9, 4.0)}, seconds=1.0)
    shown = statistics(empty)
    assert "No ranking: the run has 5 patients, and a ranking needs 6." in shown.text and "ranking" not in shown.numbers
    assert not any("critical-difference.png" in text for text in shown.text), "it is not drawn"


def test_every_test_says_its_number_of_patients(ten_patients):
    section = statistics(ten_patients)
    assert titles(section) == ["Against VoxelMorph", "Mean ranks", "Ranking in the Learn2Reg manner"]
    differences, ranks, ranking = section.tables
    assert differences.heads[-1] == "Patients" and ranking.heads[-1] == "Patients"
    assert any("critical-difference.png" in text for text in section.text)
    assert all("n = 10)" in head for head in ranks.heads[1:]) and len(ranks.heads) > 1
    assert "The ranking compares 10 patients." in section.text


def test_cases_of_one_patient_are_said_to_count_once(empty):
    for i in range(4):
        empty.pair(f"p{i}", 20, (0.5, 0.9, 4.0), group=f"spine{i // 2}")
        empty.cell("voxelmorph", f"p{i}", {20: (0.6, 0.9, 4.0)})
    assert any(line.startswith("The 4 cases are of 2 patients.") for line in statistics(empty).text)


def test_the_claims_say_where_eight_patients_cannot_show_anything(paper_rows):
    said = "With 8 patients no p can be below 0.05 after the correction over 9 tests, so that nothing can be shown."
    assert said in claims_section(paper_rows.data()).text


@pytest.mark.parametrize(("dataset", "said"), [
    ("phantom", "The scans are synthetic phantoms: the verdicts are about them, and not about patients."),
    ("simulated", "The MR scans are simulated from CT, and the patients are not the paper's."),
    ("folders", "The patients are not the paper's."),
])  # fmt: skip
def test_the_claims_say_whom_they_are_about(paper_rows, dataset, said):
    assert said in claims_section(replace(paper_rows.data(), dataset=dataset)).text


def test_ten_patients_can_show_some_claims(ten_patients):
    assert not any("no p can be" in text for text in claims_section(ten_patients.data()).text)


def test_networks_whose_following_was_not_measured_are_named(paper_rows):
    data = replace(paper_rows.data(), following={"pc": (0.9, 0.81, 0.6)})
    said = "Whether the field follows a shift was not measured for VoxelMorph, rigid dice, volume."
    assert said in claims_section(data).text


def test_following_of_other_weights_is_said_not_to_count(paper_rows):
    other = {"pc": "it was measured with other settings or weights", "oc": "it has no row"}
    text = claims_section(replace(paper_rows.data(), following_unused=other)).text
    said = "following.csv is not used for pc: it was measured with other settings or weights."
    assert f"{said} Measure it again with `make following RUN=FOLDER`." in text
    assert "Whether the field follows a shift was not measured for VoxelMorph, rigid dice, volume." in text


def test_the_claims_explain_an_error_only_where_one_is_known(paper_rows):
    assert not any("registration error" in text for text in claims_section(paper_rows.data()).text)
    for i in range(8):
        paper_rows.cell("oc", f"p{i}", {20: (0.7, 0.9, 8.0)}, {"tre_mm": 1.5})
    assert any("registration error is at most" in text for text in claims_section(paper_rows.data()).text)


def test_following_is_a_table_of_the_claims(paper_rows):
    data = replace(paper_rows.data(), following={"pc": (0.0, 0.81, 0.6)})
    section = claims_section(data)
    assert [[cell.text for cell in line] for line in section.tables[-1].lines] == [["pc", "0.00", "0.81", "0.60"]]


@pytest.mark.parametrize("term", ["sign-flip test", "Holm's correction", "Effect:", "Mean ranks:", "Ranking:"])
def test_each_term_is_explained_once(ten_patients, term):
    assert " ".join(statistics(ten_patients).text).count(term) == 1
