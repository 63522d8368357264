"""Penalties in the network and in the optimisation, on a hand-built run."""

from __future__ import annotations

import pytest
from support.both_families import with_both_families

from reports.stats.loss_or_network import counts, effects, has_both, sentences, verdicts_of_both


def conclusions(run) -> dict[str, str]:
    table = sentences(verdicts_of_both(run.data()))
    return dict(zip(table["question"], table["conclusion"], strict=True))


def test_an_effect_is_the_difference_from_the_same_family_without_a_penalty(empty):
    table = effects(with_both_families(empty, 14).data()).set_index(["penalty", "family", "metric"])
    assert table.loc[("pc", "network", "volume_change_pct"), "mean"] == pytest.approx(-4)
    assert table.loc[("pc", "optimisation", "volume_change_pct"), "mean"] == pytest.approx(-2)
    line = table.loc[("pc+oc", "both", "dsc")]
    assert (line["row"], line["against"], line["patients"]) == ("Refined", "Deformable", 14)
    assert line["mean"] == pytest.approx(0.05) and line["low"] == pytest.approx(0.05)
    assert "volume" not in table.index.get_level_values("penalty")


def test_a_sentence_says_in_which_family_a_statement_holds(empty):
    said = conclusions(with_both_families(empty, 14, **{"deformable-pc": (0.7, 0.95, 1.0), "pc": (0.6, 0.9, 4.0)}))
    assert said["%Δvol: pc < VoxelMorph"] == "%Δvol: pc < VoxelMorph: shown with both."
    expected = ": shown in the network, not shown in the optimisation."
    assert said["soft rigid DSC: oc > VoxelMorph"].endswith(expected), "which is no difference of the families"
    assert said["soft DSC: pc not worse than VoxelMorph"].endswith(": opposite with both.")
    assert ": cannot be said: " in said["soft rigid DSC: rigid dice > VoxelMorph"]


def test_a_statement_of_the_optimisation_alone_is_said(empty):
    said = conclusions(with_both_families(empty, 14, oc=(0.7, 0.9, 7.0), **{"deformable-oc": (0.8, 0.99, 2.0)}))
    assert said["soft rigid DSC: oc > VoxelMorph"].endswith(": not shown in the network, shown in the optimisation.")


def test_a_network_that_does_not_register_leaves_the_optimisation(empty):
    said = conclusions(with_both_families(empty, 14, rigid=(0.9, 1.0, 0.0)))
    text = said["%Δvol: pc < VoxelMorph"]
    assert ": shown in the optimisation; not testable in the network (DSC of " in text


def test_five_patients_are_too_few(empty):
    said = conclusions(with_both_families(empty, 5))
    assert said["%Δvol: pc < VoxelMorph"].endswith(": too few patients (5 patients; 6 are needed).")


def test_a_run_needs_a_penalty_in_both_families(empty, ten_patients):
    assert not has_both(ten_patients.data())
    assert has_both(with_both_families(empty, 2).data())


def test_conclusions_are_counted(empty):
    """pc keeps volume, properness and DSC in both families; oc keeps DSC in both."""
    table = sentences(verdicts_of_both(with_both_families(empty, 14).data()))
    said = table["conclusion"].str.endswith("shown with both.").sum()
    assert said and f"{said} shown with both" in counts(table)
