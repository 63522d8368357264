"""The plugin file with the dataset `blocks`, and `train` on it."""

from __future__ import annotations

from pathlib import Path

from support.command_line import invoke
from typer.testing import Result

LEARNER = Path(__file__).resolve().parents[1] / "plugins" / "learner.py"


def train(out: Path, *more: object) -> Result:
    """Run `train` on `blocks` into `out`."""
    return invoke("train", "--plugin", LEARNER, "--dataset", "blocks", "--out", out, *more)
