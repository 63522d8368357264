"""No finished cell is lost or repeated when a run is killed or stopped, the disk is full, or another run starts."""

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
from support.small_runs import Recorder, assert_same_tables, finished_cells, run_tiny, tiny_config

from benchmark.errors import BadInput, Stopped
from benchmark.execution.runner import RunOptions, run
from benchmark.results.store import read_run

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


@pytest.fixture
def workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that holds the working folders of methods, by which their processes are found."""
    folder = tmp_path / "workers"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.mark.alone
def test_a_run_killed_at_random_moments_ends_with_the_same_tables(tiny: Path, tmp_path: Path, workers: Path) -> None:
    """At least 20 kills at random moments. Each finished cell stays as it was."""
    rows = ["initial", "fresh-shift", "napper"]
    config = tiny_config(tiny, rows, count=4)
    start = time.monotonic()
    run(config, tmp_path / "undisturbed", Recorder())
    duration_s = time.monotonic() - start
    rng = random.Random(7)
    kills = folders = 0
    while kills < KILLS:
        out = tmp_path / f"killed-{folders}"
        folders += 1
        status, before = None, {}
        while status is None:
            number = fork(lambda out=out: run(config, out, Recorder()))
            time.sleep(rng.uniform(0, 0.5) * duration_s)
            status = kill(number)
            kills += status is None
            after = finished_cells(out) if out.exists() else {}
            assert before.items() <= after.items(), "a finished cell was lost or run again"
            before = after
            assert not (out / "cases.parquet").exists() or len(read_run(out).cases)
        assert status == 0
        assert_same_tables(out, tmp_path / "undisturbed")
        assert not [file for file in out.rglob(".*") if file.name != ".lock"], "no unfinished file is left"
    assert eventually(lambda: not methods_below(workers)), "no process of a method is left"
    assert eventually(lambda: not list(workers.iterdir()))


def test_a_second_run_is_refused_and_a_killed_one_frees_the_folder(tiny: Path, tmp_path: Path, workers: Path) -> None:
    out = tmp_path / "run"
    config = tiny_config(tiny, [{"method": "faulty", "settings": {"kind": "hang"}}])
    number = fork(lambda: run(config, out, Recorder()))
    try:
        assert eventually(lambda: list(out.glob("cells/pairs/two.json")))
        # No case of this split can be loaded. The error is that of the lock, since the lock is checked first.
        with pytest.raises(BadInput, match=f"process {number} on .*, since .* is running in it; wait until it ends"):
            run_tiny(tiny, out, ["initial"], split="train")
    finally:
        assert kill(number) is None
    assert run_tiny(tiny, out, ["initial"])[0].exit_status == 0
    assert eventually(lambda: not methods_below(workers))


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Callable[[str], None]]:
    """A separate file system at `folder`; gives a function that changes its mount options."""

    def mount(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["mount", *arguments, str(folder)], capture_output=True, encoding="utf-8")

    folder.mkdir()
    done = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs")
    if done.returncode:
        pytest.skip(f"a file system cannot be mounted here: {done.stderr.strip()}")
    try:
        yield lambda options: mount("-o", f"remount,{options}").check_returncode()
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_run_continues_after_a_full_disk(tiny: Path, tmp_path: Path) -> None:
    rows = ["initial", "true-shift"]
    run_tiny(tiny, tmp_path / "undisturbed", rows, count=6)
    with small_disk(tmp_path / "disk", "400k") as change:
        out = tmp_path / "disk" / "run"
        with pytest.raises(Stopped, match=r"No space left on device.*the same command continues from there"):
            run_tiny(tiny, out, rows, count=6)
        before = finished_cells(out)
        assert len(before) > 6, "the cells before the disk was full are kept"
        change("size=64m")
        _, again = run_tiny(tiny, out, rows, count=6)
        assert before.items() <= finished_cells(out).items()
        assert again.planned[1] == sum("pairs" not in name for name in before)
        assert_same_tables(out, tmp_path / "undisturbed")
        change("ro")
        with pytest.raises(BadInput, match=r"expected a folder to write into.*Read-only file system"):
            run_tiny(tiny, out, rows, count=6)


def test_a_folder_without_write_permission_is_refused(tiny: Path, tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("the administrator may write everywhere; a read-only disk is tested above")
    tmp_path.chmod(0o500)
    with pytest.raises(BadInput, match="expected a folder to write into, got Permission denied"):
        run_tiny(tiny, tmp_path / "run", ["initial"])
    tmp_path.chmod(0o700)


@pytest.mark.parametrize("damage", ["", "{", '{"case": {"status": "ok"}}', "[]"])
def test_a_damaged_cell_is_run_again(tiny: Path, tmp_path: Path, damage: str) -> None:
    out = tmp_path / "run"
    run_tiny(tiny, out, ["initial"])
    (out / "cells" / "initial@cpu" / "one.json").write_text(damage)
    (out / "cells" / "pairs" / "two.json").write_text(damage)
    _, again = run_tiny(tiny, out, ["initial"])
    assert again.cells == [("initial@cpu", "one")]
    assert len(read_run(out).pairs) == 4


def test_retry_failed_runs_cells_without_a_result(tiny: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    rows = [
        {"method": "faulty", "name": "once", "settings": {"kind": "once", "file": str(tmp_path / "seen")}},
        "initial",
    ]
    first, _ = run_tiny(tiny, out, rows)
    assert sorted(first.statuses) == ["crashed", "crashed", "ok", "ok"]
    _, kept = run_tiny(tiny, out, rows)
    assert kept.cells == [] and "2 cells without a result kept; --retry-failed runs them again" in kept.notices
    second, again = run_tiny(tiny, out, rows, options=RunOptions(retry_failed=True))
    assert [row for row, _ in again.cells] == ["once@cpu"] * 2 and second.statuses == ["ok"] * 4


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stopped_run_says_how_to_continue(tiny: Path, tmp_path: Path, number: signal.Signals) -> None:
    """Ctrl-C, and SIGTERM, which a batch system sends at the end of the allotted time."""
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
    # In the background of a shell, these tests and their child processes would ignore SIGINT.
    process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                               text=True, encoding="utf-8",
                               preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    try:
        assert eventually(lambda: list(out.glob("cells/napper@cpu/*.json")), 250)
        process.send_signal(number)
        output, _ = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, output
    assert "Stopped. Finished cells are kept in" in output and "Traceback" not in output
    assert eventually(lambda: not methods_below(workers)) and not list(workers.iterdir())
    before = finished_cells(out)
    _, again = run_tiny(tiny, out, ["initial", "napper"], count=25)
    assert again.planned[1] == sum("pairs" not in name for name in before)
    assert before.items() <= finished_cells(out).items()


def test_another_version_of_a_library_makes_a_cell_stale(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import environment

    run_tiny(tiny, tmp_path / "run", ["initial"])
    monkeypatch.setattr(environment, "libraries", lambda: json.dumps({"torch": "0.0"}))
    _, again = run_tiny(tiny, tmp_path / "run", ["initial"])
    assert len(again.cells) == 2


def test_kept_cells_of_another_machine_are_mentioned(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import environment

    run_tiny(tiny, tmp_path / "run", ["initial"])
    monkeypatch.setattr(environment, "machine", lambda device: "an abacus")
    _, again = run_tiny(tiny, tmp_path / "run", ["initial"])
    assert again.cells == [] and "timed on another machine" in again.notices[0]
