"""The cache: what it gives back is what was made, or nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from typer.testing import CliRunner

from benchmark import environment, fingerprint
from benchmark.datasets import cache, phantom
from benchmark.datasets.cache import cached, loader, switched
from benchmark.datasets.phantom import Phantom
from benchmark.errors import BadInput
from methods.base import Case, Grid, Pair, Scan
from methods.registry import DATASETS
from run_benchmark import app

ROOT = Path(__file__).resolve().parents[3]
NAME = "phantom-0003"
GRID = Grid((4, 3, 2), (1.0, 0.1, 3.0), (-10.0, 1 / 3, 20.0), (0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, -1.0))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The cache of one test, not made yet."""
    monkeypatch.setenv("RIGIDBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("RIGIDBENCH_CACHE_GB", raising=False)
    cache._say_once.cache_clear()
    return tmp_path / "cache"


@pytest.fixture(scope="module")
def patient() -> Case:
    """A phantom of 4 mm, made while the cache is off."""
    return Phantom("phantom", spacing_mm=4.0).load(NAME)


class Maker:
    """Gives `case` and counts how often it is asked to."""

    def __init__(self, case: Case) -> None:
        self.case, self.calls = case, 0

    def __call__(self) -> Case:
        self.calls += 1
        return self.case


def small(seed: int = 0) -> Case:
    """A case with everything that a case can have."""
    rng = np.random.default_rng(seed)
    images = [rng.random(GRID.shape, np.float32) for _ in range(2)]
    labels = [rng.integers(0, 60000, GRID.shape).astype(np.uint16) for _ in range(3)]
    inside = [rng.random(GRID.shape) < 0.5 for _ in range(2)]
    scans = [
        Scan(*arrays[:2], GRID, *arrays[2:]) for arrays in zip(images, labels, inside, ("mr", "cbct"), strict=False)
    ]
    return Case(
        Pair("É 1", *scans), rng.random((*GRID.shape, 3), np.float32), rng.random(GRID.shape) < 0.5,
        {20: "cut", 7: "ö"}, labels[2], rng.random((2, 5, 3)),
    )  # fmt: skip


def assert_equal(a: Any, b: Any) -> None:
    """Bit by bit, through every field of the cases and scans."""
    assert type(a) is type(b)
    if isinstance(a, Case | Pair | Scan):
        for f in fields(a):
            assert_equal(getattr(a, f.name), getattr(b, f.name))
    elif isinstance(a, np.ndarray):
        assert (a.dtype, a.shape, a.tobytes()) == (b.dtype, b.shape, b.tobytes())
        assert a.flags.c_contiguous == b.flags.c_contiguous and a.flags.writeable and b.flags.writeable
    else:
        assert a == b


def entries(folder: Path) -> list[Path]:
    return sorted(folder.glob("[!.]*")) if folder.exists() else []


def entry(folder: Path) -> Path:
    (only,) = entries(folder)
    return only


def test_a_second_load_is_bit_equal_and_makes_nothing(
    folder: Path, patient: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert_equal(loader(Phantom("phantom", spacing_mm=4.0))(NAME), patient)
    monkeypatch.setattr(phantom, "make_patient", lambda *_: pytest.fail("made again"))
    assert_equal(loader(Phantom("phantom", spacing_mm=4.0))(NAME), patient)


def test_every_field_of_a_case_comes_back(folder: Path) -> None:
    pair = small().pair
    bare = Case(replace(pair, fixed=replace(pair.fixed, labels=None, inside=None)))
    empty = replace(small(), landmarks_mm=np.empty((2, 0, 3)))
    for name, case in {"all": small(), "bare": bare, "empty": empty}.items():
        make = Maker(case)
        for _ in range(2):
            assert_equal(cached(name, "code", make), case)
        assert make.calls == 1
    assert all(getattr(small(), f.name) is not None for f in fields(Case)), "a field that this test does not cover"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    **{
        f"flipped at {at}": lambda content, at=at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for at in (0, 31, 32, 35, 39, 40, 60, 300, 5_000, 100_000)
    },
    "flipped at the end": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    **{f"cut to {n}": lambda content, n=n: content[:n] for n in (0, 1, 32, 36, 300, 100_000)},
    "cut by a byte": lambda content: content[:-1],
    "longer by a byte": lambda content: content + b"\0",
    "something else": lambda content: b"not ours" * 1000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_replaced_by_the_right_one(folder: Path, patient: Case, damage: str) -> None:
    make = Maker(patient)
    cached("a", "code", make)
    whole = entry(folder).read_bytes()
    damaged = DAMAGE[damage](whole)
    assert damaged != whole
    entry(folder).write_bytes(damaged)
    assert_equal(cached("a", "code", make), patient)
    assert make.calls == 2 and entry(folder).read_bytes() == whole


def test_a_changed_bit_anywhere_in_a_file_is_noticed(folder: Path) -> None:
    make = Maker(small())
    cached("a", "code", make)
    content = entry(folder).read_bytes()
    for at in range(len(content)):
        entry(folder).write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        cached("a", "code", make)
        assert make.calls == at + 2, f"byte {at}"


def test_the_file_is_safetensors(folder: Path, patient: Case) -> None:
    """Images are stored as they are; labels are deflated."""
    cached("a", "code", Maker(patient))
    with safe_open(entry(folder), "np") as file:
        about = json.loads(file.metadata()["case"])
        np.testing.assert_array_equal(file.get_tensor("fixed"), patient.pair.fixed.image)
        deflated = file.get_tensor("fixed_labels")
    assert about["case"] == NAME and about["arrays"]["fixed_labels"] == ["<u2", list(patient.pair.grid.shape)]
    assert zlib.decompress(deflated.data) == patient.pair.fixed.labels.tobytes()


def test_a_damaged_file_is_gone_even_if_the_case_cannot_be_made(folder: Path) -> None:
    cached("a", "code", small)
    entry(folder).write_bytes(b"damaged")

    def fail() -> Case:
        raise ValueError("no motion without folding")

    with pytest.raises(ValueError, match="no motion"):
        cached("a", "code", fail)
    assert entries(folder) == []


def test_another_cases_file_is_not_taken_for_this_one(folder: Path) -> None:
    cached("a", "code", small)
    first = entry(folder)
    cached("b", "code", lambda: small(1))
    (second,) = set(entries(folder)) - {first}
    second.write_bytes(first.read_bytes())
    assert_equal(cached("b", "code", lambda: small(1)), small(1))


def test_whatever_decides_a_case_is_in_its_name(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    coarse = {"spacing_mm": 4.0}
    made: list[tuple[Any, ...]] = []

    def make_patient(*arguments: Any) -> Case:
        made.append(arguments)
        return small()

    monkeypatch.setattr(phantom, "make_patient", make_patient)

    def is_new(name: str = NAME, **settings: Any) -> bool:
        before = len(made)
        loader(Phantom("phantom", **{**coarse, **settings}))(name)
        return len(made) > before

    assert is_new() and not is_new()
    assert is_new("phantom-0004") and is_new(spacing_mm=3.0) and is_new(vertebrae=5) and is_new(splits="phantom-quick")
    for place, name, other in [(cache, "arithmetic", "other"), (fingerprint, "code_of", fingerprint.Code())]:
        with monkeypatch.context() as patch:
            patch.setattr(place, name, lambda *_, other=other: other)
            assert is_new()
    splits = {"seed": json.loads((phantom.SPLIT_DIR / "phantom.json").read_text())["seed"] + 1, "test": [NAME]}
    (tmp_path / "phantom.json").write_text(json.dumps(splits))
    monkeypatch.setattr(phantom, "SPLIT_DIR", tmp_path)
    phantom._splits.cache_clear()
    try:
        assert is_new(), "another seed in the split file"
    finally:
        phantom._splits.cache_clear()
    assert made[0] != made[-1]


def test_threads_and_versions_change_the_arithmetic(monkeypatch: pytest.MonkeyPatch) -> None:
    before = environment.arithmetic.__wrapped__()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    threads = environment.arithmetic.__wrapped__()
    monkeypatch.setattr(environment, "_version", lambda package: "0.0")
    assert len({before, threads, environment.arithmetic.__wrapped__()}) == 3


def test_the_case_of_a_dataset_that_computes_nothing_is_not_kept(folder: Path, tiny: Path) -> None:
    assert not DATASETS.create("tiny").computed
    loader(DATASETS.create("tiny"))("one")
    assert entries(folder) == []


def test_it_stays_below_its_limit_and_keeps_what_was_used_last(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    makers, files = {name: Maker(small()) for name in "abcd"}, dict[str, Path]()
    for age, name in enumerate("abc"):
        cached(name, "code", makers[name])
        (files[name],) = set(entries(folder)) - set(files.values())
        os.utime(files[name], (age, age))
    cached("a", "code", makers["a"])  # so that b is the one used longest ago
    size = files["a"].stat().st_size
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", str(3.5 * size / 2**30))
    (folder / "mine.txt").write_bytes(bytes(10 * size))
    cached("d", "code", makers["d"])
    assert [name for name, file in files.items() if file.exists()] == ["a", "c"]
    assert len(list(folder.glob("*.rigidbench"))) == 3 and (folder / "mine.txt").exists()
    for name in "acd":
        cached(name, "code", makers[name])
    assert [make.calls for make in makers.values()] == [1, 1, 1, 1]


def test_a_case_larger_than_the_limit_drops_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cached("a", "code", small)
    first = entry(folder)
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", str(1.5 * first.stat().st_size / 2**30))
    big = replace(small(), landmarks_mm=np.zeros((2, 1000, 3)))
    assert_equal(cached("b", "code", lambda: big), big)
    assert entries(folder) == [first]
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", "0")
    assert_equal(cached("b", "code", lambda: big), big)
    assert entries(folder) == [first]


@pytest.mark.parametrize("size", ["much", "-1", "nan"])
def test_a_limit_that_is_no_number_is_refused(folder: Path, monkeypatch: pytest.MonkeyPatch, size: str) -> None:
    monkeypatch.setenv("RIGIDBENCH_CACHE_GB", size)
    with pytest.raises(BadInput, match=f"RIGIDBENCH_CACHE_GB: expected a number of GB, 0 or more, got '{size}'"):
        cached("a", "code", small)
    with pytest.raises(BadInput), switched(True):
        pass
    with switched(False):
        assert_equal(cached("a", "code", small), small())


def child(code: str, **environ: str) -> subprocess.Popen[str]:
    code = f"import sys; sys.path[:0] = [{str(ROOT)!r}, {str(Path(__file__).parent)!r}]\n{code}"
    return subprocess.Popen(
        [sys.executable, "-c", code], env={**os.environ, **environ}, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, cwd=ROOT,
    )  # fmt: skip


@pytest.mark.alone
def test_a_writer_killed_midway_leaves_no_half_entry_and_its_rest_is_cleared(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """
from itertools import count
from dataclasses import replace
import numpy as np
from test_cache import cached, small
case = replace(small(), landmarks_mm=np.zeros((2, 500_000, 3)))
for n in count():
    cached(f"{n}", "code", lambda: case)
"""
    size = small_size = 0
    unfinished: list[Path] = []
    for _ in range(5):  # until one is caught while it writes
        writer = child(code, RIGIDBENCH_CACHE_GB="0.2")
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and writer.poll() is None:
            sizes = [s for f in folder.glob(".*") if (s := size_of(f))]
            if len(entries(folder)) > 1 and sizes:
                break
            time.sleep(0.001)
        writer.send_signal(signal.SIGKILL)
        _, errors = writer.communicate()
        assert writer.returncode == -signal.SIGKILL, errors
        size, small_size = (function(f.stat().st_size for f in entries(folder)) for function in (max, min))
        unfinished = [f for f in folder.glob(".*") if f.stat().st_size < size]
        if unfinished:
            break
    assert unfinished, "no writer was caught while it wrote"
    assert size == small_size > 20_000_000, "half a file under the name of a whole one"
    assert all(cache._read(file) is not None for file in entries(folder))
    cached("now", "code", small)
    assert unfinished[0].exists(), "another process may be writing it"
    os.utime(unfinished[0], (time.time() - 7200,) * 2)
    cached("later", "code", small)
    assert not unfinished[0].exists()


def size_of(file: Path) -> int:
    try:
        return file.stat().st_size
    except FileNotFoundError:
        return 0


def test_processes_that_make_read_and_drop_the_same_cases_do_not_disturb_each_other(folder: Path) -> None:
    code = """
import random
from test_cache import assert_equal, cached, small
cases = [small(seed) for seed in range(4)]
for n in range(400):
    seed = random.randrange(4)
    assert_equal(cached(str(seed), "code", lambda: cases[seed]), cases[seed])
"""
    cached("0", "code", small)
    limit = str(2.5 * entry(folder).stat().st_size / 2**30)
    both = [child(code, RIGIDBENCH_CACHE_GB=limit) for _ in range(2)]
    for process in both:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0 and errors == ""
    assert 1 <= len(entries(folder)) <= 2 and list(folder.glob(".*")) == []


def denied(*_: Any) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("obstacle", ["a file", "read only", "full", "no home"])
def test_a_folder_that_cannot_be_written_is_said_once_and_is_no_error(
    folder: Path, obstacle: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = {"a file": "File exists", "read only": "denied", "full": "File too large", "no home": "home"}[obstacle]
    if obstacle == "a file":
        folder.write_text("mine")
    elif obstacle == "read only":
        monkeypatch.setattr(cache, "atomic_write", denied)  # a mode would not keep root from writing
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
    assert "expected a folder to keep patients in, found: " in line and expected in line and "RIGIDBENCH_CACHE" in line
    assert not folder.is_dir() or list(folder.iterdir()) == [], "something is left"
    assert not folder.is_file() or folder.read_text() == "mine"


class file_size_limit:
    """Inside, no file of this process grows beyond `size` bytes: writing it fails midway, as on a full disk."""

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


def test_a_folder_that_can_only_be_read_serves(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cached("a", "code", small)
    for function in ("utime", "unlink", "replace"):
        monkeypatch.setattr(os, function, denied)
    make = Maker(small())
    assert_equal(cached("a", "code", make), small())
    assert make.calls == 0 and capsys.readouterr().err == ""
    entry(folder).write_bytes(b"damaged")
    assert_equal(cached("a", "code", make), small())
    assert make.calls == 1 and "Permission denied" in capsys.readouterr().err


def test_where_it_is(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for chosen, base, expected in [
        (str(tmp_path / "mine"), "", tmp_path / "mine"),
        ("~/mine", "", tmp_path / "home" / "mine"),
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
def test_off_it_neither_reads_nor_keeps(folder: Path, monkeypatch: pytest.MonkeyPatch, off: str) -> None:
    monkeypatch.chdir(folder.parent)
    cached("a", "code", small)
    make = Maker(small(1))
    with switched(False):
        assert_equal(cached("a", "code", make), small(1))
        assert os.environ["RIGIDBENCH_CACHE"] == "off", "child processes are told too"
        cached("b", "code", make)
    monkeypatch.setenv("RIGIDBENCH_CACHE", off)
    assert_equal(cached("a", "code", make), small(1))
    with switched(True):
        cached("b", "code", make)
    assert make.calls == 4 and len(entries(folder)) == 1
    assert sorted(p.name for p in folder.parent.iterdir()) == ["cache"]


@pytest.mark.parametrize("command", ["run", "train"])
def test_no_cache_on_the_command_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    def load(*_: Any) -> None:
        cached("a", "code", small)
        raise BadInput("far enough")

    import benchmark.sweep  # noqa: F401 - takes `train` by name, and must not while it is another one

    for place in ("benchmark.execution.runner.run", "benchmark.training.train"):
        monkeypatch.setattr(place, load)
    arguments = [command, "--out", str(tmp_path / "out")]
    for option, kept in ((["--no-cache"], 0), ([], 1)):
        result = CliRunner().invoke(app, [*arguments, *option])
        assert result.exit_code == 2 and "far enough" in result.stderr
        assert len(entries(folder)) == kept
    assert os.environ["RIGIDBENCH_CACHE"] == str(folder), "the switch outlived the command"
