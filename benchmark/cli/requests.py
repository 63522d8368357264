"""The commands' bodies: from what was typed to a checked request, and from there to the rooms below."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape

from benchmark.config import MethodConfig, RunConfig, config_names, load_config
from benchmark.datasets.base import SPLITS
from benchmark.datasets.cache import switched
from benchmark.errors import BadInput, check_writable
from methods.base import trainable
from methods.registry import DATASETS, METHODS, METRICS, PENALTIES, UnknownName, create_method, load_plugin


def load_plugins(files: Sequence[Path]) -> None:
    """Run the plugin files. Raises BadInput, naming the file, for one that cannot be run."""
    for file in files:
        try:
            load_plugin(file)
        except FileNotFoundError as error:
            raise BadInput(str(error)) from error
        except Exception as error:  # a plugin may raise anything; the user needs its name
            raise BadInput(f"--plugin {file}: {type(error).__name__}: {error}; --debug shows where") from error


def parse_dataset(text: str) -> dict[str, Any]:
    """`NAME` or `NAME:ARGUMENT` as a dataset's name and settings. Raises BadInput for an unknown name or argument."""
    name, colon, argument = text.partition(":")
    try:
        kind = DATASETS[name].load()
    except UnknownName as error:
        raise BadInput(f"--dataset {text}: {error}") from error
    if not colon:
        return {"name": name}
    if kind.argument is None:
        raise BadInput(f"--dataset {text}: {name} takes nothing after the colon; settings go into a YAML config")
    return {"name": name, "settings": {kind.argument: argument}}


def parse_method(text: str) -> dict[str, Any]:
    """`NAME` or `NAME:ARGUMENT` as a row. Raises BadInput for an argument that the method does not take.

    With an argument the row is called NAME-LAST, LAST being the last part of the argument as a path, so that several
    can stand in one table. An unknown name is left to the configuration's own check.
    """
    name, colon, argument = text.partition(":")
    if not colon or name not in METHODS:
        return {"method": name}
    kind = METHODS[name].load()
    if kind.argument is None:
        raise BadInput(f"--methods {text}: {name} takes nothing after the colon; settings go into a YAML config")
    if not argument:
        raise BadInput(f"--methods {text}: expected {name}:{kind.argument.upper()}, got nothing after the colon")
    return {"method": name, "name": f"{name}-{Path(argument).resolve().name}", "settings": {kind.argument: argument}}


def request(
    config: str, methods: str, dataset: str, device: str, limit: int | None, save_fields: bool, plugins: Sequence[Path],
    repeats: int | None = None,
) -> RunConfig:  # fmt: skip
    """The configuration that the options of `run` ask for."""
    load_plugins(plugins)
    base = load_config(config)
    changes: dict[str, Any] = {}
    if methods:
        rows = {m.name: m.model_dump() for m in base.methods}
        changes["methods"] = [rows.get(name) or parse_method(name) for name in _names(methods)]
    if device:
        changes["devices"] = _names(device)
    chosen = parse_dataset(dataset) if dataset else base.dataset.model_dump()
    changes["dataset"] = {**chosen, **({"limit": limit} if limit is not None else {})}
    if save_fields:
        changes["save_fields"] = True
    if repeats is not None:
        changes["repeats"] = repeats
    if plugins:
        changes["plugins"] = [str(p.expanduser().resolve()) for p in plugins]
    return load_config(config, changes)


@dataclass(frozen=True)
class TrainRequest:
    """What the options of `train` ask for; empty or None leaves it to the method. cache: as for `run_config`."""

    methods: str
    out: Path
    config: str = ""
    dataset: str = ""
    profile: str = ""
    steps: int | None = None
    minutes: float | None = None
    device: str = ""
    start: Path | None = None
    val_limit: int = 8
    seed: int = 0
    sweep: bool = False
    cache: bool = True
    plugins: Sequence[Path] = ()

    @property
    def changes(self) -> dict[str, Any]:
        """Settings over the methods' own."""
        start = str(self.start) if self.start else ""
        training = {k: v for k, v in (("steps", self.steps), ("device", self.device), ("start", start)) if v}
        return {**({"profile": self.profile} if self.profile else {}), **({"training": training} if training else {})}


def train(asked: TrainRequest, draw: Callable[[Any, str, Path], None], console: Console) -> bool:
    """Train methods, or with `sweep` compare settings; draw: of a validation case. False where time was up before."""
    from benchmark.cli.progress import TrainingBar
    from benchmark.sweep import sweep
    from benchmark.training import open_data
    from benchmark.training import train as fit
    from methods.base import Paused

    load_plugins(asked.plugins)
    base = load_config(asked.config) if asked.config else None
    known = {m.name: m for m in base.methods} if base else {}
    try:
        rows = [known.get(n) or MethodConfig(method=METHODS[n].name, name=n) for n in _names(asked.methods)]
    except UnknownName as error:
        raise BadInput(f"train: {error}") from error
    if not rows:
        raise BadInput("--methods: expected the names of rows to train, separated by commas, got none")
    dataset = parse_dataset(asked.dataset or "phantom") if asked.dataset or base is None else base.dataset.model_dump()
    data = open_data(dataset["name"], dataset.get("settings", {}), asked.val_limit)
    first = os.environ.get("RANK", "0") == "0"  # of several processes (torchrun) one is seen
    try:
        shown = console if first else Console(quiet=True)
        with switched(asked.cache), TrainingBar(shown, asked.out, asked.minutes, draw) as bar:
            if asked.sweep:
                sweep(asked.out, data, asked.changes, asked.seed, bar)
            else:
                fit(rows, asked.out, data, asked.changes, asked.seed, bar)
    except Paused as pause:
        if first:
            console.print(f"Time is up: {pause}. The same command goes on from there.", markup=False, soft_wrap=True)
        return False
    except KeyboardInterrupt:
        console.print(f"\nStopped. The last checkpoints are in {asked.out}; the same command goes on from there.",
                      markup=False, soft_wrap=True)  # fmt: skip
        raise SystemExit(130) from None
    return True


def split(dataset: str, seed: int, out: Path | None, console: Console) -> None:
    """Draw train, val and test from a dataset's patients and write them into a split file."""
    from benchmark.datasets.splits import draw_splits, write_splits

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


def simulate(
    ct: Path, labels: Path, out: Path, count: int, seed: int, weighting: str, exact_labels: bool, console: Console
) -> None:
    """Write `count` simulated patients made from one CT and its labels, in the paper's folder layout, with the
    displacement that they were made with."""
    from benchmark.datasets.folders import write_patient
    from benchmark.datasets.io.images import check_same_grid, read_image, read_labels
    from benchmark.datasets.synthesis.from_ct import simulate as pair_from

    if weighting not in ("T1", "T2"):
        raise BadInput(f"--weighting {weighting}: expected T1 or T2")
    check_writable(out)
    hu, grid = read_image(ct)
    ids, ids_grid = read_labels(labels)
    check_same_grid(labels, ids_grid, ct, grid)
    folders = {seed + i: out / f"simulated-{seed + i:03d}" for i in range(count)}
    for folder in folders.values():
        if folder.exists():
            raise BadInput(f"{folder}: expected a new folder, found it there already; choose another --out or --seed")
    for number, folder in folders.items():
        pair = pair_from(hu, ids, grid, number, weighting, exact_labels)
        write_patient(
            folder, pair.ct_hu, pair.ct_labels, pair.mr, pair.mr_labels, pair.displacement_mm, pair.grid,
            pair.mr_centroids_mm,
        )  # fmt: skip
        far = np.linalg.norm(pair.displacement_mm[pair.mr_labels > 0], axis=-1)
        count = len(pair.mr_centroids_mm)
        bones = f"{count} vertebra{'' if count == 1 else 'e'}"
        console.print(
            f"wrote {folder}: {bones}, {far.mean():.1f} mm apart, at most {far.max():.1f}",
            markup=False, highlight=False, soft_wrap=True,
        )  # fmt: skip


def register(
    method: str, fixed: Path, moving: Path, moving_labels: Path, out: Path, device: str, plugins: Sequence[Path],
    console: Console,
) -> None:  # fmt: skip
    """Register one pair of files and write displacement, warped image and warped labels into `out`."""
    from benchmark.cli.register import register_files

    load_plugins(plugins)
    try:
        create_method(method)
    except (ValueError, TypeError) as error:
        raise BadInput(f"--method {method}: {' '.join(str(error).split())}") from error
    written, doubts = register_files(method, fixed, moving, moving_labels, out, device, [str(p) for p in plugins])
    for doubt in doubts:
        console.print(doubt, style="yellow", markup=False, soft_wrap=True)
    for file in written:
        console.print(f"wrote {file}", markup=False, soft_wrap=True)


def listing(what: str, plugins: Sequence[Path], console: Console) -> None:
    """Print the names of one kind, what they are and where they come from."""
    from rich.table import Table

    load_plugins(plugins)
    if what == "configs":
        for name in config_names():
            console.print(name)
        return
    kinds = {"methods": METHODS, "datasets": DATASETS, "metrics": METRICS, "penalties": PENALTIES}
    if what not in kinds:
        raise BadInput(f"list {what}: expected methods, datasets, metrics, penalties or configs")
    table = Table("name", "what it is", "from", *(["runs here"] if what == "methods" else []), box=None)
    for entry in kinds[what]:
        cells = [entry.name, entry.summary, entry.origin]
        if what == "methods":
            cells.append(_runs_here(entry.name))
        table.add_row(*(escape(c) for c in cells))
    console.print(table)


def _runs_here(name: str) -> str:
    """The devices of a method and whether it can be trained, or why it cannot be used as it is."""
    try:
        made = create_method(name)
    except (ValueError, TypeError) as error:
        return " ".join(str(error).split())
    return made.unavailable("cpu") or ", ".join(made.devices) + (", trainable" if trainable(made) else "")


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
