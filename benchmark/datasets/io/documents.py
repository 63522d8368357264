"""Small text files that say something about scans: JSON and YAML, read with one clear error."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.errors import BadInput


def read_json(path: Path, expected: str, kind: type = dict) -> Any:
    """The content of a JSON file whose top is a `kind`. expected: what the error says it should be.

    Raises BadInput for a file that is missing, that is not JSON, or that holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise _refused(path, expected, error) from error
    return _checked(path, expected, kind, content)


def read_yaml(path: Path, expected: str, kind: type = dict) -> Any:
    """The same for YAML."""
    # Only here: a bare training machine has no PyYAML.
    import yaml

    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _refused(path, expected, error) from error
    return _checked(path, expected, kind, content)


def _refused(path: Path, expected: str, error: Exception) -> BadInput:
    found = " ".join(str(error).split())[:200]
    return BadInput(f"{path}: expected {expected}, found {found}; correct it")


def _checked(path: Path, expected: str, kind: type, content: Any) -> Any:
    if not isinstance(content, kind):
        raise BadInput(f"{path}: expected {expected}, found {type(content).__name__}; correct it")
    return content
