"""From typed options to a checked request. Every mistake is a BadInput that names the option and its value."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

from benchmark.config import MethodConfig, RunConfig, load_config
from benchmark.datasets.io.label_maps import LabelMaps, parse_label_maps
from benchmark.datasets.patients import LabelSettings, Modalities
from benchmark.datasets.preprocessing import Modality
from benchmark.errors import BadInput
from benchmark.execution.plan import OnStale
from benchmark.execution.runner import Engine, RunOptions
from methods.registry import DATASETS, METHODS, UnknownName, load_plugin

EVALUATE = ("vertebrae", "bodies")


def load_plugins(files: Sequence[Path]) -> None:
    """Execute plugin files.

    Raises:
        BadInput: for a file that is missing or raises an error.
    """
    for file in files:
        try:
            load_plugin(file)
        except FileNotFoundError as error:
            raise BadInput(str(error)) from error
        except Exception as error:  # a plugin may raise anything; the user needs its name
            raise BadInput(f"--plugin {file}: {type(error).__name__}: {error}; --debug shows the traceback") from error


def parse_names(text: str) -> list[str]:
    """The names in a comma-separated list, without spaces and empty entries."""
    return [name.strip() for name in text.split(",") if name.strip()]


def parse_dataset(text: str) -> dict[str, Any]:
    """Read `NAME` or `NAME:ARGUMENT` as a dataset.

    Returns:
        `name`, and `settings` where there is an argument: keys of `DatasetConfig`.

    Raises:
        BadInput: for an unknown name, or an argument that the dataset does not take.
    """
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
    """Read `NAME` or `NAME:ARGUMENT` as a row. The check of the configuration finds unknown names later.

    Returns:
        Keys of `MethodConfig`. A row with an argument is named NAME-LAST, where LAST is the last part of the argument
        as a path, so that one table can hold several.

    Raises:
        BadInput: for an argument that is empty or that the method does not take.
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


def run_request(
    config: str, methods: str = "", dataset: str = "", device: str = "", limit: int | None = None,
    save_fields: bool = False, plugins: Sequence[Path] = (), repeats: int | None = None, label_map: str | None = None,
    evaluate: str = "",
) -> RunConfig:  # fmt: skip
    """The checked configuration of a run. An option that is empty or None leaves the configuration's value.

    Raises:
        BadInput: for the first option or configuration key that cannot be used.
    """
    load_plugins(plugins)
    base = load_config(config, executed=plugins)
    changes: dict[str, Any] = {}
    if methods:
        rows = {m.name: m.model_dump() for m in base.methods}
        changes["methods"] = [rows.get(name) or parse_method(name) for name in parse_names(methods)]
    if device:
        changes["devices"] = parse_names(device)
    chosen = parse_dataset(dataset) if dataset else base.dataset.model_dump()
    chosen = _with_label_options(chosen, label_map, evaluate)
    changes["dataset"] = {**chosen, **({"limit": limit} if limit is not None else {})}
    if save_fields:
        changes["save_fields"] = True
    if repeats is not None:
        changes["repeats"] = repeats
    if plugins:
        changes["plugins"] = [str(p.expanduser().resolve()) for p in plugins]
    return load_config(config, changes, plugins)


def _with_label_options(dataset: dict[str, Any], label_map: str | None, evaluate: str) -> dict[str, Any]:
    """A dataset's configuration with the options that are settings of label files; the options replace its values."""
    options: dict[str, Any] = {}
    if label_map is not None:
        options["label_map"] = label_maps(label_map)
    if evaluate:
        options["evaluate"] = _checked("--evaluate", evaluate, EVALUATE)
    known = DATASETS[dataset["name"]].load().Settings.model_fields if options else {}
    for setting in options:
        if setting not in known:
            option = f"--{setting.replace('_', '-')}"
            raise BadInput(f"{option}: expected a dataset of label files such as --dataset folders:DIR, got "
                           f"{dataset['name']}, which has no such setting")  # fmt: skip
    return {**dataset, "settings": {**dataset.get("settings", {}), **options}} if options else dataset


def label_maps(text: str | None) -> LabelMaps:
    """The checked choice of label maps.

    Raises:
        BadInput: for a text that is none; the message shows the form.
    """
    try:
        return parse_label_maps(text)
    except ValueError as error:
        raise BadInput(f"--label-map {text}: {error}") from error


def label_settings(label_map: str | None, evaluate: str, fixed: str, moving: str) -> LabelSettings:
    """The checked settings of a pair's label files, and its modalities.

    Raises:
        BadInput: for a value that an option does not take.
    """
    modality = Modalities(
        fixed=_checked("--fixed-modality", fixed, get_args(Modality)),
        moving=_checked("--moving-modality", moving, get_args(Modality)),
    )
    part = _checked("--evaluate", evaluate or EVALUATE[0], EVALUATE)
    return LabelSettings(modality=modality, label_map=label_maps(label_map), evaluate=part)


def _checked(option: str, value: str, expected: Sequence[str]) -> Any:
    """The value, if the option takes it."""
    if value not in expected:
        raise BadInput(f"{option} {value}: expected {', '.join(expected)}")
    return value


def run_options(on_stale: str, retry_failed: bool, jobs: int, engine: str, scheduler: str) -> RunOptions:
    """The checked options of a run that do not change its values.

    Raises:
        BadInput: for a value that an option does not take, or a scheduler without the dask engine.
    """
    for option, value, kind in (("--on-stale", on_stale, OnStale), ("--engine", engine, Engine)):
        _checked(option, value, get_args(kind))
    if scheduler and engine != "dask":
        raise BadInput(f"--scheduler {scheduler}: expected --engine dask with it, got {engine}")
    return RunOptions(cast(OnStale, on_stale), retry_failed, jobs, cast(Engine, engine), scheduler)


@dataclass(frozen=True)
class TrainRequest:
    """The options of `train`, as typed. An option that is empty or None leaves the choice to the method.

    Attributes:
        methods: comma-separated names of rows.
        out: folder of checkpoints, weights, curves and pictures.
        minutes: time after which training pauses.
        start: file of weights to start from.
        val_limit: number of validation cases.
        sweep: train the paper's tuning series instead of `methods`.
        cache: whether simulated cases are kept on disk and read from there.
    """

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
    def settings(self) -> dict[str, Any]:
        """Settings that replace those of each row."""
        start = str(self.start) if self.start else ""
        training = {k: v for k, v in (("steps", self.steps), ("device", self.device), ("start", start)) if v}
        return {**({"profile": self.profile} if self.profile else {}), **({"training": training} if training else {})}

    def rows_and_dataset(self) -> tuple[list[MethodConfig], dict[str, Any]]:
        """The rows to train, and the dataset as `parse_dataset` gives it.

        Raises:
            BadInput: for an unknown name, or where no row is named.
        """
        base = load_config(self.config, executed=self.plugins) if self.config else None
        known = {m.name: m for m in base.methods} if base else {}
        try:
            rows = [known.get(n) or MethodConfig(method=METHODS[n].name, name=n) for n in parse_names(self.methods)]
        except UnknownName as error:
            raise BadInput(f"train: {error}") from error
        if not rows:
            raise BadInput("--methods: expected the names of rows to train, separated by commas, got none")
        if base is not None and not self.dataset:
            return rows, base.dataset.model_dump()
        return rows, parse_dataset(self.dataset or "phantom")
