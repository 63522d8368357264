"""Progress on a terminal and in a file."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console
from support.previews import preview

from benchmark.cli.progress import Bar, TrainingBar, step
from reports.figures.training import draw_preview


def test_a_run_shows_kept_cells_and_failures() -> None:
    console = Console(file=io.StringIO(), width=120)
    with Bar(console) as bar:
        bar.plan(3, 1)
        bar.started("initial@cpu", "one")
        bar.finished("initial@cpu", "one", "ok", "")
        bar.finished("mine@cpu", "one", "failed", "no [bold]markup[/bold]")
    text = console.file.getvalue()
    assert "1 of 3 cells are finished already and are kept" in text
    assert "mine@cpu on one: failed: no [bold]markup[/bold]" in text and "initial@cpu on one: ok" not in text


@pytest.mark.parametrize("terminal", [True, False])
def test_a_terminal_shows_losses_and_a_pipe_only_lines(terminal: bool, tmp_path: Path) -> None:
    console = Console(force_terminal=terminal, width=140, record=True, file=(tmp_path / "out").open("w"))
    with TrainingBar(console, tmp_path, None, draw_preview) as bar:
        bar("a line")
        bar.step("pc", 1, 2, {"similarity": 0.125, "pc": 0.5})
        bar.validated("pc", 1, {"dsc": 0.7}, preview())
        bar.step("pc", 2, 2, {"similarity": 0.1, "pc": 0.5})
        assert not bar.out_of_time()
    text = console.export_text()
    assert "a line" in text and ("similarity 0.1" in text) == terminal
    assert (tmp_path / "pictures" / "pc" / "000001.png").is_file()


def test_curves_are_written_for_tensorboard(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    with TrainingBar(Console(quiet=True), tmp_path, None, draw_preview) as bar:
        for done in (1, 2):
            bar.step("pc", done, 2, {"pc": done / 4})
    events = accumulator.EventAccumulator(str(tmp_path / "curves" / "pc"))
    events.Reload()
    assert [(e.step, e.value) for e in events.Scalars("loss/pc")] == [(1, 0.25), (2, 0.5)]


def test_a_step_is_a_line_where_there_is_no_terminal() -> None:
    screen = io.StringIO()
    with step(Console(file=screen), "Reading [the] files"):
        assert screen.getvalue() == "Reading [the] files ...\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_an_error_before_the_first_cell_leaves_no_bar(terminal: bool) -> None:
    screen = io.StringIO()
    with pytest.raises(ValueError, match="wrong"), Bar(Console(file=screen, width=120, force_terminal=terminal)):
        raise ValueError("wrong")
    shown = screen.getvalue()
    # On a terminal the last control code erases the line.
    assert shown.rstrip().endswith("\x1b[1A\x1b[2K") if terminal else shown == ""


def test_the_time_of_the_cell_is_shown_and_a_note_is_no_status() -> None:
    console = Console(file=io.StringIO(), width=120)
    with Bar(console) as bar:
        bar.plan(2, 0)
        bar.started("initial@cpu", "one")
        bar.finished("initial@cpu", "one", "ok", "time not counted: other work used 1.0 processors")
        bar.started("staring@cpu", "one")
    text = console.file.getvalue()
    assert "initial@cpu on one: time not counted" in text and "this cell 0:00:00" in text
