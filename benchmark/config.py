"""A run's request as YAML or command line, checked before anything starts."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from benchmark.errors import BadInput
from benchmark.execution.resources import usable_cores
from methods.registry import DATASETS, METHODS

CONFIGS = Path(__file__).parent / "configs"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DatasetConfig(_Strict):
    """Which cases: a dataset by name, its settings, one split, and the first `limit` cases of it."""

    name: str
    settings: dict[str, Any] = {}
    split: Literal["train", "val", "test"] = "test"
    limit: int | None = Field(default=None, ge=1)


class MethodConfig(_Strict):
    """One row of the table: a registered method, settings over its own, and the row's name (else the method's).

    of: the row that this is another training or another draw of: reports take them together as its seeds. seed: in
    place of the run's.
    """

    method: str
    name: str
    settings: dict[str, Any] = {}
    of: str | None = None
    seed: int | None = Field(default=None, ge=0)

    @property
    def row(self) -> str:
        """The row of the table that it belongs to."""
        return self.of or self.name

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, value: Any) -> Any:
        value = {"method": value} if isinstance(value, str) else value
        return {"name": value["method"], **value} if isinstance(value, dict) and "method" in value else value


class RunConfig(_Strict):
    """All that decides a run. threads: CPU threads a method may use.

    time_limit_s: for one case. memory_limit_gb: for a method's process and all that it starts; unless told, nine tenths
    of the machine's, shared by the cells that run beside each other.
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
    def _known(self) -> RunConfig:
        for method in self.methods:
            METHODS[method.method]
        DATASETS[self.dataset.name]
        names = [m.name for m in self.methods]
        twice = {n for n in names if names.count(n) > 1}
        if twice:
            raise ValueError(f"methods: expected each row's name once, got {', '.join(sorted(twice))} more than once")
        if len(set(self.devices)) < len(self.devices):
            raise ValueError(f"devices: expected each once, got {', '.join(self.devices)}")
        seeds = [f"{m.row} with seed {self.seed_of(m)}" for m in self.methods]
        twice = {n for n in seeds if seeds.count(n) > 1}
        if twice:
            raise ValueError(f"methods: expected a seed of its own for each of a row's, got {', '.join(sorted(twice))} "
                             "more than once; say which in `seed`")  # fmt: skip
        return self

    def seed_of(self, m: MethodConfig) -> int:
        """The seed of one of `methods`."""
        return self.seed if m.seed is None else m.seed

    def to_yaml(self) -> str:
        return yaml.safe_dump(json.loads(self.model_dump_json()), sort_keys=False)


def load_config(name: str, changes: dict[str, Any] | None = None) -> RunConfig:
    """The configuration in a YAML file, or a built-in one by name (`list configs`), with `changes` on top.

    Raises BadInput, one line, naming the key, what was expected and the nearest known key.
    """
    file = Path(name) if name.endswith((".yaml", ".yml")) else CONFIGS / f"{name}.yaml"
    if not file.is_file():
        known = ", ".join(config_names())
        raise BadInput(f"--config {name}: expected a YAML file or one of {known}; found no {file}")
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise BadInput(f"--config {file}: expected YAML, {_where(error)}") from error
    if not isinstance(content, dict):
        raise BadInput(f"--config {file}: expected keys and values, got {type(content).__name__}")
    return make_config({**content, **(changes or {})}, f"--config {name}")


def _where(error: Exception) -> str:
    """A fault in YAML in one line."""
    mark, problem = getattr(error, "problem_mark", None), getattr(error, "problem", None)
    if mark is None or problem is None:
        return " ".join(str(error).split())
    return f"line {mark.line + 1}, column {mark.column + 1}: {problem}"


def make_config(content: dict[str, Any], source: str) -> RunConfig:
    """A checked configuration from plain values. Raises BadInput, one line that begins with `source`."""
    try:
        return RunConfig(**content)
    except ValidationError as error:
        raise BadInput(f"{source}: {explain(error, RunConfig)}") from error
    except TypeError as error:
        raise BadInput(f"{source}: {error}") from error


def explain(error: ValidationError, model: type[BaseModel]) -> str:
    """The first mistake of a pydantic error in one line, with the nearest known key for an unknown one."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        known = [name for name in _every_key(model) if name != first["loc"][-1]]  # it stands elsewhere
        near = difflib.get_close_matches(str(first["loc"][-1]), known, n=1)
        return f"unknown key {key!r}" + (f"; did you mean {near[0]!r}?" if near else "")
    message = first["msg"].removeprefix("Value error, ")
    if not key:
        return message
    allowed = re.findall(r"'([^']+)'", str(first.get("ctx", {}).get("expected", "")))
    near = difflib.get_close_matches(str(first["input"]), allowed, n=1)
    return f"{key}: {message}, got {first['input']!r}" + (f"; did you mean {near[0]!r}?" if near else "")


def config_names() -> Sequence[str]:
    """The built-in configurations."""
    return sorted(file.stem for file in CONFIGS.glob("*.yaml"))


def _every_key(model: type[BaseModel]) -> list[str]:
    keys = list(model.model_fields)
    for part in (DatasetConfig, MethodConfig):
        keys += [k for k in part.model_fields if k not in keys]
    return keys
