"""What a training keeps of its pairs: found again by the pair's name, without loading the pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import overload

import numpy as np
import pytest
import torch

from methods.base import Pair
from methods.sources import Sources
from methods.voxelmorph.kept import ROOT, code_of, content_key, kept_arrays, key_of
from methods.voxelmorph.samples import VOLUMES, Samples, make_sample


class Named(Sequence[Pair]):
    """Pairs that are named without being loaded; `loaded` counts the loads."""

    def __init__(self, pairs: Sequence[Pair], prefix: str = "patient") -> None:
        self.pairs, self.prefix, self.loaded = pairs, prefix, 0

    def __len__(self) -> int:
        return len(self.pairs)

    @overload
    def __getitem__(self, index: int) -> Pair: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Pair]: ...
    def __getitem__(self, index: int | slice) -> Pair | Sequence[Pair]:
        self.loaded += 1
        return self.pairs[index]

    def key(self, index: int) -> str:
        return f"{self.prefix} {index}"


def test_a_sample_is_found_again_without_its_pair(cache_folder: Path, pairs: list[Pair]) -> None:
    first, second = Named(pairs), Named(pairs)
    made = Samples(first, 2, "cpu", 0.0)[1]
    found = Samples(second, 2, "cpu", 0.0)[1]
    assert (first.loaded, second.loaded) == (1, 0)
    for sample in (made, found):
        expected = make_sample(pairs[1], 2)
        assert sample.case == expected.case and sample.spacing_mm == expected.spacing_mm
        assert dict(sample.centres) == dict(expected.centres)
        for name in VOLUMES:
            one, other = getattr(sample, name), getattr(expected, name)
            assert one is other is None or (one.dtype == other.dtype and torch.equal(one, other))


@pytest.mark.parametrize("other", ["another prefix", "another resolution"])
def test_another_pair_or_resolution_is_made(cache_folder: Path, pairs: list[Pair], other: str) -> None:
    Samples(Named(pairs), 2, "cpu", 0.0)[0]
    asked = Named(pairs, "stranger" if other == "another prefix" else "patient")
    Samples(asked, 2 if other == "another prefix" else 1, "cpu", 0.0)[0]
    assert asked.loaded == 1


def test_pairs_without_names_are_always_loaded(cache_folder: Path, pairs: list[Pair]) -> None:
    assert key_of(pairs, 0) is None
    Samples(pairs, 2, "cpu", 0.0)[0]
    assert not list(cache_folder.glob("*"))


def test_arrays_are_made_once_and_a_damaged_file_again(cache_folder: Path) -> None:
    made: list[int] = []

    def make() -> dict[str, np.ndarray]:
        made.append(1)
        return {"a": np.arange(6.0).reshape(2, 3)[:, ::2], "b": np.array([True, False])}

    for _ in range(2):
        arrays = kept_arrays(["numbers", 1], make)
        assert arrays["a"].tolist() == [[0, 2], [3, 5]] and arrays["b"].dtype == bool
    assert len(made) == 1
    (file,) = cache_folder.glob("*.rigidbench")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    kept_arrays(["numbers", 1], make)
    kept_arrays(["numbers", 2], make)
    kept_arrays(None, make)
    assert len(made) == 4


def test_a_loaded_pair_is_named_by_its_content(pairs: list[Pair]) -> None:
    assert content_key(pairs[0]) == content_key(Pair("other", pairs[0].fixed, pairs[0].moving))
    assert content_key(pairs[0]) != content_key(pairs[1])


def test_the_code_is_that_of_a_module_and_its_imports() -> None:
    assert code_of("methods.voxelmorph.samples") != code_of("methods.voxelmorph.teacher")


def test_kept_samples_do_not_depend_on_the_settings_of_a_training() -> None:
    """Another penalty's weight would otherwise make all patients again."""
    reached = Sources(ROOT, ("methods", "metrics")).reached(["methods.voxelmorph.samples"])
    assert "methods.voxelmorph.network" in reached
    assert not {"methods.voxelmorph.settings", "methods.voxelmorph.variants"} & set(reached)
