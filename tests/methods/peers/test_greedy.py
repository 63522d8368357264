"""greedy's settings become parts of a command line and are checked before."""

from __future__ import annotations

import pytest

from methods.peers.greedy import GreedySettings


@pytest.mark.parametrize("metric", ["NMI", "MI", "NCC 4x4x4", "WNCC 2x2x2"])
def test_greedys_metrics_are_accepted(metric: str) -> None:
    assert GreedySettings(metric=metric).metric == metric


@pytest.mark.parametrize("metric", ["SSD", "NMI -o elsewhere", "NCC 4x4"])
def test_other_words_do_not_enter_the_command_line(metric: str) -> None:
    with pytest.raises(ValueError, match="metric"):
        GreedySettings(metric=metric)
