"""Cells on a dask cluster: a real scheduler and two workers on this machine, one of which is killed."""

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
from support.small_runs import Recorder, run_tiny, tables, tiny_config

from benchmark.errors import BadInput, Stopped
from benchmark.execution.runner import RunOptions, run
from benchmark.results.store import read_run

pytest.importorskip("distributed")
ROOT = Path(__file__).resolve().parents[3]


class Cluster:
    """A scheduler and workers of one thread each, in separate processes that nothing restarts."""

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
        variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
        return subprocess.Popen([sys.executable, "-m", "dask", *command], cwd=self.folder, env=variables,
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
    """Kills a process as soon as two cells are finished."""

    def __init__(self, victim: subprocess.Popen) -> None:
        super().__init__()
        self.victim = victim

    def finished(self, row: str, case: str, status: str, message: str) -> None:
        super().finished(row, case, status, message)
        if len(self.statuses) == 2:
            self.victim.send_signal(signal.SIGKILL)


def test_the_cells_of_a_killed_worker_run_on_another(tiny: Path, tmp_path: Path, cluster: Cluster) -> None:
    rows = ["initial", "napper", {"method": "faulty", "settings": {"kind": "segfault"}}]
    first, _ = cluster.add_worker(), cluster.add_worker()
    cluster.wait_for_workers(2)
    killer = Killer(first)
    options = RunOptions(engine="dask", scheduler=cluster.address)
    outcome = run(tiny_config(tiny, rows, count=6), tmp_path / "far", killer, options)
    assert first.wait(30) == -signal.SIGKILL
    assert sorted(outcome.statuses) == ["crashed"] * 6 + ["ok"] * 12
    run_tiny(tiny, tmp_path / "here", rows, count=6)
    here, far = tables(tmp_path / "here"), tables(tmp_path / "far")
    for name in ("pairs", "vertebrae"):
        assert here[name].equals(far[name])
    assert read_run(tmp_path / "far").columns == read_run(tmp_path / "here").columns
    cells = read_run(tmp_path / "far").cases
    assert set(cells.loc[cells["status"] == "crashed", "error"]) == {"the method's process was killed by SIGSEGV"}
    _, again = run_tiny(tiny, tmp_path / "far", rows, count=6)
    assert again.cells == [], "the cells of a cluster are kept like any other"


@pytest.mark.alone
def test_times_count_while_one_worker_is_on_the_machine(tiny: Path, tmp_path: Path, cluster: Cluster) -> None:
    cluster.add_worker()
    options = RunOptions(engine="dask", scheduler=cluster.address)
    run_tiny(tiny, tmp_path / "alone", ["initial"], count=2, options=options)
    assert not read_run(tmp_path / "alone").cases["contended"].any()
    cluster.add_worker()
    cluster.wait_for_workers(2)
    run_tiny(tiny, tmp_path / "together", ["initial"], count=2, options=options)
    assert read_run(tmp_path / "together").cases["contended"].all(), "two workers share the machine now"


def test_an_address_without_scheduler_is_refused(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmark.execution import dask

    monkeypatch.setattr(dask, "WAIT_S", 1)
    with pytest.raises(BadInput, match=r"--scheduler tcp://127.0.0.1:9: expected the address of a scheduler"):
        run_tiny(tiny, tmp_path / "run", ["initial"], options=RunOptions(engine="dask", scheduler="tcp://127.0.0.1:9"))


def test_a_worker_of_another_version_stops_the_run(
    tiny: Path, tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    from benchmark import environment

    cluster.add_worker()
    monkeypatch.setattr(environment, "libraries", lambda: json.dumps({"torch": "0.0"}))
    with pytest.raises(Stopped, match="has another version of rigidbench or of its libraries"):
        run_tiny(tiny, tmp_path / "run", ["initial"], options=RunOptions(engine="dask", scheduler=cluster.address))
