"""Pictures of a training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from support.previews import preview

from methods.base import Preview
from reports.figures.training import draw_preview


def test_a_preview_is_drawn_with_and_without_labels(tmp_path: Path) -> None:
    empty = np.zeros((20, 30))
    draw_preview(preview(), "pc, step 3", tmp_path / "a" / "b.png")
    draw_preview(Preview(empty, empty, empty, empty), "trunk, step 0", tmp_path / "a" / "c.png")
    assert (tmp_path / "a" / "b.png").stat().st_size > (tmp_path / "a" / "c.png").stat().st_size > 1000
