"""Training of methods: every method gets the same pairs, without the labels of the fixed scans."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, overload

from pydantic import ValidationError

from benchmark.config import MethodConfig, explain
from benchmark.datasets.base import Dataset
from benchmark.datasets.cache import key_of, loader
from benchmark.errors import BadInput, check_writable
from methods.atomic import atomic_write
from methods.base import Case, Method, Pair, Progress, trainable
from methods.registry import DATASETS, METHODS, create_method

T = TypeVar("T")


class Lazy(Sequence[T]):
    """A sequence whose elements are loaded on access.

    Args:
        names: of the elements, as `load` takes them.
        load: gives the element of a name.
        keep: whether loaded elements stay in memory; use it for short sequences only.
        key: names all that determines the element of a name, as `cache.key_of` returns it; None: nothing does.
    """

    def __init__(
        self, names: Sequence[str], load: Callable[[str], T], keep: bool = False,
        key: Callable[[str], str] | None = None,
    ) -> None:  # fmt: skip
        self._names, self._load, self._keep, self._key = names, load, keep, key
        self._kept: dict[int, T] = {}

    def __len__(self) -> int:
        return len(self._names)

    @overload
    def __getitem__(self, index: int) -> T: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[T]: ...
    def __getitem__(self, index: int | slice) -> T | Sequence[T]:
        if isinstance(index, slice):
            return Lazy(self._names[index], self._load, self._keep, self._key)
        if index in self._kept:
            return self._kept[index]
        element = self._load(self._names[index])
        if self._keep:
            self._kept[index] = element
        return element

    def key(self, index: int) -> str | None:
        """What names the content of an element, without loading it; None if it is not known."""
        return None if self._key is None else self._key(self._names[index])


@dataclass(frozen=True)
class Data:
    """The data of a training.

    Attributes:
        train: pairs without fixed labels.
        val: cases with fixed labels.
        description: dataset, settings and numbers of cases, as JSON values.
    """

    train: Sequence[Pair]
    val: Sequence[Case]
    description: dict[str, Any]


def open_data(
    dataset_name: str, settings: dict[str, Any], val_limit: int, notice: Callable[[str], None] = lambda _: None
) -> Data:
    """Open a dataset for training. Cases are loaded on access.

    Args:
        settings: of the dataset.
        val_limit: number of validation cases, from the first.
        notice: receives a sentence for each patient that is left out, and for each that is used with doubt when it is
            loaded for the first time.

    Raises:
        BadInput: for an unknown dataset, for settings that it does not take, and for a dataset without training or
            validation cases.
    """
    try:
        dataset: Dataset = DATASETS.create(dataset_name, settings)
        splits = {split: dataset.cases(split) for split in ("train", "val")}
    except ValidationError as error:
        raise BadInput(f"dataset {dataset_name}: {explain(error, DATASETS[dataset_name].load().Settings)}") from error
    except BadInput:
        raise
    except ValueError as error:
        raise BadInput(f"train: {' '.join(str(error).split())}") from error
    for split, cases in splits.items():
        if not cases:
            raise BadInput(f"--dataset {dataset_name}: expected cases in split {split!r}, found none")

    for split in splits:
        for name, why in dataset.left_out(split).items():
            notice(f"{name} was left out of {split}: {why}")
    load = _with_notices(loader(dataset), notice)

    def blind(name: str) -> Pair:
        return load(name).pair.blind(name)

    train = Lazy(splits["train"], blind, key=key_of(dataset))
    val = Lazy(splits["val"][:val_limit], load, keep=True)
    description = {"dataset": dataset_name, "settings": settings, "train": len(train), "val": len(val)}
    return Data(train, val, json.loads(json.dumps(description, default=str)))


def _with_notices(load: Callable[[str], Case], notice: Callable[[str], None]) -> Callable[[str], Case]:
    """The function `load`, which tells `notice` about the doubts of a case once."""
    told: set[str] = set()

    def load_and_tell(name: str) -> Case:
        case = load(name)
        if case.notes and name not in told:
            told.add(name)
            notice(f"{name} is used with doubt: {'; '.join(case.notes)}")
        return case

    return load_and_tell


def train(
    rows: Sequence[MethodConfig], out: Path, data: Data, changes: dict[str, Any], seed: int, progress: Progress
) -> None:
    """Train the method of every row. A training that `out` already holds is continued.

    Args:
        out: folder of checkpoints and weights, one folder per row in it.
        changes: settings that replace those of each row.

    Raises:
        BadInput: for an unknown name, a method without training, a setting that cannot be used, or a folder of a
            training with other data.
        methods.base.Paused: where `progress` is out of time.
    """
    methods = [_method(row, changes) for row in rows]
    check_writable(out)
    _same_data(out, data.description)
    for method in methods:
        try:
            method.fit(data.train, data.val, out, seed, progress)
        except (ValueError, FloatingPointError) as error:
            raise BadInput(f"train {method.name}: {' '.join(str(error).split())}") from error


def _method(row: MethodConfig, changes: dict[str, Any]) -> Method:
    """The method of a row with `changes` to its settings."""
    settings = {**row.settings, **changes}
    if isinstance(row.settings.get("training"), dict):
        settings["training"] = {**row.settings["training"], **changes.get("training", {})}
    try:
        method = create_method(row.method, settings, row.name)
    except ValidationError as error:
        raise BadInput(f"train {row.name}: {explain(error, METHODS[row.method].load().Settings)}") from error
    except ValueError as error:
        raise BadInput(f"train {row.name}: {' '.join(str(error).split())}") from error
    if not trainable(method):
        raise BadInput(f"--methods {row.name}: it has nothing to train; `list methods` shows the trainable ones")
    return method


def _same_data(out: Path, description: dict[str, Any]) -> None:
    """Write the data's description into `out`/data.json, or raise BadInput where another one is there."""
    file = out / "data.json"
    if file.is_file():
        before = json.loads(file.read_text(encoding="utf-8"))
        if before != description:
            raise BadInput(
                f"--out {out}: expected the data of the training in it, {before}, got {description}; choose another "
                "folder"
            )
    elif os.environ.get("RANK", "0") == "0":  # torchrun: one process of several writes
        out.mkdir(parents=True, exist_ok=True)
        text = json.dumps(description, indent=1) + "\n"
        atomic_write(file, lambda unfinished: unfinished.write_text(text, encoding="utf-8"))
