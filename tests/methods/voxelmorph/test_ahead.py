"""Items made ahead: each once, in order, the next one while this one is used."""

from __future__ import annotations

import os
import threading

import pytest
import torch

from methods.voxelmorph import ahead
from methods.voxelmorph.ahead import Ahead, spare_core


@pytest.mark.parametrize("background", [True, False])
def test_each_step_is_made_once_and_in_order(background: bool) -> None:
    made: list[int] = []

    def make(step: int) -> int:
        made.append(step)
        return 10 * step

    with Ahead(make, 7, background) as items:
        assert [items[step] for step in range(3, 7)] == [30, 40, 50, 60]
    assert made == [3, 4, 5, 6], "nothing at or after the end is made"


def test_the_next_step_is_made_in_a_second_thread_while_this_one_is_used() -> None:
    second_made, threads = threading.Event(), set()

    def make(step: int) -> int:
        threads.add(threading.current_thread())
        if step == 1:
            second_made.set()
        return step

    with Ahead(make, 5, True) as items:
        assert items[0] == 0
        assert second_made.wait(timeout=60)
    assert threading.current_thread() not in threads and len(threads) == 1


def test_an_error_is_raised_when_its_step_is_asked_for() -> None:
    def make(step: int) -> int:
        if step == 1:
            raise ValueError("no patient")
        return step

    with Ahead(make, 5, True) as items:
        assert items[0] == 0
        with pytest.raises(ValueError, match="no patient"):
            items[1]


def test_an_operation_in_the_second_thread_has_as_many_threads() -> None:
    with Ahead(lambda _: torch.get_num_threads(), 1, True) as items:
        assert items[0] == torch.get_num_threads()


@pytest.mark.parametrize(("cores", "threads", "spare"), [(1, 1, False), (2, 1, True), (2, 2, False), (4, 2, True)])
def test_a_core_is_spare_where_torch_has_fewer_threads_than_cores(
    cores: int, threads: int, spare: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
    monkeypatch.setattr(ahead.torch, "get_num_threads", lambda: threads)
    assert spare_core() is spare
