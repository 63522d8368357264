"""The quality picture of `register`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.synthetic import blocks_case

from benchmark.results import pictures
from methods.base import Registration
from reports.figures.quality import quality, write_quality


@pytest.fixture
def arrays() -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    case = blocks_case("p1")
    assert case.pair.moving.labels is not None
    nothing = Registration(np.zeros((*case.pair.grid.shape, 3), np.float32))
    return pictures.of_case(case), pictures.of_cell(case, case.pair.moving.labels, nothing, with_field=False)


def test_it_shows_both_planes_before_and_after(arrays: tuple[dict, dict]) -> None:
    figure = quality(*arrays, "pc")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["moving CT", "fixed MR, before", "fixed MR, pc", "", "", ""]


def test_without_fixed_labels_no_errors_are_named(arrays: tuple[dict, dict], tmp_path: Path) -> None:
    pair = {name: a for name, a in arrays[0].items() if not name.startswith("fixed_labels")}
    assert "missing" in quality(*arrays, "pc")._supxlabel.get_text()
    assert "missing" not in quality(pair, arrays[1], "pc")._supxlabel.get_text()
    assert write_quality(tmp_path / "quality.png", pair, arrays[1], "pc").stat().st_size > 10_000
