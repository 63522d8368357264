"""JSON and YAML files, read with one error line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmark.errors import BadInput
from methods.text_files import read_text


def read_json(path: Path, expected: str, kind: type = dict) -> Any:
    """Read a JSON file.

    Args:
        path: the file.
        expected: description of the right content, for the error.
        kind: type of the top level.

    Returns:
        The content, of type `kind`.

    Raises:
        BadInput: if the file is missing, is not JSON, or has another type at the top level.
    """
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError) as error:
        raise _refused(path, expected, error) from error
    return _checked(path, expected, kind, content)


def read_yaml(path: Path, expected: str, kind: type = dict) -> Any:
    """Read a YAML file; arguments, result and errors as `read_json`."""
    # Imported here, because a machine that only trains has no PyYAML.
    import yaml

    try:
        content = yaml.safe_load(read_text(path))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise _refused(path, expected, error) from error
    return _checked(path, expected, kind, content)


def _refused(path: Path, expected: str, error: Exception) -> BadInput:
    """The error for a file that cannot be read or parsed."""
    found = " ".join(str(error).split())[:200]
    return BadInput(f"{path}: expected {expected}, found {found}; correct it")


def _checked(path: Path, expected: str, kind: type, content: Any) -> Any:
    """The content, if it has the right type."""
    if not isinstance(content, kind):
        found = f"the text {content[:60]!r}" if isinstance(content, str) else type(content).__name__
        raise BadInput(f"{path}: expected {expected}, found {found}; correct it")
    return content
