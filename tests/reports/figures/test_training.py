"""Pictures of a training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from support.previews import preview

from methods.base import Preview
from reports.figures.training import draw_preview


def test_a_preview_is_drawn_with_and_without_labels(tmp_path: Path) -> None:
    empty = np.zeros((20, 30))
    draw_preview(preview(), "pc, step 3", tmp_path / "a" / "b.png")
    draw_preview(Preview(empty, empty, empty, empty), "trunk, step 0", tmp_path / "a" / "c.png")
    assert (tmp_path / "a" / "b.png").stat().st_size > (tmp_path / "a" / "c.png").stat().st_size > 1000


def test_a_preview_names_the_modalities(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    titles: list[str] = []
    saved = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda figure, *a, **b: (
        titles.extend(axes.get_title() for axes in figure.axes), saved(figure, *a, **b)
    ))  # fmt: skip
    draw_preview(replace(preview(), fixed_modality="ct", moving_modality="cbct"), "pc, step 3", tmp_path / "b.png")
    assert titles == ["fixed CT", "warped CBCT"]
