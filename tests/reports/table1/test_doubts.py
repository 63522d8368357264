"""Notes under Table 1 on inputs and results that are used with doubt."""

from __future__ import annotations

from reports.table1.doubts import doubts
from reports.table1.footnotes import footnotes


def test_a_truth_below_initial_for_every_vertebra_is_noted(empty):
    for case, true in (("a", (0.4, 0.5)), ("b", (0.4, 0.9)), ("c", (None, None))):
        for vertebra, value in zip((20, 21), true, strict=True):
            empty.pair(case, vertebra, (0.6, 0.9, 1.0), true_dsc=value)
    empty.cell("oc", "a", {20: (0.7, 0.8, 1.0)})
    (note,) = doubts(empty.data())
    assert note.startswith(
        "Doubtful truth: the given true displacement scores below Initial for every vertebra of 1 patient (a); check"
    )
    assert note in footnotes(empty.data(), with_paper=False)


def test_an_excluded_vertebra_does_not_count(empty):
    empty.pair("a", 20, (0.6, 0.9, 1.0), true_dsc=0.5)
    empty.pair("a", 21, (0.6, 0.9, 1.0), true_dsc=0.9, excluded_reason="under 500 mm3 in the fixed labels")
    empty.cell("oc", "a", {20: (0.7, 0.8, 1.0)})
    assert "Doubtful truth" in doubts(empty.data())[0]


def test_warnings_of_a_row_are_noted_once(empty):
    for case in "abcde":
        empty.pair(case, 20, (0.6, 0.9, 1.0))
        empty.cell("oc", case, {20: (0.7, 0.8, 1.0)}, warning="check the convention" if case != "a" else None)
        empty.cell("pc", case, {20: (0.7, 0.8, 1.0)})
    assert doubts(empty.data()) == ["Doubtful oc, 4 patients (b, c, d and 1 more): check the convention."]


def test_a_run_without_doubts_has_no_note(two_patients):
    assert doubts(two_patients.data()) == []
