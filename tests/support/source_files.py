"""Files written for a test."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent


def written(folder: Path, files: dict[str, str]) -> Path:
    """Write files, name to text, into a folder. Returns the folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(dedent(text), encoding="utf-8")
    return folder
