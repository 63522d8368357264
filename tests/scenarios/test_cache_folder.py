"""The folder of the cache: its limit, faults, and use by several processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cached_cases import Maker, assert_equal, entries, entry, small
from typer.testing import CliRunner

from benchmark.datasets import cache
from benchmark.datasets.cache import cached, switched
from benchmark.errors import BadInput
from methods import cache_files
from run_benchmark import app

ROOT = Path(__file__).resolve().parents[2]


def test_the_entry_used_longest_ago_is_deleted_at_the_limit(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    makers, files = {name: Maker(small()) for name in "abcd"}, dict[str, Path]()
    for age, name in enumerate("abc"):
        cached(name, "code", makers[name])
        (files[name],) = set(entries(cache_folder)) - set(files.values())
        os.utime(files[name], (age, age))
    cached("a", "code", makers["a"])  # so that b was used longest ago
    size = files["a"].stat().st_size
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", str(3.5 * size / 2**30))
    (cache_folder / "other.txt").write_bytes(bytes(10 * size))
    cached("d", "code", makers["d"])
    assert [name for name, file in files.items() if file.exists()] == ["a", "c"]
    assert len(list(cache_folder.glob("*.rigidbench"))) == 3 and (cache_folder / "other.txt").exists()
    for name in "acd":
        cached(name, "code", makers[name])
    assert [make.calls for make in makers.values()] == [1, 1, 1, 1]


def test_a_case_larger_than_the_limit_deletes_nothing(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached("a", "code", small)
    first = entry(cache_folder)
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", str(1.5 * first.stat().st_size / 2**30))
    big = replace(small(), landmarks_mm=np.zeros((2, 1000, 3)))
    assert_equal(cached("b", "code", lambda: big), big)
    assert entries(cache_folder) == [first]
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", "0")
    assert_equal(cached("b", "code", lambda: big), big)
    assert entries(cache_folder) == [first]


@pytest.mark.parametrize("size", ["large", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(cache_folder: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", size)
    with pytest.raises(BadInput, match=f"RIGIDBENCH_CACHE_GB: expected a number of GB, 0 or more, got '{size}'"):
        cached("a", "code", small)
    with pytest.raises(BadInput), switched(True):
        pass
    with switched(False):
        assert_equal(cached("a", "code", small), small())


def child(code: str, **environ: str) -> subprocess.Popen[str]:
    """Start a process that runs `code`."""
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / 'tests')!r}]\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        encoding="utf-8", cwd=ROOT,
    )  # fmt: skip


@pytest.mark.alone
def test_the_unfinished_file_of_a_killed_writer_is_deleted(cache_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from itertools import count
from dataclasses import replace
import numpy as np
from benchmark.datasets.cache import cached
from support.cached_cases import small
case = replace(small(), landmarks_mm=np.zeros((2, 500_000, 3)))
for n in count():
    cached(f"{n}", "code", lambda: case)
"""
    largest = smallest = 0
    unfinished: list[Path] = []
    for _ in range(5):  # until one is killed while it writes
        writer = child(code, RIGIDBENCH_CACHE_GB="0.2")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and writer.poll() is None:
            sizes = [s for f in cache_folder.glob(".*") if (s := size_of(f))]
            if len(entries(cache_folder)) > 1 and sizes:
                break
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
        _, errors = writer.communicate()
        assert writer.returncode == -signal.SIGKILL, errors
        largest, smallest = (function(f.stat().st_size for f in entries(cache_folder)) for function in (max, min))
        unfinished = [f for f in cache_folder.glob(".*") if f.stat().st_size < largest]
        if unfinished:
            break
    assert unfinished, "no writer was killed while it wrote"
    assert largest == smallest > 20_000_000, "an incomplete file has the name of an entry"
    assert all(cache._read(file) is not None for file in entries(cache_folder))
    cached("now", "code", small)
    assert unfinished[0].exists(), "another process may still write it"
    os.utime(unfinished[0], (time.time() - 7200,) * 2)
    cached("later", "code", small)
    assert not unfinished[0].exists()


def size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_two_processes_share_a_cache(cache_folder: Path) -> None:
    code = """
import random
from benchmark.datasets.cache import cached
from support.cached_cases import assert_equal, small
cases = [small(seed) for seed in range(4)]
for n in range(400):
    seed = random.randrange(4)
    assert_equal(cached(str(seed), "code", lambda: cases[seed]), cases[seed])
"""
    cached("0", "code", small)
    limit = str(2.5 * entry(cache_folder).stat().st_size / 2**30)
    both = [child(code, RIGIDBENCH_CACHE_GB=limit) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and errors == ""
    assert 1 <= len(entries(cache_folder)) <= 2 and list(cache_folder.glob(".*")) == []


def denied(*_: Any) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("obstacle", ["a file", "read only", "full", "no home"])
def test_a_folder_that_cannot_be_written_gives_one_warning(
    cache_folder: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {"a file": "File exists", "read only": "denied", "full": "File too large", "no home": "home"}[obstacle]
    if obstacle == "a file":
        cache_folder.write_text("other")
    elif obstacle == "read only":
        monkeypatch.setattr(cache_files, "atomic_write", denied)  # root may write in any mode
    elif obstacle == "no home":
        monkeypatch.delenv("RIGIDBENCH_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", lambda: Path("~nobody-at-all").expanduser())
    make = Maker(replace(small(), landmarks_mm=np.zeros((2, 100_000, 3))))
    with file_size_limit(1_000_000 if obstacle == "full" else None):
        for name in ("a", "a", "b"):
            assert_equal(cached(name, "code", make), make.case)
    assert make.calls == 3
    (line,) = capsys.readouterr().err.splitlines()
    assert "expected a folder for the cache, found: " in line and expected in line and "RIGIDBENCH_CACHE" in line
    assert not cache_folder.is_dir() or list(cache_folder.iterdir()) == [], "a file remains"
    assert not cache_folder.is_file() or cache_folder.read_text() == "other"


class file_size_limit:
    """Limit the files of this process to `size` bytes: writing fails midway, as on a full disk."""

    def __init__(self, size: int | None) -> None:
        self.size = size

    def __enter__(self) -> None:
        import resource

        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)
        if self.size is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (self.size, self.before[1]))

    def __exit__(self, *_: object) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, self.before)


def test_a_read_only_cache_is_read(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached("a", "code", small)
    for function in ("utime", "unlink", "replace"):
        monkeypatch.setattr(os, function, denied)
    make = Maker(small())
    assert_equal(cached("a", "code", make), small())
    assert make.calls == 0 and capsys.readouterr().err == ""
    entry(cache_folder).write_bytes(b"damaged")
    assert_equal(cached("a", "code", make), small())
    assert make.calls == 1 and "Permission denied" in capsys.readouterr().err


def test_the_environment_decides_the_folder(
    cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for chosen, base, expected in [
        (str(tmp_path / "chosen"), "", tmp_path / "chosen"),
        ("~/chosen", "", tmp_path / "home" / "chosen"),
        ("", str(tmp_path / "xdg"), tmp_path / "xdg" / "rigidbench"),
        ("", "relative", tmp_path / "home" / ".cache" / "rigidbench"),
        ("", "", tmp_path / "home" / ".cache" / "rigidbench"),
    ]:
        monkeypatch.setenv("RIGIDBENCH_CACHE", chosen)
        monkeypatch.setenv("XDG_CACHE_HOME", base)
        cached("a", "code", small)
        assert entry(expected).suffix == ".rigidbench"
        entry(expected).unlink()


@pytest.mark.parametrize("off", ["off", "OFF"])
def test_a_cache_that_is_off_is_neither_read_nor_written(
    cache_folder: Path, monkeypatch: pytest.MonkeyPatch, off: str
) -> None:
    monkeypatch.chdir(cache_folder.parent)
    cached("a", "code", small)
    make = Maker(small(1))
    with switched(False):
        assert_equal(cached("a", "code", make), small(1))
        assert os.environ["RIGIDBENCH_CACHE"] == "off", "child processes inherit it"
        cached("b", "code", make)
    monkeypatch.setenv("RIGIDBENCH_CACHE", off)
    assert_equal(cached("a", "code", make), small(1))
    with switched(True):
        cached("b", "code", make)
    assert make.calls == 4 and len(entries(cache_folder)) == 1
    assert sorted(p.name for p in cache_folder.parent.iterdir()) == ["cache"]


@pytest.mark.parametrize("command", ["run", "train"])
def test_no_cache_on_the_command_line_switches_it_off(
    cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def load(*_: Any) -> None:
        cached("a", "code", small)
        raise BadInput("stop here")

    import benchmark.sweep  # noqa: F401 - imports `train` by name, so it must be imported before the patch

    for place in ("benchmark.execution.runner.run", "benchmark.training.train"):
        monkeypatch.setattr(place, load)
    arguments = [command, "--out", str(tmp_path / "out")]
    for option, count in ((["--no-cache"], 0), ([], 1)):
        result = CliRunner().invoke(app, [*arguments, *option])
        assert result.exit_code == 2 and "stop here" in result.stderr
        assert len(entries(cache_folder)) == count
    assert os.environ["RIGIDBENCH_CACHE"] == str(cache_folder), "the switch ends with the command"
