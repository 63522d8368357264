"""The configuration of a run: read from YAML, changed by options, checked before anything starts."""

from __future__ import annotations

import difflib
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import BadInput
from benchmark.execution.resources import usable_cores
from methods.registry import DATASETS, METHODS
from methods.text_files import read_text

CONFIGS = Path(__file__).parent / "configs"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(_Strict):
    """The cases of a run. In YAML the name of a dataset alone has default settings.

    Attributes:
        name: of a registered dataset.
        settings: of the dataset.
        split: `train`, `val` or `test`.
        limit: number of cases, from the first of the split; None for all.
    """

    name: str
    settings: dict[str, Any] = {}
    split: Literal["train", "val", "test"] = "test"
    limit: int | None = Field(default=None, ge=1)

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Complete `phantom` to `{name: phantom}`."""
        return {"name": value} if isinstance(value, str) else value


class MethodConfig(_Strict):
    """One row of the table. In YAML a row may be the name of a method alone.

    Attributes:
        method: name of a registered method.
        name: name of the row; default: the method's.
        settings: replace the registered settings of the method.
        of: name of another row, of which this row is a further training or random draw. Reports count this row as one
            seed of the other.
        seed: replaces the run's seed.
    """

    method: str
    name: str
    settings: dict[str, Any] = {}
    of: str | None = None
    seed: int | None = Field(default=None, ge=0)

    @property
    def row(self) -> str:
        """Name of the row under which reports show it."""
        return self.of or self.name

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        """Complete `initial` to `{method: initial, name: initial}`."""
        value = {"method": value} if isinstance(value, str) else value
        return {"name": value["method"], **value} if isinstance(value, dict) and "method" in value else value


class RunConfig(_Strict):
    """Everything that decides the results of a run.

    Attributes:
        threads: CPU threads that a method may use; default: the processors that this process may use.
        repeats: registrations of each pair; the median time counts.
        time_limit_s: for one case, seconds.
        memory_limit_gb: for a method's process and the processes that it starts, GiB. Default: nine tenths of the
            machine's memory, divided among the cells that run at the same time.
        save_fields: whether displacement fields are saved as NIfTI.
        plugins: Python files that the processes of methods execute. A command executes them only where `--plugin` names
            them too: a configuration alone executes no file.
    """

    dataset: DatasetConfig
    methods: list[MethodConfig] = Field(min_length=1)
    devices: list[Literal["cpu", "cuda"]] = ["cpu"]
    threads: int = Field(default_factory=usable_cores, ge=1)
    repeats: int = Field(default=1, ge=1)
    seed: int = 0
    time_limit_s: float = Field(default=3600, gt=0)
    memory_limit_gb: float | None = Field(default=None, gt=0)
    save_fields: bool = False
    plugins: list[Path] = []

    @model_validator(mode="after")
    def _consistent(self) -> RunConfig:
        """Check that names are registered and that rows, devices and seeds are unique."""
        for method in self.methods:
            METHODS[method.method]
        DATASETS[self.dataset.name]
        if repeated := _repeated(m.name for m in self.methods):
            raise ValueError(f"methods: expected each row's name once, got {repeated} more than once")
        if len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices: expected each once, got {', '.join(self.devices)}")
        if repeated := _repeated(f"{m.row} with seed {self.seed_of(m)}" for m in self.methods):
            raise ValueError(
                f"methods: expected different seeds for the trainings of a row, got {repeated} more than once; "
                "set `seed` of each"
            )
        return self

    def seed_of(self, m: MethodConfig) -> int:
        """The seed of one of `methods`: its own, else the run's."""
        return self.seed if m.seed is None else m.seed

    def to_yaml(self) -> str:
        """The configuration as YAML, with defaults written out."""
        return yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False)


def _repeated(names: Iterable[str]) -> str:
    """The names that occur more than once, comma-separated."""
    return ", ".join(sorted(name for name, count in Counter(names).items() if count > 1))


def load_config(name: str, changes: dict[str, Any] | None = None, executed: Sequence[Path] | None = None) -> RunConfig:
    """Read a configuration.

    Args:
        name: a YAML file, or the name of a built-in configuration (`list configs`).
        changes: top-level keys that replace those of the file.
        executed: the plugins that the user has named; a file that names another is refused. None: no check.

    Raises:
        BadInput: one line with the key, what was expected and the nearest known key.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(config_names())
        raise BadInput(
            f"--config {name}: expected a YAML file or one of {known}, found no {file}; `list configs` shows the names"
        )
    try:
        content = yaml.safe_load(read_text(file))
    except (yaml.YAMLError, ValueError) as error:
        raise BadInput(f"--config {file}: expected YAML, {_one_line(error)}") from error
    if not isinstance(content, dict):
        raise BadInput(f"--config {file}: expected keys and values, got {type(content).__name__}")
    if executed is not None:
        _check_plugins(content.get("plugins"), executed, f"--config {name}")
    return make_config({**content, **(changes or {})}, f"--config {name}")


def _check_plugins(named: Any, executed: Sequence[Path], source: str) -> None:
    """Refuse plugins that only the configuration names: a file of settings must not bring code."""
    if not isinstance(named, list):  # absent, or wrong and refused with the other keys
        return
    known = {file.expanduser().resolve() for file in executed}
    absent = [str(file) for file in named if Path(str(file)).expanduser().resolve() not in known]
    if absent:
        options = shlex.join(word for file in absent for word in ("--plugin", file))
        raise BadInput(
            f"{source}: plugins: expected files that the command line names too, since a configuration executes none;"
            f" add {options}"
        )


def _one_line(error: Exception) -> str:
    """An error of the YAML reader in one line, with its position where it has one."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def make_config(content: dict[str, Any], source: str) -> RunConfig:
    """Check the content of a configuration.

    Args:
        content: keys and values as in YAML.
        source: where they come from; the message of an error starts with it.

    Raises:
        BadInput: for the first key that cannot be used.
    """
    try:
        return RunConfig(**content)
    except ValidationError as error:
        raise BadInput(f"{source}: {explain(error, RunConfig)}") from error
    except TypeError as error:
        raise BadInput(f"{source}: {error}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake of a pydantic error in one line.

    Args:
        model: the settings that were validated; an unknown key is compared with its keys.
    """
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        # The same key may exist at another level, where it was not written.
        known = [name for name in _all_keys(model) if name != first["loc"][-1]]
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return message
    allowed = re.findall(r"'([^']+)'", str(first.get("ctx", {}).get("expected", "")))
    near = difflib.get_close_matches(str(first["input"]), allowed, n=1)
    return f"{key}: {message}, got {first['input']!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def config_names() -> Sequence[str]:
    """Names of the built-in configurations, in alphabetical order."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def _all_keys(model: type[BaseModel]) -> list[str]:
    """The keys of a model, then those of datasets and rows."""
    keys = list(model.model_fields)
    for part in (DatasetConfig, MethodConfig):
        keys += [k for k in part.model_fields if k not in keys]
    return keys
