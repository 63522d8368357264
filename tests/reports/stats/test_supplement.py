"""The supplement's values, on hand-built runs."""

from __future__ import annotations

import pytest

from reports.run_data import data_sets
from reports.sections import claims_section, measures_section, supplement_section
from reports.stats.supplement import lost_vertebrae

SAID = "Lost vertebrae have no properness and no orthonormality and are left out, in favour of the row: pc 2 of 8."


@pytest.fixture
def losing(paper_rows):
    """The paper's rows on eight patients: pc loses the vertebra of two."""
    run = paper_rows.run()
    lines = run.vertebrae
    lost = (lines["method"] == "pc") & lines["case"].isin(["p0", "p1"])
    lines.loc[lost, ["dsc", "volume_change_pct"]] = [0.0, 100.0]
    return run


def test_vertebrae_without_properness_are_counted(losing):
    data = data_sets(losing)[0]
    assert lost_vertebrae(data) == [SAID]
    for section in (supplement_section(data, None), measures_section(data), claims_section(data)):
        assert SAID in section.text


def test_a_run_that_lost_no_vertebra_does_not_speak_of_it(paper_rows):
    assert lost_vertebrae(paper_rows.data()) == []
