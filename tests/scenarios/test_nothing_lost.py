"""A run that is killed, stopped, robbed of its disk or disturbed by another loses no finished cell and repeats none."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from support.processes import eventually, fork, kill, methods_below
from support.small_runs import Recorder, assert_same_figures, finished, go, request

from benchmark.errors import BadInput, Stopped
from benchmark.execution.runner import RunOptions, run
from benchmark.results.store import read_run

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which methods' processes have theirs; a process is found by it."""
    folder = tmp_path / "workers"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.alone
def test_killed_at_any_moment_a_run_ends_with_the_same_tables(tiny: Path, tmp_path: Path, workers: Path) -> None:
    """At least 20 times, at random moments, jobs and lone cells alike; each finished cell stays as it was."""
    rows = ["initial", "fresh-shift", "napper"]
    config = request(tiny, rows, count=4)
    began = time.monotonic()
    run(config, tmp_path / "undisturbed", Recorder())
    whole_s = time.monotonic() - began
    chance = random.Random(7)
    kills = folders = 0
    while kills < KILLS:
        out = tmp_path / f"killed-{folders}"
        folders += 1
        status, before = None, {}
        while status is None:
            number = fork(lambda out=out: run(config, out, Recorder()))
            time.sleep(chance.uniform(0, 0.5) * whole_s)
            status = kill(number)
            kills += status is None
            after = finished(out) if out.exists() else {}
            assert before.items() <= after.items(), "a finished cell was lost or run again"
            before = after
            assert not (out / "cases.parquet").exists() or len(read_run(out).cases)
        assert status == 0
        assert_same_figures(out, tmp_path / "undisturbed")
        assert not [file for file in out.rglob(".*") if file.name != ".lock"], "nothing half-written is left"
    assert eventually(lambda: not methods_below(workers)), "no method outlives its runner"
    assert eventually(lambda: not list(workers.iterdir()))


def test_a_second_runner_is_told_who_is_there_and_a_killed_one_locks_nothing(
    tiny: Path, tmp_path: Path, workers: Path
) -> None:
    out = tmp_path / "run"
    config = request(tiny, [{"method": "faulty", "settings": {"kind": "hang"}}])
    number = fork(lambda: run(config, out, Recorder()))
    try:
        assert eventually(lambda: list(out.glob("cells/pairs/two.json")))
        # Before the cases are read: not one of these can be, which would be another error.
        with pytest.raises(BadInput, match=f"process {number} on .*, since .* is running in it; wait until it ends"):
            go(tiny, out, ["initial"], split="train")
    finally:
        assert kill(number) is None
    assert go(tiny, out, ["initial"])[0].exit_status == 0
    assert eventually(lambda: not methods_below(workers))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A disk of its own at `folder`; gives a function that changes its mount options."""

    def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["mount", *arguments, str(folder)], capture_output=True, text=True)

    folder.mkdir()
    done = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    if done.returncode:
        pytest.skip(f"a disk of its own cannot be mounted here: {done.stderr.strip()}")
    try:
        yield lambda options: mount("-o", f"remount,{options}").check_returncode()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_full_disk_stops_a_run_that_goes_on_when_there_is_room(tiny: Path, tmp_path: Path) -> None:
    rows = ["initial", "true-shift"]
    go(tiny, tmp_path / "undisturbed", rows, count=6)
    with small_disk(tmp_path / "disk", "400k") as change:
        out = tmp_path / "disk" / "run"
        with pytest.raises(Stopped, match=r"No space left on device.*the same command goes on from there"):
            go(tiny, out, rows, count=6)
        before = finished(out)
        assert len(before) > 6, "the cells that fitted are there"
        change("size=64m")
        _, again = go(tiny, out, rows, count=6)
        assert before.items() <= finished(out).items()
        assert again.planned[1] == sum("pairs" not in name for name in before)
        assert_same_figures(out, tmp_path / "undisturbed")
        change("ro")
        with pytest.raises(BadInput, match=r"expected a folder to write into.*Read-only file system"):
            go(tiny, out, rows, count=6)


def test_a_folder_without_the_right_to_write_is_refused(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may write everywhere; a read-only disk is tested above")
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="expected a folder to write into, got Permission denied"):
        go(tiny, tmp_path / "run", ["initial"])
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("damage", ["", "{", '{"case": {"status": "ok"}}', "[]"])
def test_a_cell_that_is_no_longer_whole_is_run_again(tiny: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "run"
    go(tiny, out, ["initial"])
    (out / "cells" / "initial@cpu" / "one.json").write_text(damage)
    (out / "cells" / "pairs" / "two.json").write_text(damage)
    _, again = go(tiny, out, ["initial"])
    assert again.cells == [("initial@cpu", "one")]
    assert len(read_run(out).pairs) == 4


def test_cells_without_a_result_are_retried_when_asked(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rows = [
        {"method": "faulty", "name": "once", "settings": {"kind": "once", "file": str(tmp_path / "seen")}},
        "initial",
    ]
    first, _ = go(tiny, out, rows)
    assert sorted(first.statuses) == ["crashed", "crashed", "ok", "ok"]
    _, kept = go(tiny, out, rows)
    assert kept.cells == [] and "2 cells without a result kept; --retry-failed runs them again" in kept.said
    second, again = go(tiny, out, rows, how=RunOptions(retry_failed=True))
    assert [row for row, _ in again.cells] == ["once@cpu"] * 2 and second.statuses == ["ok"] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_clean_and_says_how_to_go_on(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and SIGTERM as of a batch system whose time is up, at a command in its own process."""
    config = tmp_path / "slow.yaml"
    config.write_text("dataset: {name: tiny, settings: {count: 25}}\nmethods: [initial, napper]\nthreads: 1\n")
    out, workers = tmp_path / "run", tmp_path / "workers"
    workers.mkdir()
    command = [
        sys.executable,
        "run_benchmark.py",
        "run",
        "--config",
        str(config),
        "--plugin",
        str(tiny),
        "--out",
        str(out),
    ]
    environment = os.environ | {"TMPDIR": str(workers)}
    # What a shell starts in the background ignores SIGINT, and so does all that it starts: these tests, perhaps.
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, encoding="utf-8",
                               preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    try:
        assert eventually(lambda: list(out.glob("cells/napper@cpu/*.json")), 250)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Stopped. Finished cells are kept in" in said and "Traceback" not in said
    assert eventually(lambda: not methods_below(workers)) and not list(workers.iterdir())
    before = finished(out)
    _, again = go(tiny, out, ["initial", "napper"], count=25)
    assert again.planned[1] == sum("pairs" not in name for name in before)
    assert before.items() <= finished(out).items()


def test_another_version_of_a_library_makes_a_cell_stale(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import environment

    go(tiny, tmp_path / "run", ["initial"])
    monkeypatch.setattr(environment, "libraries", lambda: json.dumps({"torch": "0.0"}))
    _, again = go(tiny, tmp_path / "run", ["initial"])
    assert len(again.cells) == 2


def test_cells_of_another_machine_are_kept_and_it_is_said(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import environment

    go(tiny, tmp_path / "run", ["initial"])
    monkeypatch.setattr(environment, "machine", lambda device: "an abacus")
    _, again = go(tiny, tmp_path / "run", ["initial"])
    assert again.cells == [] and "timed on another machine" in again.said[0]
