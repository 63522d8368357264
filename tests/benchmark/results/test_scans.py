"""What the scans of a pair are called."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmark.results.scans import Scans, scans_in, scans_of


def pairs(fixed: list[str | None], moving: list[str | None]) -> pd.DataFrame:
    return pd.DataFrame({"fixed_modality": fixed, "moving_modality": moving}, dtype="string")


def test_modalities_have_names() -> None:
    assert scans_of("ct", "cbct") == Scans("CT", "CBCT")


def test_a_run_names_its_scans() -> None:
    assert scans_in(pairs(["mr", "mr"], ["mr", "mr"])) == Scans("MR", "MR")


@pytest.mark.parametrize("old", [pd.DataFrame({"case": ["a"]}), pairs([None], [None])])
def test_a_run_of_an_earlier_version_has_ct_and_mr(old: pd.DataFrame) -> None:
    assert scans_in(old) == Scans("MR", "CT") and scans_in(old).as_in_the_paper


def test_a_refused_case_without_modality_does_not_count() -> None:
    assert scans_in(pairs([None, "ct"], [None, "cbct"])) == Scans("CT", "CBCT")


def test_several_modalities_are_joined() -> None:
    found = scans_in(pairs(["mr", "mr"], ["mr", "ct"]))
    assert found == Scans("MR", "CT or MR") and not found.as_in_the_paper
