"""The `train` command: a training that shows its progress, can be stopped and can be continued."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmark import sweep, training
from benchmark.cli.progress import TrainingBar
from benchmark.cli.requests import TrainRequest, load_plugins
from benchmark.datasets.cache import switched
from methods.base import Paused


def train(request: TrainRequest, draw: Callable[[Any, str, Path], None], console: Console) -> bool:
    """Train the requested rows, or with `sweep` the paper's tuning series.

    Args:
        draw: writes the picture of a validation case, given the preview, a title and a file.

    Returns:
        True where the training is complete, False where `minutes` ended it before.

    Raises:
        BadInput: for an option that cannot be used; nothing is trained then.
        SystemExit: with status 130 after Ctrl-C.
    """
    load_plugins(request.plugins)
    rows, dataset = request.rows_and_dataset()
    shown = console if os.environ.get("RANK", "0") == "0" else Console(quiet=True)  # torchrun: one process prints

    def notice(line: str) -> None:
        shown.print(line, style="yellow", markup=False, soft_wrap=True)

    data = training.open_data(dataset["name"], dataset.get("settings", {}), request.val_limit, notice)
    try:
        with switched(request.cache), TrainingBar(shown, request.out, request.minutes, draw) as bar:
            bar("Loading the patients ...")
            if request.sweep:
                sweep.sweep(request.out, data, request.settings, request.seed, bar)
            else:
                training.train(rows, request.out, data, request.settings, request.seed, bar)
    except Paused as pause:
        shown.print(f"Time is up: {pause}. The same command continues from there.", markup=False, soft_wrap=True)
        return False
    except KeyboardInterrupt:
        console.print(f"\nStopped. The last checkpoints are in {request.out}; the same command continues from there.",
                      markup=False, soft_wrap=True)  # fmt: skip
        raise SystemExit(130) from None
    return True
