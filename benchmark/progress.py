"""How a run shows itself in a terminal: a bar, the cell in hand, and a line for every cell that has no result."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Bar:
    """A rich progress bar that a runner reports to."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), console=console, transient=False,
        )  # fmt: skip
        self._task = self._progress.add_task("reading the cases", total=None)

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def plan(self, cells: int, finished: int) -> None:
        if finished:
            self._console.print(f"{finished} of {cells} cells are there already and are kept")
        self._progress.update(self._task, total=cells, completed=finished, description="running")

    def cell(self, row: str, case: str) -> None:
        self._progress.update(self._task, description=f"{row} on {case}")

    def done(self, row: str, case: str, status: str, message: str) -> None:
        if status != "ok":
            self._console.print(f"{row} on {case}: {status}: {message}", style="yellow", markup=False)
        self._progress.update(self._task, advance=1, description="finished")
