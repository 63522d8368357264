"""Progress bars of runs and trainings on the console."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from methods import base


@contextmanager
def step(console: Console, words: str) -> Iterator[None]:
    """Show what a command does meanwhile: a moving sign on a terminal, a line elsewhere."""
    if not console.is_terminal:
        console.print(f"{words} ...", markup=False, highlight=False, soft_wrap=True)
    with console.status(words):
        yield


class _CellTime(ProgressColumn):
    """The time since the last cell started, for rows whose cells take minutes."""

    def render(self, task: Task) -> Text:
        since = task.fields.get("since")
        return Text("" if since is None else f"this cell {timedelta(seconds=int(task.get_time() - since))}")


class Bar:
    """The progress bar of a run: a `benchmark.execution.runner.Progress`. An error before the first cell erases it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), _CellTime(), console=console, transient=False,
        )  # fmt: skip
        self._planned = False
        self._task = self._progress.add_task("loading the cases", total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        if kind is not None and not self._planned:
            self._progress.live.transient = True
            self._progress.live.stop()
            return
        self._progress.stop()

    def plan(self, cells: int, finished: int) -> None:
        self._planned = True
        if finished:
            self._console.print(f"{finished} of {cells} cells are finished already and are kept")
        self._progress.update(self._task, total=cells, completed=finished, description="running")

    def started(self, row: str, case: str) -> None:
        self._progress.update(self._task, description=f"{row} on {case}", since=self._progress.get_time())

    def finished(self, row: str, case: str, status: str, message: str) -> None:
        if message or status != "ok":
            self.notice(f"{row} on {case}: {message}" if status == "ok" else f"{row} on {case}: {status}: {message}")
        self._progress.update(self._task, advance=1, description="finished", since=None)

    def notice(self, line: str) -> None:
        self._console.print(line, style="yellow", markup=False, soft_wrap=True)


class TrainingBar(base.Progress):
    """The progress of a training: a bar on a terminal, lines elsewhere, curves and pictures in files.

    Args:
        folder: gets pictures/, one picture per validation, and curves/ where TensorBoard is installed.
        minutes: time after which training pauses, or None.
        draw: writes the picture of a validation case, given the preview, a title and a file.
    """

    def __init__(
        self, console: Console, folder: Path, minutes: float | None, draw: Callable[[base.Preview, str, Path], None]
    ) -> None:
        self._console, self._folder, self._draw = console, folder, draw
        self._deadline = None if minutes is None else time.monotonic() + 60 * minutes
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[losses]}"),
            console=console, disable=not console.is_terminal,
        )  # fmt: skip
        self._tasks: dict[str, Any] = {}
        self._curves: dict[str, Any] = {}

    def __enter__(self) -> TrainingBar:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()
        for writer in self._curves.values():
            writer.close()

    def __call__(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def step(self, run: str, done: int, total: int, losses: Mapping[str, float]) -> None:
        shown = " ".join(f"{name} {value:.3f}" for name, value in losses.items())
        if run not in self._tasks:
            self._tasks[run] = self._bar.add_task(run, total=total, completed=done - 1, losses=shown)
        self._bar.update(self._tasks[run], total=total, completed=done, losses=shown)
        self._curve(run, "loss", losses, done)

    def validated(self, run: str, done: int, values: Mapping[str, float], preview: base.Preview | None) -> None:
        self._curve(run, "validation", values, done)
        if preview is not None:
            self._draw(preview, f"{run}, step {done}", self._folder / "pictures" / run / f"{done:06d}.png")

    def out_of_time(self) -> bool:
        return self._deadline is not None and time.monotonic() >= self._deadline

    def _curve(self, run: str, group: str, values: Mapping[str, float], done: int) -> None:
        if importlib.util.find_spec("tensorboard") is None:
            return
        if run not in self._curves:
            from torch.utils.tensorboard import SummaryWriter

            # A process that is killed may have logged steps after its last checkpoint: purge_step drops them.
            self._curves[run] = SummaryWriter(str(self._folder / "curves" / run), purge_step=done)
        for name, value in values.items():
            self._curves[run].add_scalar(f"{group}/{name}", value, done)
