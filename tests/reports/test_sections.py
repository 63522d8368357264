"""The chapters of the report as texts."""

from __future__ import annotations

from reports.sections import claims_section
from reports.stats.claims import claims_table, verdicts


def test_claims_without_a_result_are_a_sentence_and_no_row(paper_rows):
    """Of Staring, VoxelMorph, pc, rigid dice and volume: four on Staring, two on pc, one on rigid dice, two "same"."""
    table = claims_table(verdicts(paper_rows.data()))
    section = claims_section(table)
    assert [len(table.lines) for table in section.tables] == [9] and section.text[0].startswith("Of 9 comparisons ")
    assert section.text[-1] == (
        "19 of 28 comparisons could not be made: no result of rigid field, oc, pc+oc, pc+rigid dice, pc+rigid field."
    )
    assert len(section.numbers["claims"]) == 28


def test_a_run_without_comparable_claims_has_one_line_instead(empty):
    empty.pair("a", 20, (0.5, 0.9, 4.0))
    empty.cell("rigid", "a", {20: (0.6, 0.9, 4.0)})
    section = claims_section(claims_table(verdicts(empty.data())))
    assert section.tables == [] and len(section.text) == 1 and section.text[0].startswith("28 of 28 comparisons")
