"""The critical-difference diagram: its columns, and Nemenyi's distance."""

from __future__ import annotations

import pytest

from reports.figures.critical_difference import critical_difference, critical_difference_data, critical_distance


def test_the_distance_is_demsars():
    # Demsar 2006, section 3.2.2: four classifiers on 14 data sets, q = 2.569.
    assert critical_distance(4, 14) == pytest.approx(1.25, abs=0.005)


def test_rows_are_ranked_in_the_columns_of_fig2(ten_patients):
    ranks = critical_difference_data(ten_patients.data())
    assert list(ranks) == ["DSC", "%Δvol"], "the rigid DSC of all rows is equal"
    assert list(ranks["DSC"].ranks[["pc", "VoxelMorph", "oc"]]) == [1, 2, 3]
    titles = [axes.get_title(loc="left") for axes in critical_difference(ranks).axes]
    assert titles[0].startswith("DSC: mean rank over 10 patients, Friedman p < 0.001, CD 1.05")


def test_two_rows_have_no_ranks(two_patients):
    assert critical_difference_data(two_patients.data()) == {}
