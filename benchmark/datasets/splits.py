"""Split files, which assign patients to train, val and test: the schema of `data_splits/*.json`.

    {"dataset": "folders", "seed": 0, "train": ["p1", ...], "val": [...], "test": [...]}

A patient is in one split with all its scans: names such as sub-1_ses-a and sub-1_ses-b are one patient.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.datasets.base import SPLITS, check_split
from benchmark.datasets.io.documents import read_json
from benchmark.errors import BadInput, check_writable, reason
from methods.atomic import atomic_write

PAPER_SIZES = {"train": 117, "val": 25, "test": 25}  # patients


class Splits(BaseModel):
    """A split file. dataset: whose cases they are. seed: of the random split. train, val, test: names of cases."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dataset: str | None = None
    seed: int | None = Field(default=None, ge=0)
    train: list[str] = []
    val: list[str] = []
    test: list[str] = []

    def of(self, split: str) -> list[str]:
        """List the cases of one split: train, val or test. Raises ValueError for another name."""
        check_split(split)
        return list(getattr(self, split))

    @model_validator(mode="after")
    def _disjoint(self) -> Splits:
        """Refuse a name that occurs twice, and a patient in two splits."""
        names = [(name, split) for split in SPLITS for name in getattr(self, split)]
        split_of: dict[str, str] = {}
        for name, _ in names:
            if sum(name == other for other, _ in names) > 1:
                raise ValueError(f"expected every patient once, found {name!r} more than once; leave it in one split")
        for name, split in names:
            if split_of.setdefault(patient_of(name), split) != split:
                raise ValueError(
                    f"expected each patient in one split, found {patient_of(name)!r} in "
                    f"{split_of[patient_of(name)]!r} and as {name!r} in {split!r}; leave all its scans in one"
                )
        return self


def patient_of(name: str) -> str:
    """Return the patient of a case: a BIDS name (sub-...) up to its first underscore, else the name itself."""
    return name.partition("_")[0] if name.startswith("sub-") else name


def read_splits(path: Path) -> Splits:
    """Read a split file; a split that is absent is empty.

    Raises:
        BadInput: if the file has another content, or if one patient is in two splits.
    """
    content = read_json(path, "a JSON object of lists of patients: train, val, test")
    try:
        return Splits(**content)
    except ValidationError as error:
        first = error.errors()[0]
        if first["type"] == "value_error":
            raise BadInput(f"{path}: {first['msg'].removeprefix('Value error, ')}") from error
        key = ".".join(str(part) for part in first["loc"])
        raise BadInput(
            f"{path}: expected lists of names under train, val and test, found {first['input']!r} as {key}; correct it"
        ) from error


def draw_splits(names: Sequence[str], evaluable: Sequence[str], dataset: str, seed: int) -> Splits:
    """Assign patients to splits at random, in the paper's proportions (117, 25, 25), at least one to each.

    Args:
        names: of all cases.
        evaluable: those with labels of the fixed scan. A patient with any other case is used for training.
        dataset: for the split file and the error.
        seed: of the random order.

    Raises:
        BadInput: if there are fewer than three evaluable patients.
    """
    others = {patient_of(name) for name in set(names) - set(evaluable)}
    patients = sorted({patient_of(name) for name in evaluable} - others)
    if len(patients) < 3:
        raise BadInput(
            f"--dataset {dataset}: expected at least three patients with labels of both scans, found {len(patients)}; "
            "one is needed for each of train, val and test"
        )
    order = [patients[i] for i in np.random.default_rng(seed).permutation(len(patients))]
    total = len(patients) + len(others)
    val, test = (
        min(max(1, round(total * PAPER_SIZES[split] / sum(PAPER_SIZES.values()))), len(patients) // 3)
        for split in ("val", "test")
    )
    split_of = dict.fromkeys(order[:val], "val") | dict.fromkeys(order[val : val + test], "test")
    lists = {s: sorted(name for name in names if split_of.get(patient_of(name), "train") == s) for s in SPLITS}
    return Splits(dataset=dataset, seed=seed, **lists)


def write_splits(path: Path, splits: Splits) -> None:
    """Write a split file, atomically.

    Raises:
        BadInput: if the file exists already or cannot be written.
    """
    if path.exists():
        raise BadInput(f"{path}: expected a new file, found one there already; choose another --out")
    check_writable(path.parent)
    text = json.dumps(splits.model_dump(), indent=1, ensure_ascii=False) + "\n"
    try:
        atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    except OSError as error:
        raise BadInput(f"{path}: expected a place to write to, found: {reason(error)}; choose another --out") from error
