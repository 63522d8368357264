"""Claims of the paper: the values of its table, and verdicts on hand-built runs."""

from __future__ import annotations

import pytest

from reports.stats.claims import CLAIMS, claims_table, decide, verdicts
from reports.stats.tests import Difference


def judged(run) -> dict[str, dict[str, object]]:
    table = claims_table(verdicts(run.data()))
    return {line["question"]: line for line in table.to_dict("records")}


def test_the_papers_values_are_its_tables_and_not_its_texts():
    printed = {claim.question: claim.printed for claim in CLAIMS}
    assert printed["DSC: VoxelMorph > Staring"] == 0.01
    assert printed["time: VoxelMorph faster than Staring"] == pytest.approx(243 / 3.5)
    assert printed["%Δvol: pc < VoxelMorph"] == pytest.approx(4.80 - 10.21)
    assert printed["rigid DSC: rigid dice > VoxelMorph"] == 0.04
    assert printed["PC: pc < volume"] is None, "the paper's figure is in a supplement that is not here"
    notes = " ".join(claim.note for claim in CLAIMS)
    for text in ("100 times", "5.7 %", "1.5 %", "4.8 %"):
        assert text in notes


def test_every_claim_but_that_of_properness_holds_in_the_papers_own_table():
    for claim in CLAIMS:
        if claim.printed is not None:
            value = claim.printed
            # pc+oc and the others: the table's own numbers must be on the side that the sentence says.
            assert decide(claim.kind, Difference(value, value, value, 25)) == "shown", claim.question


@pytest.mark.parametrize(
    ("kind", "low", "high", "verdict"),
    [
        ("more", 0.01, 0.02, "shown"), ("more", -0.01, 0.02, "not shown"), ("more", -0.02, -0.01, "opposite"),
        ("less", 0.01, 0.02, "opposite"), ("less", -0.02, -0.01, "shown"), ("less", 0.0, 0.0, "not shown"),
        ("faster", 1.1, 9.0, "shown"), ("faster", 0.2, 0.9, "opposite"), ("faster", 0.9, 1.1, "not shown"),
        ("same", -0.01, 0.012, "shown"), ("same", -0.03, 0.0, "not shown"), ("same", -0.09, -0.02, "opposite"),
        ("at most", -0.1, 0.004, "shown"), ("at most", -0.1, 0.01, "not shown"), ("at most", 0.01, 0.02, "opposite"),
        ("same", 0.02, 0.05, "opposite"), ("less at equal volume", -2.0, -1.0, "shown"),
    ],
)  # fmt: skip
def test_a_verdict_is_where_the_interval_lies(kind, low, high, verdict):
    assert decide(kind, Difference((low + high) / 2, low, high, 9)) == verdict


def test_a_claim_is_judged_by_our_interval(paper_rows):
    found = judged(paper_rows)
    assert found["DSC: VoxelMorph > Staring"]["verdict"] == "shown for these weights"
    assert found["DSC: VoxelMorph > Staring"]["ours"] == "+0.100 [+0.100, +0.100]"
    assert found["DSC: VoxelMorph > Staring"]["paper_value"] == "below"
    assert found["time: VoxelMorph faster than Staring"]["ours"] == "50x [50x, 50x]"
    assert found["time: VoxelMorph faster than Staring"]["paper_value"] == "above"
    assert found["%Δvol: pc < VoxelMorph"]["verdict"] == "shown for these weights"
    assert found["rigid DSC: rigid dice > VoxelMorph"]["verdict"] == "opposite for these weights"
    assert found["DSC: pc ≈ VoxelMorph"]["verdict"] == "shown for these weights"
    assert found["PC: pc < volume"]["verdict"] == "shown for these weights"


def test_a_row_that_measured_nothing_shows_nothing(paper_rows):
    line = judged(paper_rows)["rigid DSC: oc > VoxelMorph"]
    assert (line["verdict"], line["ours"]) == ("not shown", "–")
    assert str(line["note"]).startswith("no result of oc")


def test_properness_is_compared_at_equal_volume_only(paper_rows):
    for i in range(8):
        paper_rows.cell("volume", f"p{i}", {20: (0.7, 0.9, 8.0)}, seed=1, properness=0.02)  # averaged: 6 % against 4 %
    line = judged(paper_rows)["PC: pc < volume"]
    assert line["verdict"] == "not shown" and "not alike" in str(line["note"])


def test_one_patient_shows_nothing(two_patients):
    two_patients.cell("staring", "a", {20: (0.1, 0.2, 1.0)}, seconds=9.0)
    line = judged(two_patients)["DSC: VoxelMorph > Staring"]
    assert line["verdict"] == "not shown" and "one patient" in str(line["note"])
