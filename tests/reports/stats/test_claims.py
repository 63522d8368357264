"""Claims of the paper: the values of its table."""

from __future__ import annotations

import pytest

from reports.paper import TABLE1
from reports.stats.claims import CLAIMS, DSC_MARGIN, PAPERS, claims_of
from reports.stats.intervals import Difference
from reports.stats.verdicts import decide


def test_the_papers_values_are_its_tables_and_not_its_texts():
    printed = {claim.question: claim.printed for claim in CLAIMS}
    assert printed["soft DSC: VoxelMorph > Staring"] == 0.01
    assert printed["time: VoxelMorph faster than Staring"] == pytest.approx(243 / 3.5)
    assert printed["%Δvol: pc < VoxelMorph"] == pytest.approx(4.80 - 10.21)
    assert printed["soft rigid DSC: rigid dice > VoxelMorph"] == 0.04
    assert printed["PC: pc < volume"] is None, "the paper's figure is in a supplement that is not here"
    notes = " ".join(claim.note for claim in CLAIMS)
    for text in ("100 times", "5.7 %", "1.5 %", "4.8 %"):
        assert text in notes


def test_every_claim_but_that_of_properness_holds_in_the_papers_own_table():
    for claim in CLAIMS:
        if claim.printed is not None:
            value = claim.printed
            column = PAPERS.get(claim.key, claim.key)
            limit = claim.limit(TABLE1[claim.other][column][0])
            # pc+oc and the others: the table's own numbers must be on the side that the sentence says.
            assert decide(claim, Difference(value, value, value, 25), limit) == "shown", claim.question


def test_a_margin_scales_with_the_baseline():
    claim = next(claim for claim in CLAIMS if claim.kind == "at most")
    assert claim.limit(0.13) == pytest.approx(0.0052) and claim.limit(0.013) == pytest.approx(0.00052)
    assert next(claim for claim in CLAIMS if claim.kind == "not worse").limit(0.7) == -DSC_MARGIN


def test_accuracy_is_also_asked_of_the_errors_that_a_run_knows():
    assert claims_of(["dsc"]) == list(CLAIMS)
    added = claims_of(["dsc", "landmark_tre_mm"])[len(CLAIMS) :]
    assert {claim.key for claim in added} == {"landmark_tre_mm"}
    assert {claim.kind for claim in added} == {"less", "at most"}
    assert next(claim for claim in added if claim.kind == "at most").limit(2.0) == pytest.approx(0.2)
