"""Folders of small text files."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent


def write_files(folder: Path, files: dict[str, str]) -> Path:
    """Write files, given by their path in `folder`, without the indentation of their text. Returns `folder`."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text), encoding="utf-8")
    return folder
