"""The two settings of the generator of phantoms."""

from __future__ import annotations

from dataclasses import fields

from benchmark.datasets.phantom import Phantom, ranges_of
from benchmark.datasets.synthesis.ranges import SHIFTED, TRAINING


def test_a_shifted_range_lies_outside_that_of_training() -> None:
    differing = TRAINING.differing(SHIFTED)
    assert len(differing) > 10
    for name, (training, shifted) in differing.items():
        assert shifted[0] >= training[1] or shifted[1] <= training[0], name


def test_every_range_is_ascending() -> None:
    for ranges in (TRAINING, SHIFTED):
        for f in fields(ranges):
            low, high = getattr(ranges, f.name)
            assert low < high, f.name


def test_patients_for_testing_are_drawn_from_shifted_ranges() -> None:
    phantom = Phantom("phantom")
    assert {ranges_of(case) for split in ("train", "val") for case in phantom.cases(split)} == {TRAINING}
    assert {ranges_of(case) for case in phantom.cases("test")} == {SHIFTED}
    assert ranges_of("phantom-0149", "phantom-quick") == SHIFTED
    assert ranges_of("phantom-9999") == TRAINING, "no split lists this patient"
