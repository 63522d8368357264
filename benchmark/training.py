"""The `train` command: the same pairs for every method that learns, fixed labels out of reach."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar, overload

from benchmark.datasets.base import Dataset
from benchmark.datasets.files import check_writable
from benchmark.errors import BadInput
from methods.base import Case, Pair, trainable
from methods.registry import DATASETS, UnknownName, create_method

T = TypeVar("T")


class Lazy(Sequence[T]):
    """Cases of a dataset, loaded when they are asked for. keep: hold what was loaded (for few cases)."""

    def __init__(self, names: Sequence[str], load: Callable[[str], T], keep: bool = False) -> None:
        self._names, self._load, self._keep = names, load, keep
        self._kept: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Lazy(self._names[index], self._load, self._keep)
        if index in self._kept:
            return self._kept[index]
        item = self._load(self._names[index])
        if self._keep:
            self._kept[index] = item
        return item


def train(
    names: Sequence[str],
    out: Path,
    dataset_name: str,
    dataset_settings: dict[str, Any],
    settings: dict[str, Any],
    val_limit: int,
    seed: int,
    progress: Callable[[str], None],
) -> None:
    """Fit every named method into `out`; one that was begun there goes on where it stopped.

    settings: over each method's own. val_limit: how many validation patients choose the weights.
    Raises BadInput for an unknown name, a method with nothing to train, or a dataset without training cases.
    """
    try:
        methods = [create_method(name, settings) for name in names]
        dataset: Dataset = DATASETS.create(dataset_name, dataset_settings)
    except (UnknownName, ValueError) as error:
        raise BadInput(f"train: {' '.join(str(error).split())}") from error
    for method in methods:
        if not trainable(method):
            raise BadInput(f"--methods {method.name}: it has nothing to train; `list methods` shows which have")
    splits = {split: dataset.cases(split) for split in ("train", "val")}
    for split, cases in splits.items():
        if not cases:
            raise BadInput(f"--dataset {dataset_name}: expected cases in split {split!r}, found none")

    check_writable(out)

    def blind(name: str) -> Pair:
        return dataset.load(name).pair.blind(name)

    for method in methods:
        pairs: Sequence[Pair] = Lazy(splits["train"], blind)
        judged: Sequence[Case] = Lazy(splits["val"][:val_limit], dataset.load, keep=True)
        try:
            method.fit(pairs, judged, out, seed, progress)
        except (ValueError, FloatingPointError) as error:
            raise BadInput(f"train {method.name}: {error}") from error
