"""The lock of a run folder: one holder, who is named, and who cannot leave it locked."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from support.processes import eventually, fork, kill

from benchmark.errors import BadInput
from benchmark.results.lock import check_free, locked


def hold(folder: Path) -> None:
    """Take the lock, say so with a file, and keep it."""
    with locked(folder):
        (folder / "taken").touch()
        time.sleep(600)


def test_a_second_holder_is_refused_and_told_who_holds_the_lock(tmp_path: Path) -> None:
    number = fork(lambda: hold(tmp_path))
    try:
        assert eventually((tmp_path / "taken").exists)
        message = f"process {number} on .*, since .* UTC is running in it; wait until it ends, or choose another --out"
        with pytest.raises(BadInput, match=message), locked(tmp_path):
            pass
        with pytest.raises(BadInput, match=message):
            check_free(tmp_path)
    finally:
        assert kill(number) is None


def test_a_killed_holder_frees_the_lock(tmp_path: Path) -> None:
    number = fork(lambda: hold(tmp_path))
    assert eventually((tmp_path / "taken").exists)
    assert kill(number) is None
    assert "process" in (tmp_path / ".lock-holder").read_text(), "the holder had no chance to remove it"
    with locked(tmp_path):
        assert f"process {os.getpid()} on" in (tmp_path / ".lock-holder").read_text()
    assert not (tmp_path / ".lock-holder").exists()


def test_the_lock_is_free_soon_after_a_killed_holder_had_forked(tmp_path: Path) -> None:
    """A forked process holds the lock's file until it executes its own program."""

    def hold_and_fork() -> None:
        with locked(tmp_path):
            if os.fork() == 0:
                (tmp_path / "forked").touch()
                time.sleep(0.6)
                os._exit(0)
            time.sleep(600)

    number = fork(hold_and_fork)
    assert eventually((tmp_path / "forked").exists)
    assert kill(number) is None
    with locked(tmp_path):
        pass


def test_the_lock_is_released_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), locked(tmp_path):
        raise RuntimeError
    with locked(tmp_path):
        pass


def test_one_process_cannot_take_the_lock_twice(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(BadInput, match="is running in it"), locked(tmp_path):
        pass


def test_a_free_folder_stays_empty(tmp_path: Path) -> None:
    check_free(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_locked_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadInput, match="expected a folder to write into"), locked(tmp_path / "file"):
        pass
