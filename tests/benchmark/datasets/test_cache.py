"""The cache: a case is read back bit by bit, or made again."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors import safe_open
from support.cached_cases import Maker, assert_equal, entries, entry, small

from benchmark import environment, fingerprint
from benchmark.datasets import cache, phantom
from benchmark.datasets.cache import cached, loader
from benchmark.datasets.phantom import Phantom
from methods.base import Case
from methods.registry import DATASETS

ROOT = Path(__file__).resolve().parents[3]
NAME = "phantom-0003"


@pytest.fixture(scope="module")
def patient() -> Case:
    """A phantom of 4 mm, made without the cache."""
    return Phantom("phantom", spacing_mm=4.0).load(NAME)


def test_a_second_load_reads_the_same_bits(cache_folder: Path, patient: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_equal(loader(Phantom("phantom", spacing_mm=4.0))(NAME), patient)
    monkeypatch.setattr(phantom, "make_patient", lambda *_: pytest.fail("made again"))
    assert_equal(loader(Phantom("phantom", spacing_mm=4.0))(NAME), patient)


def test_every_field_of_a_case_comes_back(cache_folder: Path) -> None:
    pair = small().pair
    bare = Case(replace(pair, fixed=replace(pair.fixed, labels=None, inside=None)))
    empty = replace(small(), landmarks_mm=np.empty((2, 0, 3)))
    for name, case in {"all": small(), "bare": bare, "empty": empty}.items():
        make = Maker(case)
        for _ in range(2):
            assert_equal(cached(name, "code", make), case)
        assert make.calls == 1
    assert all(getattr(small(), f.name) is not None for f in fields(Case)), "this test does not cover a field"


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    **{
        f"flipped at {at}": lambda content, at=at: content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :]
        for at in (0, 31, 32, 35, 39, 40, 60, 300, 5_000, 100_000)
    },
    "flipped at the end": lambda content: content[:-1] + bytes([content[-1] ^ 128]),
    **{f"cut to {n}": lambda content, n=n: content[:n] for n in (0, 1, 32, 36, 300, 100_000)},
    "cut by a byte": lambda content: content[:-1],
    "longer by a byte": lambda content: content + b"\0",
    "something else": lambda content: b"no case " * 1000,
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_replaced(cache_folder: Path, patient: Case, damage: str) -> None:
    make = Maker(patient)
    cached("a", "code", make)
    intact = entry(cache_folder).read_bytes()
    damaged = DAMAGE[damage](intact)
    assert damaged != intact
    entry(cache_folder).write_bytes(damaged)
    assert_equal(cached("a", "code", make), patient)
    assert make.calls == 2 and entry(cache_folder).read_bytes() == intact


def test_a_changed_bit_anywhere_in_a_file_is_noticed(cache_folder: Path) -> None:
    make = Maker(small())
    cached("a", "code", make)
    content = entry(cache_folder).read_bytes()
    for at in range(len(content)):
        entry(cache_folder).write_bytes(content[:at] + bytes([content[at] ^ 1 << at % 8]) + content[at + 1 :])
        cached("a", "code", make)
        assert make.calls == at + 2, f"byte {at}"


def test_the_file_is_safetensors(cache_folder: Path, patient: Case) -> None:
    """Images are stored as they are; labels are deflated."""
    cached("a", "code", Maker(patient))
    with safe_open(entry(cache_folder), "np") as file:
        about = json.loads(file.metadata()["case"])
        np.testing.assert_array_equal(file.get_tensor("fixed"), patient.pair.fixed.image)
        deflated = file.get_tensor("fixed_labels")
    assert about["case"] == NAME and about["arrays"]["fixed_labels"] == ["<u2", list(patient.pair.grid.shape)]
    assert zlib.decompress(deflated.data) == patient.pair.fixed.labels.tobytes()


def test_a_damaged_file_is_deleted_even_if_the_case_cannot_be_made(cache_folder: Path) -> None:
    cached("a", "code", small)
    entry(cache_folder).write_bytes(b"damaged")

    def fail() -> Case:
        raise ValueError("no motion without folding")

    with pytest.raises(ValueError, match="no motion"):
        cached("a", "code", fail)
    assert entries(cache_folder) == []


def test_the_file_of_another_case_is_refused(cache_folder: Path) -> None:
    cached("a", "code", small)
    first = entry(cache_folder)
    cached("b", "code", lambda: small(1))
    (second,) = set(entries(cache_folder)) - {first}
    second.write_bytes(first.read_bytes())
    assert_equal(cached("b", "code", lambda: small(1)), small(1))


def test_all_that_determines_a_case_changes_its_file(
    cache_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
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


def test_the_case_of_a_dataset_that_computes_nothing_is_not_kept(cache_folder: Path, tiny: Path) -> None:
    assert not DATASETS.create("tiny").computed
    loader(DATASETS.create("tiny"))("one")
    assert entries(cache_folder) == []
