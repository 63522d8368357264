"""The quality picture of `register`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from support.synthetic import blocks_case

from benchmark.cli.register import Slices
from benchmark.results import pictures
from benchmark.results.scans import Scans
from methods.base import Registration
from reports.figures.quality import quality, write_quality


@pytest.fixture
def slices() -> Slices:
    case = blocks_case("p1")
    assert case.pair.moving.labels is not None
    nothing = Registration(np.zeros((*case.pair.grid.shape, 3), np.float32))
    cell = pictures.of_cell(case, case.pair.moving.labels, nothing, with_field=False)
    return Slices(pictures.of_case(case), cell, Scans())


def test_it_shows_both_planes_before_and_after(slices: Slices) -> None:
    figure = quality(slices, "pc")
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["moving CT", "fixed MR, before", "fixed MR, pc", "", "", ""]


def test_the_titles_name_the_modalities(slices: Slices) -> None:
    figure = quality(replace(slices, scans=Scans("CBCT", "MR")), "pc")
    assert [axes.get_title() for axes in figure.axes][:3] == ["moving MR", "fixed CBCT, before", "fixed CBCT, pc"]


def test_without_fixed_labels_no_errors_are_named(slices: Slices, tmp_path: Path) -> None:
    pair = {name: a for name, a in slices.pair.items() if not name.startswith("fixed_labels")}
    assert "missing" in quality(slices, "pc")._supxlabel.get_text()
    assert "missing" not in quality(replace(slices, pair=pair), "pc")._supxlabel.get_text()
    assert write_quality(tmp_path / "quality.png", slices, "pc").stat().st_size > 10_000
