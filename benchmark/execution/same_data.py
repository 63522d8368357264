"""Whether a run folder holds a run on the same data set as a request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmark.config import RunConfig
from benchmark.errors import BadInput

# Settings that say where the data lie; others change the cases, whose cells are then stale.
SOURCES = ("dir", "ct", "labels")


def check_same_data(folder: Path, config: RunConfig) -> None:
    """Refuse a run folder with cells of another data set.

    Args:
        folder: of the run; it need not exist.
        config: the request.

    Raises:
        BadInput: the message names both data sets.
    """
    if not any(folder.glob("cells/*/*.json")):
        return
    try:
        stored = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["dataset"]
        before = _source(stored["name"], stored.get("settings") or {})
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError):
        return  # an unfinished or damaged file is written again
    now = _source(config.dataset.name, config.dataset.settings)
    if before != now:
        raise BadInput(
            f"--out {folder}: expected a run on {_in_words(before)}, as the cells in it, got {_in_words(now)}; choose "
            "another folder"
        )


def _source(name: str, settings: Mapping[str, Any]) -> tuple[str, ...]:
    """The data set's name and the places of its files."""
    places = (str(Path(str(settings[key])).expanduser().resolve()) for key in SOURCES if key in settings)
    return (name, *places)


def _in_words(source: tuple[str, ...]) -> str:
    return ":".join(source)
