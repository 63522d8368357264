"""The chapter "Loss or network"."""

from __future__ import annotations

from support.both_families import with_both_families

from reports.loss_or_network import loss_or_network_section


def test_the_chapter_has_a_line_for_each_penalty_and_measure_and_a_sentence_for_each_statement(empty):
    section = loss_or_network_section(with_both_families(empty, 14).data())
    assert section is not None
    effects, statements = section.tables
    assert list(effects.heads) == ["Penalty", "Measure", "Network", "Optimisation", "Both", "Patients"]
    assert len(effects.lines) == 9, "pc, oc and pc+oc, three measures each"
    assert [cell.text for cell in effects.lines[2]][2:5] == ["-4.00 [-4.00, -4.00]", "-2.00 [-2.00, -2.00]", "–"]
    assert all("cannot be said" not in line[-1].text for line in statements.lines)
    assert section.text[0].startswith("Statements of the paper about a penalty: ")
    assert set(section.numbers) == {"penalties", "loss-or-network"}
    assert len(section.numbers["loss-or-network"]) > len(statements.lines)


def test_a_run_of_one_family_has_no_chapter(paper_rows):
    assert loss_or_network_section(paper_rows.data()) is None
