"""Cells on a dask cluster: a real scheduler and two workers on loopback, one of them killed on the way."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.small_runs import Recorder, figures, go, request

from benchmark.errors import BadInput, Stopped
from benchmark.execution.runner import RunOptions, run
from benchmark.results.store import read_run

pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[3]


class Cluster:
    """A scheduler and workers of one thread each, as processes of their own, without anyone to start them again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        file = folder / "scheduler.json"
        self._processes = [self._start("scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
                                       "--scheduler-file", str(file))]  # fmt: skip
        deadline = time.monotonic() + 200
        while not file.exists() or not file.read_text():
            assert time.monotonic() < deadline, "the scheduler does not start"
            time.sleep(0.1)
        self.address = json.loads(file.read_text())["address"]

    def add_worker(self, **environment: str) -> subprocess.Popen:
        process = self._start("worker", self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard",
                              "--local-directory", str(self.folder), **environment)  # fmt: skip
        self._processes.append(process)
        return process

    def wait_for_workers(self, count: int) -> None:
        from distributed import Client

        with Client(self.address) as client:
            client.wait_for_workers(count, timeout=200)

    def _start(self, *command: str, **environment: str) -> subprocess.Popen:
        around = os.environ | {"PYTHONPATH": str(ROOT)} | environment
        return subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=self.folder, env=around,
                                stderr=subprocess.DEVNULL)  # fmt: skip

    def end(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    try:
        yield made
    finally:
        made.end()


class Killer(Recorder):
    """Kills a process as soon as two cells are done."""

    def __init__(self, victim: subprocess.Popen) -> None:
        super().__init__()
        self.victim = victim

    def done(self, row: str, case: str, status: str, message: str) -> None:
        super().done(row, case, status, message)
        if len(self.statuses) == 2:
            self.victim.send_signal(signal.SIGKILL)


def test_a_worker_that_is_killed_costs_no_cell(tiny: Path, tmp_path: Path, cluster: Cluster) -> None:
    rows = ["initial", "napper", {"method": "faulty", "settings": {"kind": "segfault"}}]
    first, _ = cluster.add_worker(), cluster.add_worker()
    cluster.wait_for_workers(2)
    killer = Killer(first)
    how = RunOptions(engine="dask", scheduler=cluster.address)
    outcome = run(request(tiny, rows, count=6), tmp_path / "far", killer, how)
    assert first.wait(30) == -signal.SIGKILL
    assert sorted(outcome.statuses) == ["crashed"] * 6 + ["ok"] * 12
    go(tiny, tmp_path / "here", rows, count=6)
    here, far = figures(tmp_path / "here"), figures(tmp_path / "far")
    for name in ("pairs", "vertebrae"):
        assert here[name].equals(far[name])
    assert read_run(tmp_path / "far").columns == read_run(tmp_path / "here").columns
    cells = read_run(tmp_path / "far").cases
    assert set(cells.loc[cells["status"] == "crashed", "error"]) == {"the method's process was killed by SIGSEGV"}
    _, again = go(tiny, tmp_path / "far", rows, count=6)
    assert again.cells == [], "the cells of a cluster are cells like any other"


@pytest.mark.alone
def test_times_count_while_a_worker_is_alone_on_its_machine(tiny: Path, tmp_path: Path, cluster: Cluster) -> None:
    cluster.add_worker()
    how = RunOptions(engine="dask", scheduler=cluster.address)
    go(tiny, tmp_path / "alone", ["initial"], count=2, how=how)
    assert not read_run(tmp_path / "alone").cases["contended"].any()
    cluster.add_worker()
    cluster.wait_for_workers(2)
    go(tiny, tmp_path / "together", ["initial"], count=2, how=how)
    assert read_run(tmp_path / "together").cases["contended"].all(), "the first worker has a neighbour now"


def test_what_is_no_cluster_is_one_line(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.execution import dask

    monkeypatch.setattr(dask, "WAIT_S", 1)
    with pytest.raises(BadInput, match=r"--scheduler tcp://127.0.0.1:9: expected a scheduler as tcp://HOST:8786"):
        go(tiny, tmp_path / "run", ["initial"], how=RunOptions(engine="dask", scheduler="tcp://127.0.0.1:9"))


def test_a_worker_with_other_code_is_not_used(
    tiny: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import environment

    cluster.add_worker()
    monkeypatch.setattr(environment, "libraries", lambda: json.dumps({"torch": "0.0"}))
    with pytest.raises(Stopped, match="has another version of rigidbench or of its libraries"):
        go(tiny, tmp_path / "run", ["initial"], how=RunOptions(engine="dask", scheduler=cluster.address))
