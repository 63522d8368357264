"""The `split` command: patients divided at random into train, val and test."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from benchmark.cli.requests import parse_dataset
from benchmark.datasets.base import SPLITS
from benchmark.datasets.splits import draw_splits, write_splits
from benchmark.errors import BadInput
from methods.registry import DATASETS


def split(dataset: str, seed: int, out: Path | None, console: Console) -> None:
    """Draw train, val and test from a dataset's patients and write the split file.

    Args:
        dataset: `NAME:DIR`, of a dataset that takes a split file.
        out: a new file; None for data_splits/DIR.json in the working directory.

    Raises:
        BadInput: for a dataset that has no patients to divide, or a file that exists.
    """
    chosen = parse_dataset(dataset)
    name, settings = chosen["name"], chosen.get("settings", {})
    if "split_file" not in DATASETS[name].load().Settings.model_fields:
        raise BadInput(f"--dataset {dataset}: {name} has its own splits; expected a dataset of folders, as folders:DIR")
    if not settings:
        raise BadInput(f"--dataset {dataset}: expected the folder of patients, as {name}:DIR")
    source = DATASETS.create(name, settings)
    splits = draw_splits(source.cases("train"), source.cases("test"), name, seed)
    file = out or Path("data_splits") / f"{source.folder.resolve().name}.json"
    write_splits(file, splits)
    counts = ", ".join(f"{len(getattr(splits, s))} {s}" for s in SPLITS)
    console.print(f"wrote {file}: {counts}", markup=False, soft_wrap=True)
    console.print(
        f"In a config: dataset: {{name: {name}, settings: {{dir: {source.folder}, split_file: {file}}}}}",
        markup=False, soft_wrap=True,
    )  # fmt: skip
